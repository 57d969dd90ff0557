"""Diagnosis: the report that `Distiller.diagnose` returns."""

from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.diagnosis.report import Diagnosis

__all__ = ["Diagnosis", "Finding"]


def __dir__():
    return __all__
