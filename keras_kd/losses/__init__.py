"""Losses: each compares a teacher view with a student view."""

from keras_kd.losses.attention_transfer import (
    AttentionTransfer as AttentionTransfer,
)
from keras_kd.losses.attention_transfer import attention_map as attention_map
from keras_kd.losses.attention_transfer import (
    attention_transfer as attention_transfer,
)
from keras_kd.losses.binary_soft_targets import (
    BinarySoftTargets as BinarySoftTargets,
)
from keras_kd.losses.binary_soft_targets import (
    binary_soft_targets as binary_soft_targets,
)
from keras_kd.losses.distillation_loss import (
    DistillationLoss as DistillationLoss,
)
from keras_kd.losses.feature_matching import FeatureMatching as FeatureMatching
from keras_kd.losses.feature_matching import (
    feature_matching as feature_matching,
)
from keras_kd.losses.logit_matching import LogitMatching as LogitMatching
from keras_kd.losses.logit_matching import logit_matching as logit_matching
from keras_kd.losses.soft_targets import SoftTargets as SoftTargets
from keras_kd.losses.soft_targets import logits_of as logits_of
from keras_kd.losses.soft_targets import soft_targets as soft_targets
from keras_kd.losses.soft_targets import standardized as standardized
