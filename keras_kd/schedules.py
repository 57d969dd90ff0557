"""Schedules: temperatures and weights that change over training steps."""

from keras_kd._src.schedules import Annealing

__all__ = [
    "Annealing",
]


def __dir__():
    return __all__
