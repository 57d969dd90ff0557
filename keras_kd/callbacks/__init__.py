"""Callbacks: what changes while training."""

from keras_kd.callbacks.temperature_annealing import (
    TemperatureAnnealing as TemperatureAnnealing,
)
from keras_kd.callbacks.weight_annealing import (
    WeightAnnealing as WeightAnnealing,
)
