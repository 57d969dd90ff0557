"""Schedules: curves that a temperature or a weight follows over steps."""

from keras_kd._src.schedules import Annealing

__all__ = [
    "Annealing",
]


def __dir__():
    return __all__
