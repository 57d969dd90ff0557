"""Minifinetuning: the teacher, mixed with as little label as is needed."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.true_class import true_class


def margin_mixed_teacher(
    teacher_logits, student_logits, labels, *, temperature=1.0, margin=0.2
):
    """Minifinetuning (MFT): soft targets, corrected to a margin.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        lead = p[true class] - max of p over the other classes
        c = max(0, (margin - lead) / (1 - lead))
        target = (1 - c) * p + c * (1 for the true class, 0 for the others)
        value = T^2 * KL(target || q)

    c is the smallest share of the label at which the true class leads by the
    margin: the lead of the mixture is (1 - c) * lead + c.

    Args:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. For a sample
            with label -1, the target is p.
        temperature: T, a positive number.
        margin: the smallest lead allowed, a difference of probabilities.

    Returns:
        Values in nats (times T^2), shape `(batch, ...)`.

    Example:
    >>> value = margin_mixed_teacher([[0.0, 0.0]], [[0.0, 0.0]], [0])
    >>> round(float(value[0]), 4)  # the target is (0.6, 0.4)
    0.0201

    Reference: Belcak et al., 2025, "Minifinetuning: Low-Data Generation Domain
    Adaptation through Corrective Self-Distillation", arXiv 2506.15702.
    """
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits
    )
    teacher = ops.softmax(teacher_logits / temperature, axis=-1)
    student = ops.log_softmax(student_logits / temperature, axis=-1)
    target = _corrected(teacher, true_class(labels, teacher), margin)
    # The floor is for a probability of 0, which adds nothing.
    log_target = ops.log(ops.maximum(target, 1e-30))
    return temperature**2 * ops.sum(target * (log_target - student), axis=-1)


def _corrected(teacher, is_target, margin):
    label = ops.cast(is_target, teacher.dtype)
    own = ops.sum(label * teacher, axis=-1, keepdims=True)
    best = ops.max((1.0 - label) * teacher, axis=-1, keepdims=True)
    lead = own - best
    # Where c is above 0, 1 - lead is above 1 - margin: the floor is exact.
    share = (margin - lead) / ops.maximum(1.0 - lead, 1.0 - margin)
    # Without a label the sum is 0, and nothing is mixed in.
    share = ops.maximum(share, 0.0) * ops.sum(label, axis=-1, keepdims=True)
    return (1.0 - share) * teacher + share * label


@keras.saving.register_keras_serializable(package="keras_kd")
class MarginMixedTeacher(LogitDivergence):
    """Minifinetuning (MFT): the label is mixed in where the teacher is wrong.

    For fine-tuning on little data, with the model before fine-tuning as the
    teacher. Where the teacher is right by the margin, its probabilities are the
    target; elsewhere just enough of the label is mixed in that the true class
    leads by the margin. It needs labels and, as a rule, no task loss: usual
    weight 1, with a task loss of weight 0.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        lead = p[true class] - max of p over the other classes
        c = max(0, (margin - lead) / (1 - lead))
        target = (1 - c) * p + c * (1 for the true class, 0 for the others)
        value = T^2 * KL(target || q)

    The probabilities are mixed at the temperature T. The code in NVIDIA's
    ModelOpt has the same c where the teacher's top class is wrong. Where it is
    right, that code always raises the true class by the margin (to at most 1),
    even for samples that have the margin already.

    Args:
        temperature: T, a positive number or a `LearningRateSchedule` over
            training steps.
        margin: the smallest lead allowed, a difference of probabilities, at
            least 0 and below 1.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`; an unlabeled
            sample (-1) gets plain soft targets.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar in nats (times T^2).

    Raises:
        ValueError: an argument is out of its range; class counts differ, or
            there is one class; the labels are one-hot.

    Example:
    >>> loss = MarginMixedTeacher(margin=0.5)
    >>> round(float(loss([[0.0, 0.0]], [[0.0, 0.0]], labels=[0])), 4)
    0.1308

    Reference: Belcak et al., 2025, arXiv 2506.15702.
    """

    divergence = staticmethod(margin_mixed_teacher)

    def __init__(self, temperature=1.0, *, margin=0.2, **kwargs):
        super().__init__(temperature, **kwargs)
        self.margin = number(margin, "margin", least=0.0, below=1.0)

    def call(self, teacher_logits, student_logits, *, labels):
        return self.divergence_at_temperature(
            teacher_logits, student_logits, labels
        )

    def options(self):
        return {"margin": self.margin}
