"""Teacher-free distillation: a teacher made of the labels alone."""

import math

import keras
from keras import ops

from keras_kd._src.losses.class_counts import check_two_classes
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.tempered_loss import TemperedLoss
from keras_kd._src.losses.true_class import number_of
from keras_kd._src.losses.true_class import true_class


def virtual_teacher(
    student_logits,
    labels,
    *,
    temperature=20.0,
    true_class_probability=0.99,
    form="code",
):
    """Divergence of the student from a teacher that is sure of the label.

        d = a for the true class, (1 - a) / (classes - 1) for the others
        code:  value = KL(softmax(d / T) || softmax(student_logits))
        paper: value = T^2 * KL(d^(1/T), normalised
                                || softmax(student_logits / T))

    Args:
        student_logits: shape `(batch, ..., classes)`.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. A sample of
            label -1 has no such teacher: its value is 0.
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
    (student_logits,) = in_full_precision(student_logits)
    is_target = true_class(labels, student_logits)
    labelled = ops.any(is_target, axis=-1)
    share = (1.0 - true_class_probability) / (student_logits.shape[-1] - 1)
    sure, unsure = true_class_probability, share
    scale = 1.0
    if form == "paper":
        # Tempering a distribution is tempering its logarithms.
        sure, unsure = math.log(sure), math.log(unsure)
        student_logits = student_logits / temperature
        scale = temperature**2
    ones = ops.ones_like(student_logits)
    designed = ops.where(is_target, sure * ones, unsure * ones)
    teacher = ops.log_softmax(designed / temperature, axis=-1)
    student = ops.log_softmax(student_logits, axis=-1)
    value = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
    return scale * ops.where(labelled, value, ops.zeros_like(value))


@keras.saving.register_keras_serializable(package="keras_kd")
class VirtualTeacher(TemperedLoss):
    """Distillation without a teacher: soft targets designed by hand.

    For want of a good teacher: it regularises as a teacher would that knows
    the labels and nothing of the other classes. It needs labels, and ignores
    the teacher's view; any teacher will do, the student's own copy included.
    The other teacher-free form of the paper, self-training, needs no loss of
    its own: it is `SoftTargets` with a pre-trained copy of the student as the
    teacher.

        d = a for the true class, (1 - a) / (classes - 1) for the others
        code:  value = KL(softmax(d / T) || softmax(student_logits))
        paper: value = T^2 * KL(d^(1/T), normalised
                                || softmax(student_logits / T))

    The authors' code takes the softmax of the probabilities d, and tempers
    only the teacher: at T = 20 that is nearly uniform, a pull to less
    confident answers. Their formula tempers both; the factor T^2, which they
    leave out there, is this library's. Their code also averages over the
    classes and has a multiplier (1, or 100): in these units the usual weight
    is alpha * multiplier / classes beside a task loss of weight 1 - alpha, with
    alpha 0.1 to 0.95: for ResNet18 on CIFAR-100, 0.1 beside 0.9.

    Args:
        temperature: T (20 to 40 in the paper), a positive number or a
            `LearningRateSchedule` over training steps.
        true_class_probability: a, above 0 and below 1.
        form: `"code"` (the default) or `"paper"`.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`; not looked at.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`; 0 is the
            value of an unlabelled sample (-1).
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

    expects_logits = True

    def __init__(
        self,
        temperature=20.0,
        *,
        true_class_probability=0.99,
        form="code",
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.true_class_probability = number_of(
            true_class_probability, "true_class_probability", 1e-6, 1.0
        )
        if form not in ("code", "paper"):
            raise ValueError(
                'Argument `form` must be "code" (the authors\' implementation) '
                f'or "paper" (their formula). Received: form={form!r}.'
            )
        self.form = form

    def call(self, teacher_logits, student_logits, *, labels):
        return virtual_teacher(
            student_logits,
            labels,
            temperature=ops.convert_to_tensor(self.temperature),
            true_class_probability=self.true_class_probability,
            form=self.form,
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "true_class_probability": self.true_class_probability,
            "form": self.form,
        }
