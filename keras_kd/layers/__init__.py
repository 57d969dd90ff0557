"""Adapters: layers that join a student's view to a teacher's."""

from keras_kd.layers.attention_adapter import (
    AttentionAdapter as AttentionAdapter,
)
from keras_kd.layers.feature_adapter import FeatureAdapter as FeatureAdapter
