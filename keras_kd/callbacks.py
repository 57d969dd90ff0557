"""Callbacks: what changes while training."""

from keras_kd._src.callbacks.temperature_annealing import TemperatureAnnealing
from keras_kd._src.callbacks.weight_annealing import WeightAnnealing

__all__ = [
    "TemperatureAnnealing",
    "WeightAnnealing",
]


def __dir__():
    return __all__
