"""Soft targets: the teacher's class probabilities at a raised temperature."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import LEAST_LOGIT
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.losses.probabilities import log_probabilities
from keras_kd._src.losses.tempered_loss import broadcast_to_logits
from keras_kd._src.losses.tempered_loss import squeeze_temperature


def soft_targets(
    teacher_logits, student_logits, *, temperature=4.0, standardize=False
):
    """Soft targets (KD): KL divergence of probabilities at T, times T^2.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^2 * sum_classes p * (log p - log q)

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        temperature: T, a positive number, or one per sample, shape `(batch,)`.
        standardize: whether each sample's logits are z-scored first (Sun et
            al., 2024), so that the student need not reproduce the teacher's
            scale: `(logits - mean) / (std + 1e-7)`, ddof 1.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Example:
    >>> teacher, student = [[0.0, 0.0, 20.0]], [[20.0, 0.0, 0.0]]
    >>> value = soft_targets(teacher, student, temperature=1.0)
    >>> round(float(value[0]), 3)
    20.0

    References:
        Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a Neural
        Network", arXiv 1503.02531.
        Sun et al., 2024, "Logit Standardization in Knowledge Distillation",
        arXiv 2403.01427.
    """
    if standardize:
        teacher_logits, student_logits = bounded_logits(
            teacher_logits, student_logits
        )
        teacher_logits = _standardized(teacher_logits)
        student_logits = _standardized(student_logits)
    log_probs = log_probabilities(teacher_logits, student_logits, temperature)
    temperature = broadcast_to_logits(temperature, log_probs[0])
    return squeeze_temperature(temperature) ** 2 * kl_divergence(*log_probs)


def _standardized(logits):
    """Z-scores of each sample's logits, (logits - mean) / (std + 1e-7)."""
    # Masked classes (the lowest number) are left out of mean and deviation.
    present = logits > LEAST_LOGIT
    count = ops.sum(ops.cast(present, logits.dtype), axis=-1, keepdims=True)
    total = ops.sum(ops.where(present, logits, 0.0), axis=-1, keepdims=True)
    centered = ops.where(present, logits - total / count, 0.0)
    # As the authors' code: the deviation over the classes has ddof = 1.
    squares = ops.sum(ops.square(centered), axis=-1, keepdims=True)
    variance = squares / ops.maximum(count - 1.0, 1.0)
    # The floor keeps the root's gradient finite where all logits are equal.
    scores = centered / (ops.sqrt(ops.maximum(variance, 1e-14)) + 1e-7)
    return ops.where(present, scores, LEAST_LOGIT)


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftTargets(LogitDivergence):
    """Soft targets (KD, LSKD): the student learns the teacher's probabilities.

    Hinton's distillation, the usual first choice for classifiers. A temperature
    above 1 raises the probabilities of the less likely classes, so that they
    count in the loss. The factor T^2 keeps the size of the gradient as the
    temperature changes, so the weights of the terms need not change with it.
    The loss is computed from log-probabilities throughout, so that a
    confidently wrong student gets a full gradient. Usual weight: 0.9 at T = 4,
    beside labels of weight 0.1.

    DeiT found the teacher's most likely class, used as a label, better than its
    probabilities: `HardLabels` in `examples/cnn_to_vision_transformer.py` is
    that loss in a few lines.

        value = T^2 * sum_classes p * (log p - log q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        temperature: T, a positive number (the usual values are 1 to 20), or a
            `LearningRateSchedule` over training steps. Like an optimizer's
            `learning_rate`, it is a variable that can be assigned later.
        standardize: whether to z-score each sample's logits first (Sun et al.,
            2024; they use a temperature of 2 and a weight of 9).
        classes: as in `LogitDivergence`.
        teacher_from_logits: False if the teacher ends in a softmax; see
            `DistillationLoss`.
        student_from_logits: likewise for the student.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.
        temperature: optional, one per sample, shape `(batch,)`; set by a rule
            of the transfer, in place of the loss's own.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar in
        nats (times T^2).

    Raises:
        ValueError: `temperature` is not positive; class counts differ; there
            is one class only.

    Example:
    >>> loss = SoftTargets(temperature=2.0)
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.4438

    References:
        Hinton, Vinyals and Dean, 2015, arXiv 1503.02531.
        Sun et al., 2024, arXiv 2403.01427 (`standardize`, LSKD).
        Touvron et al., 2021, arXiv 2012.12877 (DeiT).
    """

    divergence = staticmethod(soft_targets)

    def __init__(
        self,
        temperature=4.0,
        *,
        standardize=False,
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
        self.standardize = standardize

    def call(self, teacher_logits, student_logits, *, temperature=None):
        return self.divergence_at_temperature(
            teacher_logits, student_logits, temperature=temperature
        )

    def options(self):
        return {"standardize": self.standardize}
