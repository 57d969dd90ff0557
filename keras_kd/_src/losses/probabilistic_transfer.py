"""Probabilistic knowledge transfer: probabilities of being neighbors."""

import keras
from keras import ops

from keras_kd._src.losses.relations import SampleRelation
from keras_kd._src.losses.relations import divide_no_nan
from keras_kd._src.losses.relations import mean_over_partners
from keras_kd._src.losses.relations import present_rows
from keras_kd._src.losses.relations import unit_vectors


def probabilistic_transfer(
    teacher_features, student_features, *, sample_weight=None
):
    """PKT: divergence of the sides' probabilities of being neighbors.

        c_ij = (cosine(x_i, x_j) + 1) / 2;  p_ij = c_ij / sum_j c_ij
        value_i = mean_j p_ij log((p_ij + 1e-7) / (q_ij + 1e-7)),
            p of the teacher and q of the student

    Args:
        teacher_features: shape `(batch, ...)`; flattened.
        student_features: shape `(batch, ...)`; flattened, of any size.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        Values in nats (divided by the batch size), shape `(batch,)`.

    Example:
    >>> teacher, student = [[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]]
    >>> values = probabilistic_transfer(teacher, student)
    >>> [round(float(value), 4) for value in values]
    [0.0294, 0.0294]

    Reference: Passalis and Tefas, 2018, "Learning Deep Representations with
    Probabilistic Knowledge Transfer", arXiv 1803.10837.
    """
    teacher, student, weight = present_rows(
        teacher_features, student_features, sample_weight
    )
    teacher_probs = _neighbor_probs(teacher, weight)
    student_probs = _neighbor_probs(student, weight)
    log_ratio = ops.log(teacher_probs + 1e-7) - ops.log(student_probs + 1e-7)
    return mean_over_partners(teacher_probs * log_ratio, weight)


def _neighbor_probs(rows, weight):
    units = unit_vectors(rows)
    cosines = ops.matmul(units, ops.transpose(units))
    # Rounding may give a cosine below -1, and a negative affinity no logarithm.
    affinities = ops.maximum(0.5 * (cosines + 1.0), 0.0)
    total = ops.sum(weight * affinities, axis=-1, keepdims=True)
    return divide_no_nan(affinities, total)


@keras.saving.register_keras_serializable(package="keras_kd")
class ProbabilisticTransfer(SampleRelation):
    """Probabilistic knowledge transfer (PKT): match neighbor probabilities.

    Each sample gets a distribution over the batch, from the cosine similarities
    of the features. The sides may differ in size and need no adapter. Usual
    weight: 30000, on the last features: the value is small, as it is a mean
    over all pairs of terms that sum to one divergence per sample.

        c_ij = (cosine(x_i, x_j) + 1) / 2;  p_ij = c_ij / sum_j c_ij
        value = mean_ij p_ij log((p_ij + 1e-7) / (q_ij + 1e-7)),
            p of the teacher and q of the student

    This is the form of the authors' code; the paper sums over the pairs
    instead.

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
    >>> loss = ProbabilisticTransfer()
    >>> round(float(loss([[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]])), 4)
    0.0294

    Reference: Passalis and Tefas, 2018, arXiv 1803.10837.
    """

    relation = staticmethod(probabilistic_transfer)
