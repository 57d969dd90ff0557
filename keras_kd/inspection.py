"""Looks at the views from inside of the step, where nothing can be raised."""

import keras
from keras import ops


class Inspection(keras.layers.Layer):
    """Counts batches whose views can't be what the transfer takes them for.

    A compiled step can neither raise nor print on every backend, so it counts
    into a variable, which is read between steps.

        counts = [batches with teacher values that are not finite,
                  batches in which the teacher's logits look like
                  probabilities, the same for the student's]

    Example:
    >>> inspection = Inspection()
    >>> probabilities = [[0.2, 0.8], [0.5, 0.5]]
    >>> inspection.update([ops.array(probabilities)], [ops.zeros((2, 2))], True)
    >>> [int(count) for count in inspection.read()]
    [0, 1, 0]
    """

    def __init__(self):
        super().__init__(name="inspection", trainable=False, dtype="float32")
        self.counts = self.add_weight(
            shape=(3,),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="sum",
            name="counts",
        )
        self.built = True

    def update(self, teacher_views, student_views, look_for_probabilities):
        broken = _any([_not_finite(view) for view in teacher_views])
        none = ops.zeros_like(broken)
        found = [none, none]
        if look_for_probabilities:
            found = [
                _any([_like_probabilities(view) for view in views])
                for views in (teacher_views, student_views)
            ]
        self.counts.assign_add(ops.stack([broken, *found]))

    def reset(self):
        self.counts.assign(ops.zeros((3,)))

    def read(self):
        return ops.convert_to_numpy(self.counts.value)


def _any(flags):
    return flags[0] if len(flags) == 1 else ops.max(ops.stack(flags))


def _not_finite(view):
    # A sum is finite only if all its terms are: one pass, no copy.
    total = ops.sum(ops.cast(view, "float32"))
    return 1.0 - ops.cast(ops.isfinite(total), "float32")


def _like_probabilities(view):
    view = ops.cast(view, "float32")
    sums = ops.sum(view, axis=-1)
    rows_sum_to_one = ops.all(ops.abs(sums - 1.0) < 1e-2)
    in_range = ops.all(view >= 0.0)
    return ops.cast(ops.logical_and(rows_sum_to_one, in_range), "float32")
