"""Metrics: how closely a student follows its teacher."""

from keras_kd._src.metrics import Perplexity
from keras_kd._src.metrics import TeacherAgreement
from keras_kd._src.metrics import TeacherDivergence
from keras_kd._src.metrics import TeacherMetric

__all__ = [
    "Perplexity",
    "TeacherAgreement",
    "TeacherDivergence",
    "TeacherMetric",
]


def __dir__():
    return __all__
