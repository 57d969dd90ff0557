"""Callbacks that act between the epochs of `fit`: annealing and backups."""

from keras_kd._src.callbacks.annealing import TemperatureAnnealing
from keras_kd._src.callbacks.annealing import WeightAnnealing
from keras_kd._src.callbacks.epoch_backup import EpochBackup

__all__ = [
    "EpochBackup",
    "TemperatureAnnealing",
    "WeightAnnealing",
]


def __dir__():
    return __all__
