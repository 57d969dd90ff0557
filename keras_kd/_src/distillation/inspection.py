"""Looks at the views from inside of the step, where nothing can be raised."""

import keras
from keras import ops


class Inspection(keras.layers.Layer):
    """Counts batches whose views can't be what the transfer takes them for.

    A compiled step can neither raise nor print on every backend, so it counts
    into variables, which are read between steps.

        broken: batches with teacher values that are not finite
        probable: batches in which logits look like probabilities,
            the teacher's and the student's

    Example:
    >>> inspection = Inspection()
    >>> probabilities = [[0.2, 0.8], [0.5, 0.5]]
    >>> inspection.update([ops.array(probabilities)], [ops.zeros((2, 2))], True)
    >>> inspection.read()
    [0, 1, 0]
    """

    def __init__(self):
        super().__init__(name="inspection", trainable=False, dtype="float32")
        self.broken = self._counts("broken", ())
        self.probable = self._counts("probable", (2,))
        self.built = True

    def _counts(self, name, shape):
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="sum",
            name=name,
        )

    def update(
        self, teacher_features, student_features, look_for_probabilities
    ):
        self.broken.assign_add(_any(map(_not_finite, teacher_features)))
        if look_for_probabilities:
            sides = teacher_features, student_features
            found = [_any(map(_like_probabilities, views)) for views in sides]
            self.probable.assign_add(ops.stack(found))

    def reset(self):
        self.broken.assign(ops.zeros(()))
        self.probable.assign(ops.zeros((2,)))

    def read(self):
        """The counts: `(broken, teacher's probable, student's probable)`."""
        broken = ops.convert_to_numpy(self.broken.value)
        probable = ops.convert_to_numpy(self.probable.value)
        return [int(count) for count in (broken, *probable)]

    def save_own_variables(self, store):
        """Saves nothing: counts are read after each epoch, and are no state."""

    def load_own_variables(self, store):
        """Loads nothing, as nothing was saved."""


def _any(flags):
    flags = list(flags)
    return flags[0] if len(flags) == 1 else ops.max(ops.stack(flags))


def _not_finite(view):
    # A sum is finite only if all its terms are: one pass, no copy.
    total = ops.sum(ops.cast(view, "float32"))
    return 1.0 - ops.cast(ops.isfinite(total), "float32")


def _like_probabilities(view):
    # Eight samples tell, and a compiled step looks in every batch.
    view = ops.cast(view[:8], "float32")
    sums = ops.sum(view, axis=-1)
    rows_sum_to_one = ops.all(ops.abs(sums - 1.0) < 1e-2)
    in_range = ops.all(view >= 0.0)
    return ops.cast(ops.logical_and(rows_sum_to_one, in_range), "float32")
