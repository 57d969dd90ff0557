"""Layers for transfers: adapters of features, and banks of samples.

An adapter brings a student's features to the teacher's shape; it is trained
with the student, and is not part of it. A bank stores one row per sample of the
data between training steps.
"""

from keras_kd._src.layers.attention_adapter import AttentionAdapter
from keras_kd._src.layers.feature_adapter import FeatureAdapter
from keras_kd._src.layers.masked_generation import MaskedGeneration
from keras_kd._src.layers.memory_bank import MemoryBank
from keras_kd._src.layers.paraphraser import Paraphraser
from keras_kd._src.layers.paraphraser import Translator
from keras_kd._src.layers.prediction_bank import PredictionBank
from keras_kd._src.layers.review_fusion import ReviewFusion
from keras_kd._src.layers.variational_regressor import VariationalRegressor

__all__ = [
    "AttentionAdapter",
    "FeatureAdapter",
    "MaskedGeneration",
    "MemoryBank",
    "Paraphraser",
    "PredictionBank",
    "ReviewFusion",
    "Translator",
    "VariationalRegressor",
]


def __dir__():
    return __all__
