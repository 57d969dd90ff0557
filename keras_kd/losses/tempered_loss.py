"""What the losses with a temperature share."""

from keras_kd.hyperparameter import Hyperparameter
from keras_kd.losses.distillation_loss import DistillationLoss


class TemperedLoss(DistillationLoss):
    """Base class of losses with a temperature that can move while training.

    A subclass gives the default, and reads `self.temperature` in `call`.

    Args:
        temperature: a positive number, or a `LearningRateSchedule` over
            training steps. Like an optimizer's `learning_rate`, it is a
            variable that can be assigned later.
        kwargs: as in `DistillationLoss`.

    Raises:
        ValueError: `temperature` is not positive.

    Example:
    >>> from keras import ops
    >>> class Warmth(TemperedLoss):
    ...     def call(self, teacher_view, student_view):
    ...         return ops.sum(student_view, axis=-1) / self.temperature
    >>> loss = Warmth(4.0)
    >>> loss.temperature = 2.0
    >>> float(loss([[0.0]], [[3.0]]))
    1.5
    """

    def __init__(self, temperature, **kwargs):
        super().__init__(**kwargs)
        self._temperature = Hyperparameter(
            temperature, "temperature", positive=True
        )

    @property
    def temperature(self):
        return self._temperature.variable

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(value)

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self._temperature.config(),
        }
