"""Checks that a loss meets the contract of this library's losses."""

from keras_kd._src.testing.gradients import assert_close
from keras_kd._src.testing.gradients import compiled
from keras_kd._src.testing.gradients import finite_differences
from keras_kd._src.testing.gradients import value_and_gradient
from keras_kd._src.testing.loss_case import LossCase
from keras_kd._src.testing.loss_checks import check_loss
from keras_kd._src.testing.loss_checks import checks_of

__all__ = [
    "LossCase",
    "assert_close",
    "check_loss",
    "checks_of",
    "compiled",
    "finite_differences",
    "value_and_gradient",
]


def __dir__():
    return __all__
