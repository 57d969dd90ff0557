"""Relational distillation: angles between three samples."""

import keras
from keras import ops

from keras_kd._src.losses.features import huber
from keras_kd._src.losses.relations import SampleRelation
from keras_kd._src.losses.relations import mean_over_partners
from keras_kd._src.losses.relations import pairwise_differences
from keras_kd._src.losses.relations import present_rows
from keras_kd._src.losses.relations import unit_vectors


def relational_angle(teacher_features, student_features, *, sample_weight=None):
    """RKD-A: Huber loss of the cosines of angles between three samples.

        e_ij = (x_j - x_i) / |x_j - x_i|;  cosine_ijk = <e_ij, e_ik>
        value_i = mean_jk huber(cosine_ijk(teacher) - cosine_ijk(student))

    Args:
        teacher_features: shape `(batch, ...)`; flattened.
        student_features: shape `(batch, ...)`; flattened, of any size.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        Values of shape `(batch,)`, each for the angles at that sample, without
        a unit.

    Example:
    >>> teacher = [[0.0], [1.0], [2.0]]
    >>> values = relational_angle(teacher, [[1.0], [0.0], [2.0]])
    >>> [round(float(value), 4) for value in values]
    [0.3333, 0.3333, 0.0]

    Reference: Park et al., 2019, "Relational Knowledge Distillation",
    arXiv 1904.05068.
    """
    teacher, student, weight = present_rows(
        teacher_features, student_features, sample_weight
    )
    errors = huber(_cosines(teacher) - _cosines(student))
    return mean_over_partners(mean_over_partners(errors, weight), weight)


def _cosines(rows):
    units = unit_vectors(pairwise_differences(rows))
    return ops.matmul(units, ops.transpose(units, (0, 2, 1)))


@keras.saving.register_keras_serializable(package="keras_kd")
class RelationalAngle(SampleRelation):
    """Relational KD, angles (RKD-A): match angles between three samples.

    A relation of higher order than a distance, which does not depend on the
    scale of the features. The sides may differ in size and need no adapter. It
    needs memory for `batch^3 + batch^2 * size` numbers: for embeddings, and
    batches of up to a few hundred. Usual weight: 50, with `RelationalDistance`
    at 25.

        e_ij = (x_j - x_i) / |x_j - x_i|;  cosine_ijk = <e_ij, e_ik>
        value = mean_ijk huber(cosine_ijk(teacher) - cosine_ijk(student))
        (mean over all batch^3 triplets, those with equal samples included)

    Args:
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ...)`.
        student_features: shape `(batch, ...)`, of any size.
        sample_weight: optional, shape `(batch,)`; a triplet has the product of
            its samples' weights.

    Returns:
        The weighted mean over triplets, a scalar.

    Raises:
        ValueError: features have no axis after the batch; batches differ.

    Example:
    >>> loss = RelationalAngle()
    >>> round(float(loss([[0.0], [1.0], [2.0]], [[1.0], [0.0], [2.0]])), 4)
    0.2222

    Reference: Park et al., 2019, arXiv 1904.05068.
    """

    relation = staticmethod(relational_angle)
