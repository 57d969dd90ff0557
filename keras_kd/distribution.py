"""Training one student in several PyTorch processes (`torchrun`)."""

from keras_kd._src.distribution.processes import initialize

__all__ = ["initialize"]


def __dir__():
    return __all__
