"""The base class of losses with a temperature."""

from keras import ops

from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.positions import expand_to


class TemperedLoss(DistillationLoss):
    """Base class of losses with a temperature that may change in training.

    A subclass gives the default, and reads `self.temperature` in `call`. If its
    `call` has the keyword-only argument `temperature=None`, which rules set to
    one temperature per sample, it reads `self.temperature_or(temperature)`. For
    losses between class logits, see `LogitDivergence`.

    Args:
        temperature: a positive number, or a `LearningRateSchedule` over
            training steps. Like an optimizer's `learning_rate`, it is a
            variable that can be assigned later.
        kwargs: as in `DistillationLoss`.

    Raises:
        ValueError: `temperature` is not positive.

    Example:
    >>> from keras import ops
    >>> class ScaledSum(TemperedLoss):
    ...     def call(self, teacher_features, student_features):
    ...         return ops.sum(student_features, axis=-1) / self.temperature
    >>> loss = ScaledSum(4.0)
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

    def temperature_or(self, temperature):
        """The given temperatures, one per sample; or for None its own."""
        if temperature is None:
            return ops.convert_to_tensor(self.temperature)
        return temperature

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self._temperature.config(),
        }


def broadcast_to_logits(temperature, logits):
    """A temperature (or one per sample or position), to divide logits by."""
    if isinstance(temperature, (int, float)):
        return temperature
    temperature = ops.cast(ops.convert_to_tensor(temperature), logits.dtype)
    if len(temperature.shape) == 0:
        return temperature
    return expand_to(temperature, len(logits.shape))


def squeeze_temperature(temperature):
    """The result of `broadcast_to_logits`, in the shape of a loss's values."""
    if isinstance(temperature, (int, float)) or len(temperature.shape) == 0:
        return temperature
    return temperature[..., 0]
