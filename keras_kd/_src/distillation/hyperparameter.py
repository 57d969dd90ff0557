"""Hyperparameter: a number that may change during training."""

import math

import keras
from keras.optimizers.schedules import LearningRateSchedule


class Hyperparameter(keras.layers.Layer):
    """A temperature or a weight, held as a variable of the training state.

    A Python number becomes a constant of a compiled step. A variable is read
    in each step, so it can be changed (by a callback, by hand, or by a
    schedule inside the step) without compiling again, and it is saved and
    resumed with the rest.

    Args:
        value: a number, or a `keras.optimizers.schedules.LearningRateSchedule`
            over training steps.
        name: its name in logs and errors.
        positive: whether 0 is an error, too, as for a temperature.

    Raises:
        ValueError: `value` is negative, NaN, infinite, or not a number.

    Example:
    >>> temperature = Hyperparameter(4.0, "temperature", positive=True)
    >>> temperature.assign(2.0)
    >>> temperature.number
    2.0
    """

    def __init__(self, value, name, *, positive=False):
        super().__init__(name=name, trainable=False, dtype="float32")
        self.positive = positive
        scheduled = isinstance(value, LearningRateSchedule)
        self.schedule = value if scheduled else None
        self.moves = scheduled
        self.start = self._checked(float(value(0)) if scheduled else value)
        self.variable = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.start),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )
        self.built = True

    @property
    def number(self):
        """The present value as a Python float."""
        # Through str: float32's 0.9 becomes 0.9, not 0.8999999761581421.
        return float(str(keras.ops.convert_to_numpy(self.variable)))

    @property
    def text(self):
        """The present value, and the schedule if there is one, as text."""
        if self.schedule is None:
            return f"{self.number:g}"
        return f"{self.number:g} (moved by {type(self.schedule).__name__})"

    def assign(self, value):
        """Sets the value, outside of a compiled step."""
        self.variable.assign(self._checked(value))

    def advance(self, step):
        """Sets the value of the schedule, if any; for use inside a step."""
        if self.schedule is not None:
            self.variable.assign(self.schedule(step))

    def config(self):
        """The constructor's `value` that gives this hyperparameter again."""
        return self.number if self.schedule is None else self.schedule

    def _checked(self, value):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        low = number <= 0 if self.positive else number < 0
        if low or not math.isfinite(number):
            kind = "positive" if self.positive else "non-negative"
            raise ValueError(
                f"Argument `{self.name}` must be a finite {kind} number or a "
                "`keras.optimizers.schedules.LearningRateSchedule`. Received: "
                f"{self.name}={value!r} (of type {type(value).__name__})."
            )
        return number
