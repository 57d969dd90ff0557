"""Teacher-free distillation: soft targets made from the labels alone."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.losses.true_class import true_class


def virtual_teacher(
    student_logits,
    labels,
    *,
    temperature=20.0,
    true_class_probability=0.99,
    form="code",
):
    """Tf-KD: divergence of the student from targets made of the label.

        d = a for the true class, (1 - a) / (classes - 1) for the others
        code:  value = KL(softmax(d / T) || softmax(student_logits))
        paper: value = T^2 * KL(d^(1/T), normalized
                                || softmax(student_logits / T))

    Args:
        student_logits: shape `(batch, ..., classes)`.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. A sample with
            label -1 has no such target: its value is 0.
        temperature: T, a positive number.
        true_class_probability: a.
        form: `"code"` or `"paper"`.

    Returns:
        Values in nats (times T^2 for `"paper"`), shape `(batch, ...)`.

    Example:
    >>> value = virtual_teacher([[2.0, 0.0]], [0])
    >>> round(float(value[0]), 3)
    0.41

    Reference: Yuan et al., 2020, "Revisiting Knowledge Distillation via Label
    Smoothing Regularization", arXiv 1909.11723.
    """
    (student_logits,) = bounded_logits(student_logits)
    is_target = true_class(labels, student_logits)
    labeled = ops.any(is_target, axis=-1)
    share = (1.0 - true_class_probability) / (student_logits.shape[-1] - 1)
    high, low = true_class_probability, share
    scale = 1.0
    if form == "paper":
        # Scaling a distribution by T means dividing its logarithms by T.
        high, low = math.log(high), math.log(low)
        student_logits = student_logits / temperature
        scale = temperature**2
    ones = ops.ones_like(student_logits)
    designed = ops.where(is_target, high * ones, low * ones)
    teacher = ops.log_softmax(designed / temperature, axis=-1)
    student = ops.log_softmax(student_logits, axis=-1)
    value = kl_divergence(teacher, student)
    return scale * ops.where(labeled, value, ops.zeros_like(value))


@keras.saving.register_keras_serializable(package="keras_kd")
class VirtualTeacher(LogitDivergence):
    """Teacher-free KD (Tf-KD): soft targets made by hand from the labels.

    If there is no good teacher: a regularizer, much like label smoothing. It
    needs labels, and ignores the teacher's logits, so any teacher will do, even
    a copy of the student. The paper's other teacher-free form, self-training,
    needs no loss of its own: it is `SoftTargets` with a pre-trained copy of the
    student as the teacher.

        d = a for the true class, (1 - a) / (classes - 1) for the others
        code:  value = KL(softmax(d / T) || softmax(student_logits))
        paper: value = T^2 * KL(d^(1/T), normalized
                                || softmax(student_logits / T))

    The authors' code takes the softmax of the probabilities d, and applies the
    temperature to the teacher only: at T = 20 the target is nearly uniform and
    makes predictions less confident. Their formula applies it to both sides;
    the factor T^2, which they leave out there, is this library's. Their code
    also averages over the classes and has a multiplier (1 or 100). Without
    these, the usual weight is alpha * multiplier / classes beside a task loss
    of weight 1 - alpha, with alpha from 0.1 to 0.95: for ResNet18 on CIFAR-100,
    0.1 beside 0.9.

    Args:
        temperature: T (20 to 40 in the paper), a positive number or a
            `LearningRateSchedule` over training steps.
        true_class_probability: a, above 0 and below 1.
        form: `"code"` (the default) or `"paper"`.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`; ignored.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`; an unlabeled
            sample (-1) has the value 0.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar in nats.

    Raises:
        ValueError: an argument is out of its range; there is one class; the
            class counts differ; the labels are one-hot.

    Example:
    >>> loss = VirtualTeacher(temperature=1.0, form="paper")
    >>> ignored = [[0.0, 0.0]]
    >>> round(float(loss(ignored, [[0.0, 0.0]], labels=[1])), 4)
    0.6371

    Reference: Yuan et al., 2020, arXiv 1909.11723.
    """

    divergence = staticmethod(virtual_teacher)

    def __init__(
        self,
        temperature=20.0,
        *,
        true_class_probability=0.99,
        form="code",
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.true_class_probability = number(
            true_class_probability,
            "true_class_probability",
            least=1e-6,
            below=1.0,
        )
        self.form = one_of(form, "form", ("code", "paper"))

    def call(self, teacher_logits, student_logits, *, labels):
        return self.divergence_at_temperature(student_logits, labels)

    def options(self):
        return {
            "true_class_probability": self.true_class_probability,
            "form": self.form,
        }
