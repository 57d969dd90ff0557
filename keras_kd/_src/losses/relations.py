"""Shared by losses that compare the samples of a batch with each other."""

from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def present_rows(teacher_features, student_features, sample_weight=None):
    """Both sides as rows (batch, dim), zeros at weight 0; and the weights."""
    # Zeros, so that nothing of an absent sample, infinities included, reaches
    # a sum over pairs or a gradient.
    sides = in_full_precision(teacher_features, student_features)
    rows = [ops.reshape(side, (ops.shape(side)[0], -1)) for side in sides]
    if sample_weight is None:
        sample_weight = ops.ones_like(rows[1][:, 0])
    weight = ops.cast(sample_weight, rows[1].dtype)
    present = ops.expand_dims(weight > 0, axis=-1)
    teacher, student = (
        ops.where(present, row, ops.zeros_like(row)) for row in rows
    )
    return teacher, student, weight


def relative_weights(sample_weight, features):
    """Weights with a mean of 1 over the samples that count; ones for None."""
    if sample_weight is None:
        return ops.ones_like(features[:, 0])
    weight = ops.cast(ops.convert_to_tensor(sample_weight), features.dtype)
    present = ops.sum(ops.cast(weight > 0, features.dtype))
    return weight * (present / ops.maximum(ops.sum(weight), 1e-30))


def divide_no_nan(numerator, denominator):
    """The quotient; 0 (with a gradient of 0) where the denominator is 0."""
    known = denominator > 0
    denominator = ops.where(known, denominator, ops.ones_like(denominator))
    return numerator * ops.cast(known, numerator.dtype) / denominator


def mean_over_partners(relations, weight):
    """The weighted mean of relations (..., batch) over the last axis."""
    # The weighted mean of these over the samples is then the mean over pairs.
    normalized_weights = divide_no_nan(weight, ops.sum(weight))
    return ops.sum(relations * normalized_weights, axis=-1)


def pairwise_differences(rows):
    """`[i, j] = rows[j] - rows[i]`, shape (batch, batch, dim)."""
    # Not from a Gram matrix, whose squares cancel where samples are close.
    return ops.expand_dims(rows, axis=0) - ops.expand_dims(rows, axis=1)


def unit_vectors(vectors):
    """The vectors scaled to length 1; zeros stay, and get no gradient."""
    # Divided by the largest entry first: squares of small ones vanish.
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True)
    largest = ops.stop_gradient(ops.where(largest > 1e-12, largest, 0.0))
    vectors = divide_no_nan(vectors, largest)
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    # 1 or more now, except for zeros.
    return vectors / ops.sqrt(ops.maximum(squares, 0.5))


def check_samples(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both sides have the same samples."""
    batches = {shape[0] for shape in (teacher_shape, student_shape) if shape}
    ranks = len(teacher_shape), len(student_shape)
    if min(ranks) < 2 or len(batches - {None}) > 1:
        raise ValueError(
            f"{type(loss).__name__} compares the samples of a batch: features "
            "of any shape after the batch axis, with the same number of "
            f"samples on both sides. Received: teacher {tuple(teacher_shape)}, "
            f"student {tuple(student_shape)}. Tap layers whose outputs have "
            "the shape `(batch, ...)`, with at least one value per sample."
        )


class SampleRelation(DistillationLoss):
    """Base class of losses that compare samples by the static `relation`."""

    per_sample = True
    # Static: both features, `sample_weight=` and the options -> values.
    relation = None

    def call(self, teacher_features, student_features, *, sample_weight):
        return self.relation(
            teacher_features,
            student_features,
            sample_weight=sample_weight,
            **self.options(),
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_samples(self, teacher_shape, student_shape)
