"""Counts suspicious batches inside a training step.

A compiled step can't raise errors or print on every backend, so it adds to
variables, which are read between steps.
"""

import keras
from keras import ops

from keras_kd._src.backend import all_finite
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.losses.positions import broadcast_weights
from keras_kd._src.losses.probabilities import like_probabilities
from keras_kd._src.specs import same_shape

# The part of each batch that is checked, to keep it cheap: this many samples,
# and of each this many positions (tokens, or pixels along each axis).
SAMPLES = 64
POSITIONS = 16
# Logits of an untrained model may all be between 0 and 1, but then those of a
# class are close together.
LEAST_SPREAD = 0.5


class _Counts(keras.layers.Layer):
    """A layer of counters, which are not saved."""

    def __init__(self, name):
        super().__init__(name=name, trainable=False, dtype="float32")
        self.built = True

    def _counts(self, name, shape):
        # Like the variables of Keras' metrics: aggregated when they are
        # written, they would be counted once for each replica.
        with keras.name_scope(self.name):
            return keras.Variable(
                "zeros",
                shape=shape,
                dtype="float32",
                trainable=False,
                autocast=False,
                aggregation="sum",
                synchronization="on_read",
                name=name,
            )

    def reset(self):
        """Sets all counts to 0, outside of a step."""
        for count in self.weights:
            count.assign(ops.zeros(count.shape))

    def save_own_variables(self, store):
        """Saves nothing: counts are read after each epoch, and are no state."""

    def load_own_variables(self, store):
        """Loads nothing, as nothing was saved."""


class FeatureInspection(_Counts):
    """Counts batches whose features a transfer can't use, or misreads."""

    def __init__(self):
        super().__init__(name="inspection")
        self.not_finite = self._counts("not_finite", ())
        # Probabilities where logits are expected, or the other way round.
        self.mistaken = self._counts("mistaken", (2,))
        self.different_weights = self._counts("different_weights", ())

    def update(self, teacher_features, student_features, from_logits=None):
        """Checks one batch for values that are not finite.

        With `from_logits`, it also checks whether they are logits.
        """
        self.not_finite.assign_add(_any(map(_not_finite, teacher_features)))
        if from_logits is not None:
            self.mistaken.assign_add(
                mistaken_kinds(teacher_features, student_features, from_logits)
            )

    def compare_weights(self, weight, others):
        """Counts a batch whose outputs have different sample weights."""
        differ = [_differ(weight, other) for other in others]
        if differ:
            self.different_weights.assign_add(_any(differ))

    def weights_differ(self):
        """Whether any batch had such weights."""
        return bool(ops.convert_to_numpy(self.different_weights))

    def read(self):
        """Batches not finite, mistaken of the teacher, and of the student."""
        counts = ops.convert_to_numpy(self.mistaken)
        not_finite = ops.convert_to_numpy(self.not_finite)
        return [int(count) for count in (not_finite, *counts)]


class OutputInspection(_Counts):
    """Counts the kinds of outputs in the first epoch of a run.

    Args:
        outputs: how many outputs the student has.
    """

    def __init__(self, outputs):
        # Not "inspection": on PyTorch, Keras treats two variables of the same
        # path as one.
        super().__init__(name="output_inspection")
        self.probable = self._counts("probable", (outputs,))
        self.outside = self._counts("outside", (outputs,))
        # Samples with a label, how many of them the teacher predicts
        # correctly, and how many guessing would.
        self.labeled = self._counts("labeled", ())
        self.correct = self._counts("correct", ())
        self.by_chance = self._counts("by_chance", ())

    def update(self, labels, teacher_output, student_output, sample_weight):
        """Checks one batch."""
        outputs = keras.tree.flatten(student_output)
        probable, outside = kinds_of_outputs(outputs)
        self.probable.assign_add(probable)
        self.outside.assign_add(outside)
        if _are_classes(labels, teacher_output):
            labels = ops.cast(labels, "int32")
            classes = teacher_output.shape[-1]
            counts = counted(labels, classes, outputs, sample_weight)
            counts, labels, teacher_output = (
                _some(values, len(labels.shape))
                for values in (counts, labels, teacher_output)
            )
            correct = ops.argmax(teacher_output, axis=-1) == labels
            labeled = ops.sum(counts)
            self.labeled.assign_add(labeled)
            self.correct.assign_add(ops.sum(ops.where(correct, counts, 0.0)))
            self.by_chance.assign_add(labeled / classes)

    def kinds(self):
        """For each output, the batches that were probable, and outside."""
        return _numbers(self.probable), _numbers(self.outside)

    def accuracy(self):
        """The labels counted, those predicted correctly, share by chance."""
        labeled, correct, by_chance = (
            float(_numbers(count))
            for count in (self.labeled, self.correct, self.by_chance)
        )
        return labeled, correct, by_chance / max(labeled, 1.0)


