"""Annealing: a schedule over training steps, with several curves."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.arguments import received


def _linear(progress, start, end):
    return start + (end - start) * progress


def _cosine(progress, start, end):
    return end + (start - end) * 0.5 * (1.0 + ops.cos(np.pi * progress))


def _exponential(progress, start, end):
    return start * (end / start) ** progress


CURVES = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
}


@keras.saving.register_keras_serializable(package="keras_kd")
class Annealing(keras.optimizers.schedules.LearningRateSchedule):
    """A number that changes from `start` to `end` in `steps` training steps.

    Pass it in place of a temperature or a weight: it is evaluated inside the
    compiled step. Keras' own schedules can be used in the same way.

        progress = min(max(step - offset, 0) / steps, 1)
        linear:      start + (end - start) * progress
        cosine:      end + (start - end) * (1 + cos(pi * progress)) / 2
        exponential: start * (end / start)^progress

    Args:
        start: value at the first step.
        end: value from step `offset + steps` onwards.
        steps: number of training steps from `start` to `end`, positive.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)` written with `keras.ops`; progress goes
            from 0 to 1.
        offset: the step at which the change begins.

    Call arguments:
        step: the training step.

    Returns:
        The value at that step, a float32 scalar.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> temperature = Annealing(8.0, 1.0, steps=100, curve="linear")
    >>> float(temperature(50))
    4.5
    """

    def __init__(self, start, end, *, steps, curve="linear", offset=0):
        number(steps, "steps", above=0)
        if not callable(curve) and curve not in CURVES:
            raise ValueError(
                f"Argument `curve` must be one of {sorted(CURVES)} or a "
                f"function `(progress, start, end)`. {received('curve', curve)}"
            )
        if curve == "exponential" and not (start > 0 and end > 0):
            raise ValueError(
                'An "exponential" curve needs a positive `start` and `end`. '
                f"Received: start={start!r}, end={end!r}. Use a small positive "
                'number instead of 0, or `curve="linear"`.'
            )
        self.start = start
        self.end = end
        self.steps = steps
        self.curve = curve
        self.offset = offset

    def __call__(self, step):
        passed = ops.cast(step, "float32") - self.offset
        progress = ops.clip(passed / self.steps, 0.0, 1.0)
        curve = self.curve if callable(self.curve) else CURVES[self.curve]
        return ops.cast(curve(progress, self.start, self.end), "float32")

    def get_config(self):
        return {
            "start": self.start,
            "end": self.end,
            "steps": self.steps,
            "curve": self.curve,
            "offset": self.offset,
        }

    @classmethod
    def from_config(cls, config):
        curve = keras.saving.deserialize_keras_object(config["curve"])
        return cls(**{**config, "curve": curve})
