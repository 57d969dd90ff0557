"""Logit matching: squared error between the logits themselves."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.probabilities import check_same_classes


def logit_matching(teacher_logits, student_logits):
    """Mean squared difference of the logits.

        value = mean_classes (teacher_logits - student_logits)^2

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.

    Returns:
        Values in squared logits, shape `(...)`.

    Example:
    >>> float(logit_matching([[1.0, 3.0]], [[1.0, 1.0]])[0])
    2.0

    Reference: Ba and Caruana, 2014, "Do Deep Nets Really Need to be Deep?",
    arXiv 1312.6184.
    """
    # So that the squares are finite, too.
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits, least=-1e15
    )
    return ops.mean(ops.square(teacher_logits - student_logits), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class LogitMatching(DistillationLoss):
    """Logit matching (MSE of logits): KD in the limit of high temperature.

    The student learns the logits themselves, small ones included, and there is
    no temperature to choose. Often the better choice for regression outputs and
    when the labels are noisy (Kim et al., 2021). The value is the mean over
    classes, as in the code of Kim et al.; Ba and Caruana take half the sum.
    Usual weight: 0.1 to 1.

        value = mean_classes (teacher_logits - student_logits)^2

    Args:
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar in squared logits.

    Raises:
        ValueError: class counts differ.

    Example:
    >>> loss = LogitMatching()
    >>> float(loss([[1.0, 3.0]], [[1.0, 1.0]]))
    2.0

    References:
        Ba and Caruana, 2014, arXiv 1312.6184.
        Kim et al., 2021, "Comparing Kullback-Leibler Divergence and Mean
        Squared Error Loss in Knowledge Distillation", arXiv 2105.08919.
    """

    expects_logits = True

    def call(self, teacher_logits, student_logits):
        return logit_matching(teacher_logits, student_logits)

    def check_shapes(self, teacher_shape, student_shape):
        check_same_classes(self, teacher_shape, student_shape)
