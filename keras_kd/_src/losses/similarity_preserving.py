"""Similarity-preserving distillation: similarities between samples."""

import keras
from keras import ops

from keras_kd._src.losses.relations import SampleRelation
from keras_kd._src.losses.relations import mean_over_partners
from keras_kd._src.losses.relations import present_rows


def similarity_preserving(
    teacher_features, student_features, *, sample_weight=None
):
    """SP: squared difference of the sides' row-normalized Gram matrices.

        G = F F^T, each row divided by its L2 norm
        value_i = mean_j (G_ij(teacher) - G_ij(student))^2

    Args:
        teacher_features: shape `(batch, ...)`; flattened.
        student_features: shape `(batch, ...)`; flattened, of any size.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        Values of shape `(batch,)`, without a unit.

    Example:
    >>> teacher, student = [[1.0], [0.0]], [[1.0], [1.0]]
    >>> values = similarity_preserving(teacher, student)
    >>> [round(float(value), 4) for value in values]
    [0.2929, 0.5]

    Reference: Tung and Mori, 2019, "Similarity-Preserving Knowledge
    Distillation", arXiv 1907.09682.
    """
    teacher, student, weight = present_rows(
        teacher_features, student_features, sample_weight
    )
    gap = _similarities(teacher, weight) - _similarities(student, weight)
    return mean_over_partners(ops.square(gap), weight)


def _similarities(rows, weight):
    gram = ops.matmul(rows, ops.transpose(rows))
    squares = ops.sum(weight * ops.square(gram), axis=-1, keepdims=True)
    # A sample whose features are all 0 has similarities and gradients of 0: the
    # root's floor alone would multiply its gradient by 1e12.
    active = ops.cast(squares > 1e-24, gram.dtype)
    return gram * active / ops.sqrt(ops.maximum(squares, 1e-24))


@keras.saving.register_keras_serializable(package="keras_kd")
class SimilarityPreserving(SampleRelation):
    """Similarity-preserving KD (SP): match similarities between samples.

    Samples that are similar for the teacher should be similar for the student.
    Only similarities within the batch are compared, so the two sides may have
    any shapes and need no adapter. Usual weight: 3000, on the last feature
    maps. The value depends on the batch size: use 64 samples or more (with
    several replicas, each compares its own part).

        G = F F^T, F the flattened features; each row divided by its L2 norm
        value = sum_ij (G_ij(teacher) - G_ij(student))^2 / batch^2

    Args:
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ...)`.
        student_features: shape `(batch, ...)`, of any size.
        sample_weight: optional, shape `(batch,)`; a weight of 2 has the effect
            of that sample twice. The sum of the weights replaces the batch
            size, so the value is inversely proportional to their scale.

    Returns:
        The weighted mean over pairs, a scalar.

    Raises:
        ValueError: features have no axis after the batch; batches differ.

    Example:
    >>> loss = SimilarityPreserving()
    >>> round(float(loss([[1.0], [0.0]], [[1.0], [1.0]])), 4)
    0.3964

    Reference: Tung and Mori, 2019, arXiv 1907.09682.
    """

    relation = staticmethod(similarity_preserving)
