"""Soft targets for binary and multi-label outputs."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.probabilities import check_same_classes


def binary_soft_targets(teacher_logits, student_logits, *, temperature=4.0):
    """Binary soft targets: KL of yes/no probabilities at T, summed.

        p = sigmoid(teacher_logits / T);  q = sigmoid(student_logits / T)
        value = T^2 * sum_labels p log(p / q) + (1 - p) log((1 - p) / (1 - q))

    Args:
        teacher_logits: shape `(..., labels)`.
        student_logits: shape `(..., labels)`.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Example:
    >>> value = binary_soft_targets([[2.0]], [[0.0]], temperature=1.0)
    >>> round(float(value[0]), 4)
    0.3278

    Reference: Yang et al., 2023, "Multi-Label Knowledge Distillation",
    arXiv 2308.06453 (the logit term, here with a temperature).
    """
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits
    )
    teacher_logits = teacher_logits / temperature
    student_logits = student_logits / temperature
    yes = ops.log_sigmoid(teacher_logits) - ops.log_sigmoid(student_logits)
    no = ops.log_sigmoid(-teacher_logits) - ops.log_sigmoid(-student_logits)
    divergence = (
        ops.sigmoid(teacher_logits) * yes + ops.sigmoid(-teacher_logits) * no
    )
    return temperature**2 * ops.sum(divergence, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class BinarySoftTargets(LogitDivergence):
    """Binary soft targets (multi-label KD): one yes/no probability per output.

    For binary classifiers (one output) and multi-label models (one output per
    label), whose probabilities come from a sigmoid and need not sum to 1.

        value = T^2 * sum_labels KL(Bernoulli(p) || Bernoulli(q)), in nats
        p = sigmoid(teacher / T);  q = sigmoid(student / T)

    The sum over labels is the divergence of all outputs together; Keras'
    `BinaryCrossentropy` takes the mean. So divide the weight by the number of
    labels: start at 0.9 / labels.

    Args:
        temperature: T, a positive number, or a `LearningRateSchedule` over
            training steps.
        classes: as in `LogitDivergence`.
        teacher_from_logits: False if the teacher ends in a sigmoid; see
            `DistillationLoss`.
        student_from_logits: likewise for the student.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., labels)`.
        student_logits: shape `(batch, ..., labels)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `temperature` is not positive; label counts differ.

    Example:
    >>> loss = BinarySoftTargets(temperature=1.0)
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.3278

    Reference: Yang et al., 2023, arXiv 2308.06453.
    """

    activation = "sigmoid"
    divergence = staticmethod(binary_soft_targets)

    def __init__(
        self,
        temperature=4.0,
        *,
        classes=None,
        teacher_from_logits=None,
        student_from_logits=None,
        **kwargs,
    ):
        super().__init__(
            temperature,
            classes=classes,
            teacher_from_logits=teacher_from_logits,
            student_from_logits=student_from_logits,
            **kwargs,
        )

    def check_shapes(self, teacher_shape, student_shape):
        shapes = self.compared(teacher_shape), self.compared(student_shape)
        check_same_classes(self, *shapes)
