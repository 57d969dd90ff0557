"""LossCase: a loss, features to test it on, and its properties."""

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
    """A loss, features to test it on, and its properties.

    The arguments of `check_loss` as one object: to run each check as a separate
    test (`checks_of`), or to test variants (`case._replace(...)`, as with any
    named tuple).

    Args:
        make: the loss's class, or a function that takes `reduction` and `name`
            and returns the loss.
        teacher: array of shape `(samples, ...)`, six samples or more; a list of
            arrays for a `joint` loss.
        student: likewise.
        labels: array of shape `(samples,)`, for a loss that needs them.
        reference: the same loss in NumPy, if there is one: takes both sides in
            float64 (and `labels=` if there are any), returns the values to
            average.
        independent: whether each sample's value is independent of the others.
        identical: function that takes the student's features and returns the
            teacher's at which the loss is minimal; None if there are none.
        minimum: the value of the loss there.
        exact_minimum: absolute tolerance of value and gradient there, not
            compiled; None for a tolerance relative to the loss.
        smooth: whether the gradient is 0 there; that of an absolute value is
            not.
        invariances: functions of features that don't change the loss, whichever
            side they are applied to.
        any_order: whether the loss does not depend on the order of the samples.
        mean_over_samples: whether a sample of weight 2 has the effect of that
            sample twice.
        largest: size of the largest features for which value and gradient must
            be finite in float32.
        tolerance: tolerance relative to the largest expected value.

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
        # JAX compiles in any case; compiling twice would take too long.
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
        """The case with a function applied to each array of some fields."""
        return self._replace(
            **{
                side: keras.tree.map_structure(function, getattr(self, side))
                for side in sides
                if getattr(self, side) is not None
            }
        )

    def take(self, samples):
        """The case with some of the samples only."""
        return self.change(lambda x: x[samples], "teacher", "student", "labels")

    @property
    def samples(self):
        """The number of samples."""
        return len(keras.tree.flatten(self.student)[0])


_FUNCTIONS: dict = {}


def _function_of(loss, weighted, labeled):
    """The loss as a function of tensors; the same one for equal losses."""
    # Without the name, which differs even between equal losses.
    config = {**loss.get_config(), "name": None}
    config = json.dumps(keras.saving.serialize_keras_object(config))
    key = type(loss), config, weighted, labeled

    def function(student, teacher, *rest):
        context = {"labels": rest[-1]} if labeled else {}
        return loss(teacher, student, rest[0] if weighted else None, **context)

    return _FUNCTIONS.setdefault(key, function)
