"""A loss, features to try it on, and what is true of it."""

import json
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.testing.gradients import BACKEND
from keras_kd._src.testing.gradients import compiled
from keras_kd._src.testing.gradients import value_and_gradient


class LossCase(NamedTuple):
    """A loss, features to try it on, and what is true of it.

    What `check_loss` takes as arguments, as a value: to run the checks as
    tests of their own (`checks_of`), or to try changed cases
    (`case._replace(...)`, as with any named tuple).

    Args:
        make: makes the loss; takes `reduction` and `name` (a class does).
        teacher: array of shape `(samples, ...)`, six samples or more; a list
            of arrays for a loss that is `joint`.
        student: likewise.
        labels: array of shape `(samples,)`, for a loss that needs them.
        reference: the loss once more, in NumPy: takes both sides in float64
            (and `labels=` if there are any), returns values to be averaged.
        independent: whether the value of a sample depends on no other sample.
        identical: makes of the student's features the teacher's at which the
            loss is least; None if there are none.
        minimum: the loss there.
        exact_minimum: how far value and gradient may be off there, eagerly
            and in absolute numbers; None for bounds relative to the loss.
        smooth: whether it is flat there; an absolute value has a corner.
        invariances: functions of features that leave the loss as it is,
            whichever side they are applied to.
        any_order: whether the order of the samples is of no importance.
        mean_over_samples: whether a sample of weight 2 is that sample twice.
        largest: size of the largest numbers that it must stand in float32.
        tolerance: relative to the largest expected number.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> logits = np.random.default_rng(0).normal(size=(2, 6, 3))
    >>> case = LossCase(kd.losses.LogitMatching, *logits.astype("float32"))
    >>> case.value(case.make()) > 0
    True
    """

    make: Callable
    teacher: Any
    student: Any
    labels: Any = None
    reference: Callable | None = None
    independent: bool = False
    identical: Callable | None = lambda student: student
    minimum: float = 0.0
    exact_minimum: float | None = None
    smooth: bool = True
    invariances: tuple = ()
    any_order: bool = True
    mean_over_samples: bool = True
    largest: float = 1e4
    tolerance: float = 1e-5

    def value_and_gradient(self, loss, weights=None, *, compiled_as=None):
        """The loss and its gradient, compiled as in "fit", or "nothing"."""
        given = weights is not None, self.labels is not None
        function = _function_of(loss, *given)
        arguments = [self.student, self.teacher, weights, self.labels]
        arguments = keras.tree.map_structure(
            ops.convert_to_tensor, [a for a in arguments if a is not None]
        )
        # JAX compiles in any case: not twice, which is what takes the time.
        if compiled_as == "fit" and BACKEND != "jax":
            function = compiled(function, *arguments)
        return value_and_gradient(
            function, *arguments, eagerly=compiled_as == "nothing"
        )

    def value(self, loss, weights=None):
        """The loss as a Python number."""
        return float(self.value_and_gradient(loss, weights)[0])

    def eager_value(self, loss, weights=None):
        """The loss as a Python number, not compiled on any backend."""
        context = {} if self.labels is None else {"labels": self.labels}
        value = loss(self.teacher, self.student, weights, **context)
        return float(ops.convert_to_numpy(value))

    def expected(self, student=None):
        """The reference's values, in float64."""
        student = self.student if student is None else student
        teacher, student = keras.tree.map_structure(
            lambda x: np.asarray(x, "float64"), (self.teacher, student)
        )
        context = {} if self.labels is None else {"labels": self.labels}
        return self.reference(teacher, student, **context)

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
        """The case of some of the samples only."""
        return self.change(lambda x: x[samples], "teacher", "student", "labels")

    @property
    def samples(self):
        """How many samples there are."""
        return len(keras.tree.flatten(self.student)[0])


_FUNCTIONS: dict = {}


def _function_of(loss, weighted, labeled):
    """The loss as a function of tensors; the same one for equal losses."""
    # Without the name: each loss gets one of its own, equal ones are equal.
    config = {**loss.get_config(), "name": None}
    config = json.dumps(keras.saving.serialize_keras_object(config))
    key = type(loss), config, weighted, labeled

    def function(student, teacher, *rest):
        context = {"labels": rest[-1]} if labeled else {}
        return loss(teacher, student, rest[0] if weighted else None, **context)

    return _FUNCTIONS.setdefault(key, function)
