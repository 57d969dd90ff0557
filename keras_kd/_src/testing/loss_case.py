"""A loss, views to try it on, and what is true of it."""

import json
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd._src.testing.gradients import compiled
from keras_kd._src.testing.gradients import value_and_gradient


class LossCase(NamedTuple):
    """A loss, views to try it on, and what is true of it.

    Args:
        make: makes the loss; takes `reduction` and `name` (a class does).
        teacher: array of shape `(samples, ...)`, six samples or more; a list
            of arrays for a loss that is `joint`.
        student: likewise.
        labels: array of shape `(samples,)`, for a loss that needs them.
        reference: the loss once more, in NumPy: takes the views in float64
            (and `labels=` if there are any), returns values to be averaged.
        identical: makes of the student's view the teacher's at which the loss
            is least; None if there is none.
        minimum: the loss there.
        smooth: whether it is flat there; an absolute value has a corner.
        invariances: functions of a view that leave the loss as it is,
            whichever side they are applied to.
        any_order: whether the order of the samples is of no importance.
        mean_over_samples: whether a sample of weight 2 is that sample twice.
        largest: size of the largest numbers that it must stand in float32.
        tolerance: relative to the largest expected number.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> views = np.random.default_rng(0).normal(size=(2, 6, 3))
    >>> case = LossCase(kd.losses.LogitMatching, *views.astype("float32"))
    >>> case.value(case.make()) > 0
    True
    """

    make: Callable
    teacher: Any
    student: Any
    labels: Any = None
    reference: Callable | None = None
    identical: Callable | None = lambda student: student
    minimum: float = 0.0
    smooth: bool = True
    invariances: tuple = ()
    any_order: bool = True
    mean_over_samples: bool = True
    largest: float = 1e4
    tolerance: float = 1e-5

    def value_and_gradient(self, loss, weights=None, *, compiled_as=None):
        given = weights is not None, self.labels is not None
        function = _function_of(loss, *given)
        arguments = [self.student, self.teacher, weights, self.labels]
        arguments = keras.tree.map_structure(
            ops.convert_to_tensor, [a for a in arguments if a is not None]
        )
        if compiled_as == "fit":
            function = compiled(function, *arguments)
        return value_and_gradient(
            function, *arguments, eagerly=compiled_as == "nothing"
        )

    def value(self, loss, weights=None):
        return float(self.value_and_gradient(loss, weights)[0])

    def change(self, function, *sides):
        """The case with a function applied to each array of some sides."""
        return self._replace(
            **{
                side: keras.tree.map_structure(function, getattr(self, side))
                for side in sides
                if getattr(self, side) is not None
            }
        )

    def take(self, samples):
        return self.change(lambda x: x[samples], "teacher", "student", "labels")

    @property
    def samples(self):
        return len(keras.tree.flatten(self.student)[0])


_FUNCTIONS: dict = {}


def _function_of(loss, weighted, labelled):
    """The loss as a function of tensors; the same one for equal losses."""
    # Without the name: each loss gets one of its own, equal ones are equal.
    config = {**loss.get_config(), "name": None}
    config = json.dumps(keras.saving.serialize_keras_object(config))
    key = type(loss), config, weighted, labelled

    def function(student, teacher, *rest):
        context = {"labels": rest[-1]} if labelled else {}
        return loss(teacher, student, rest[0] if weighted else None, **context)

    return _FUNCTIONS.setdefault(key, function)
