"""Relational distillation: distances between samples."""

import keras
from keras import ops

from keras_kd._src.losses.features import huber
from keras_kd._src.losses.relations import SampleRelation
from keras_kd._src.losses.relations import divide_no_nan
from keras_kd._src.losses.relations import mean_over_partners
from keras_kd._src.losses.relations import pairwise_differences
from keras_kd._src.losses.relations import present_rows


def relational_distance(
    teacher_features, student_features, *, sample_weight=None
):
    """RKD-D: Huber loss of relative distances between samples.

        d_ij = |x_i - x_j| / mean of |x_i - x_j| over all pairs that differ
        value_i = mean_j huber(d_ij(teacher) - d_ij(student))

    Args:
        teacher_features: shape `(batch, ...)`; flattened.
        student_features: shape `(batch, ...)`; flattened, of any size.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        Values of shape `(batch,)`, without a unit.

    Example:
    >>> teacher = [[0.0], [1.0], [3.0]]
    >>> values = relational_distance(teacher, [[0.0], [2.0], [3.0]])
    >>> [round(float(value), 4) for value in values]
    [0.0417, 0.0833, 0.0417]

    Reference: Park et al., 2019, "Relational Knowledge Distillation",
    arXiv 1904.05068.
    """
    teacher, student, weight = present_rows(
        teacher_features, student_features, sample_weight
    )
    gap = _distances(teacher, weight) - _distances(student, weight)
    return mean_over_partners(huber(gap), weight)


def _distances(rows, weight):
    squares = ops.sum(ops.square(pairwise_differences(rows)), axis=-1)
    apart = ops.cast(squares > 0, squares.dtype)
    # The floor keeps the root's gradient finite. The distance of a sample to
    # itself (or its copy) is 0, and does not count in the mean.
    distances = ops.sqrt(ops.maximum(squares, 1e-12)) * apart
    pairs = ops.expand_dims(weight, axis=0) * ops.expand_dims(weight, axis=1)
    mean = divide_no_nan(ops.sum(pairs * distances), ops.sum(pairs * apart))
    return divide_no_nan(distances, mean)


@keras.saving.register_keras_serializable(package="keras_kd")
class RelationalDistance(SampleRelation):
    """Relational KD, distances (RKD-D): match distances between samples.

    The student need not reproduce the teacher's features, only which samples
    are near and which are far, so the sides may differ in size and need no
    adapter. For embeddings; pool feature maps first, since the loss needs
    memory for `batch^2 * size` numbers. Usual weight: 25, together with
    `RelationalAngle` at 50. The value depends on which samples share a batch:
    use 64 or more.

        d_ij = |x_i - x_j| / mean of |x_i - x_j| over all pairs that differ
        value = mean_ij huber(d_ij(teacher) - d_ij(student))
        (mean over all batch^2 pairs, the zeros of i = j included)

    In the authors' code two equal samples have a distance of 1e-6, here of 0:
    so a sample of weight 2 has the effect of that sample twice.

    Args:
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ...)`.
        student_features: shape `(batch, ...)`, of any size.
        sample_weight: optional, shape `(batch,)`; a pair has the product of its
            samples' weights.

    Returns:
        The weighted mean over pairs, a scalar.

    Raises:
        ValueError: features have no axis after the batch; batches differ.

    Example:
    >>> loss = RelationalDistance()
    >>> round(float(loss([[0.0], [1.0], [3.0]], [[0.0], [2.0], [3.0]])), 4)
    0.0556

    Reference: Park et al., 2019, arXiv 1904.05068.
    """

    relation = staticmethod(relational_distance)
