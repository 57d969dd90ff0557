"""Quantization-aware training, and distillation with it (QAT, QAD)."""

from keras_kd._src.quantization.quantization_aware_model import (
    QuantizationAwareModel,
)

__all__ = ["QuantizationAwareModel"]


def __dir__():
    return __all__
