"""Adaptive target enhancement: the true class of the target is raised."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.true_class import true_class


def target_enhancement(
    teacher_logits, student_logits, labels, *, temperature=1.0, exponent=1.5
):
    """OFA-KD: cross-entropy to the teacher, with the true class enhanced.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        target = (1 + p)^exponent - 1 for the true class, else p^exponent
        value = - sum_classes target * log q

    Args:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. For a sample
            with label -1 the target is p.
        temperature: T, a positive number.
        exponent: 1 or more; with 1 the target is p.

    Returns:
        Values in nats, shape `(batch, ...)`.

    Example:
    >>> value = target_enhancement([[0.0, 0.0]], [[0.0, 0.0]], [0])
    >>> round(float(value[0]), 4)
    0.8253

    Reference: Hao et al., 2023, "One-for-All: Bridge the Gap Between
    Heterogeneous Architectures in Knowledge Distillation", arXiv 2310.19444.
    """
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits
    )
    teacher = ops.softmax(teacher_logits / temperature, axis=-1)
    student = ops.log_softmax(student_logits / temperature, axis=-1)
    is_target = true_class(labels, teacher)
    label = ops.cast(is_target, teacher.dtype)
    enhanced = ops.power(teacher + label, exponent) - label
    labeled = ops.any(is_target, axis=-1, keepdims=True)
    target = ops.where(labeled, enhanced, teacher)
    return -ops.sum(target * student, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class TargetEnhancement(LogitDivergence):
    """Adaptive target enhancement (OFA-KD): for heterogeneous teachers.

    If teacher and student have different architectures (a transformer and a
    convolutional network), the teacher's probabilities of the other classes are
    less useful. The exponent raises the true class (more so the more confident
    the teacher is of it) and lowers the others. The paper projects several
    stages of the student to logits and sums the losses; here that is one
    `Transfer` per stage to the teacher's output, with an `adapter` that ends in
    the teacher's classes. It needs labels.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        target = (1 + p)^exponent - 1 for the true class, else p^exponent
        value = - sum_classes target * log q

    As in the authors' code, there is no factor T^2, and the value is a
    cross-entropy: it does not reach 0, and its minimum is not where both sides
    agree. Here it is computed from log-probabilities instead of log(softmax).
    Usual weight: 1 for each stage, beside `SoftTargets` and a task loss of
    weight 1.

    Args:
        temperature: T (1 in the paper), a positive number or a
            `LearningRateSchedule` over training steps.
        exponent: 1 or more; 1 to 1.5 in the authors' settings.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`; for an
            unlabeled sample (-1) the target is p.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar in nats.

    Raises:
        ValueError: an argument is out of its range; class counts differ, or
            there is one class; the labels are one-hot.

    Example:
    >>> loss = TargetEnhancement(exponent=1.0)
    >>> round(float(loss([[0.0, 0.0]], [[0.0, 0.0]], labels=[0])), 4)
    0.6931

    Reference: Hao et al., 2023, arXiv 2310.19444.
    """

    divergence = staticmethod(target_enhancement)

    def __init__(self, temperature=1.0, *, exponent=1.5, **kwargs):
        super().__init__(temperature, **kwargs)
        self.exponent = number(exponent, "exponent", least=1.0)

    def call(self, teacher_logits, student_logits, *, labels):
        return self.divergence_at_temperature(
            teacher_logits, student_logits, labels
        )

    def options(self):
        return {"exponent": self.exponent}
