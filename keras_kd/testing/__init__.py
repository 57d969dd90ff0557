"""Checks that a loss keeps the contract of this library's own."""

from keras_kd.testing.check_loss import check_loss as check_loss
from keras_kd.testing.gradients import assert_close as assert_close
from keras_kd.testing.gradients import compiled as compiled
from keras_kd.testing.gradients import finite_differences as finite_differences
from keras_kd.testing.gradients import value_and_gradient as value_and_gradient
from keras_kd.testing.loss_case import LossCase as LossCase
from keras_kd.testing.loss_checks import checks_of as checks_of
