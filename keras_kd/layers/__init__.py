"""Adapters: layers that join a student's view to a teacher's."""

from keras_kd.layers.attention_adapter import (
    AttentionAdapter as AttentionAdapter,
)
from keras_kd.layers.feature_adapter import FeatureAdapter as FeatureAdapter
from keras_kd.layers.masked_generation import (
    MaskedGeneration as MaskedGeneration,
)
from keras_kd.layers.memory_bank import MemoryBank as MemoryBank
from keras_kd.layers.paraphraser import Paraphraser as Paraphraser
from keras_kd.layers.paraphraser import Translator as Translator
from keras_kd.layers.prediction_bank import PredictionBank as PredictionBank
from keras_kd.layers.review_fusion import ReviewFusion as ReviewFusion
from keras_kd.layers.variational_regressor import (
    VariationalRegressor as VariationalRegressor,
)