def _numbers(count):
    return ops.convert_to_numpy(count)


def mistaken_kinds(teacher_features, student_features, from_logits):
    """Whether each side's features are not what the flags say.

    Args:
        teacher_features: list of tensors.
        student_features: list of tensors.
        from_logits: both sides' flags, None where not specified.

    Returns:
        Tensor of 0 or 1, shape `(2,)`: the teacher's and the student's.
    """
    sides = zip((teacher_features, student_features), from_logits)
    found = [
        _any(map(_outside if flag is False else _probable, each))
        for each, flag in sides
    ]
    return ops.stack(found)


def kinds_of_outputs(outputs):
    """Which outputs look like probabilities, and which can't be any: 0 or 1."""
    probable = [_probable(output) for output in outputs]
    outside = [_outside(output) for output in outputs]
    return ops.stack(probable), ops.stack(outside)


def class_labels(labels, output):
    """The labels of an output of classes as integers; None if there are none.

    One-hot labels become integers, and -1 where a row is not one-hot.
    """
    if _are_classes(labels, output):
        return ops.cast(labels, "int32")
    if not hasattr(labels, "shape") or not hasattr(output, "shape"):
        return None
    if len(labels.shape) == len(output.shape) and output.shape[-1] > 1:
        if labels.shape[-1] == 1:
            return class_labels(ops.squeeze(labels, axis=-1), output)
        if same_shape(labels.shape, output.shape):
            hot = ops.cast(labels, "float32")
            single = ops.logical_and(
                ops.sum(hot, axis=-1) == 1.0, ops.max(hot, axis=-1) == 1.0
            )
            return ops.where(single, ops.argmax(hot, axis=-1), -1)
    return None


def _are_classes(labels, output):
    if not hasattr(labels, "shape") or not hasattr(output, "shape"):
        return False
    dtype = keras.backend.standardize_dtype(labels.dtype)
    same = same_shape(labels.shape, output.shape[:-1])
    return same and "int" in dtype and output.shape[-1] > 1


def counted(labels, classes, outputs, sample_weight):
    """1.0 for each label that is a class and counts in the loss, else 0.0."""
    known = ops.logical_and(labels >= 0, labels < classes)
    mask = get_keras_mask(outputs[0]) if len(outputs) == 1 else None
    for weight in (sample_weight, mask):
        if weight is not None:
            weight = ops.cast(weight, "float32")
            weight = broadcast_weights(weight, ops.shape(labels))
            known = ops.logical_and(known, weight > 0.0)
    return ops.cast(known, "float32")


def _any(flags):
    flags = list(flags)
    return flags[0] if len(flags) == 1 else ops.max(ops.stack(flags))


def _differ(weight, other):
    if not same_shape(weight.shape, other.shape):
        return 1.0
    return ops.cast(ops.any(ops.not_equal(weight, other)), "float32")


def _not_finite(features):
    return 1.0 - ops.cast(all_finite(features), "float32")


def _some(values, axes):
    """The part that is checked of values with these axes of positions."""
    if axes < 2:
        return values[:SAMPLES]
    places = [slice(POSITIONS)]
    for size in values.shape[1:axes]:
        step = max(1, (size or 1) // POSITIONS)  # Evenly spread, where known.
        places.append(slice(0, POSITIONS * step, step))
    return values[tuple(places)]


def _probable(output):
    """Whether values are those of a softmax, or of sigmoids."""
    output = ops.cast(_some(output, len(output.shape) - 1), "float32")
    within = ops.logical_and(output > 0.0, output <= 1.0)
    spread = ops.max(ops.max(output, axis=0) - ops.min(output, axis=0))
    found = ops.logical_or(
        ops.all(like_probabilities(output)),
        ops.logical_and(ops.all(within), spread > LEAST_SPREAD),
    )
    return ops.cast(found, "float32")


def _outside(output):
    output = ops.cast(_some(output, len(output.shape) - 1), "float32")
    found = ops.logical_or(ops.min(output) < 0.0, ops.max(output) > 1.0)
    return ops.cast(found, "float32")
