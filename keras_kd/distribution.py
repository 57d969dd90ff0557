"""Several processes that train one student, on PyTorch (`torchrun`)."""

from keras_kd._src.distribution.processes import initialize

__all__ = ["initialize"]


def __dir__():
    return __all__
