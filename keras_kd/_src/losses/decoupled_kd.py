"""Decoupled distillation: separate weights for true class and others."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.losses.probabilities import log_probabilities
from keras_kd._src.losses.tempered_loss import broadcast_to_logits
from keras_kd._src.losses.tempered_loss import squeeze_temperature
from keras_kd._src.losses.true_class import true_class

# A logit so low that its probability is exactly 0 next to any real one, and
# still finite: with infinity, 0 * infinity would be NaN.
_EXCLUDED = -1e30


def decoupled_kd(
    teacher_logits,
    student_logits,
    labels,
    *,
    temperature=4.0,
    target_weight=1.0,
    non_target_weight=8.0,
):
    """DKD: soft targets in two parts, the true class and all others.

        value = T^2 * (target_weight * KL(b_t || b_s)
                       + non_target_weight * KL(o_t || o_s))
        b = (probability of the true class, of any other), at temperature T
        o = softmax over the other classes alone, at temperature T

    Plain soft targets are the first part plus the second times (1 - the
    teacher's probability of the true class).

    Args:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. A sample with
            label -1 is unlabeled: its value is that of `soft_targets`.
        temperature: T, a positive number, or one per sample, shape `(batch,)`.
        target_weight: weight of the first part, alpha in the paper.
        non_target_weight: weight of the second part, beta in the paper.

    Returns:
        Values in nats (times T^2), shape `(batch, ...)`.

    Example:
    >>> value = decoupled_kd(
    ...     [[2.0, 1.0, 0.0]], [[2.0, 0.0, 1.0]], [0], temperature=1.0
    ... )
    >>> round(float(value[0]), 3)  # the first part is 0 here
    3.697

    Reference: Zhao et al., 2022, "Decoupled Knowledge Distillation", arXiv
    2203.08679.
    """
    teacher, student = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    is_target = true_class(labels, teacher)
    labeled = ops.any(is_target, axis=-1)
    temperature = broadcast_to_logits(temperature, teacher)
    target = kl_divergence(
        _target_or_not(teacher, is_target), _target_or_not(student, is_target)
    )
    # Without a label no class is excluded, and this part is all of it.
    others = kl_divergence(
        _among_others(teacher, is_target), _among_others(student, is_target)
    )
    value = ops.where(
        labeled,
        target_weight * target + non_target_weight * others,
        others,
    )
    return squeeze_temperature(temperature) ** 2 * value


def _target_or_not(log_probs, is_target):
    """Log-probabilities of the true class and of any other."""
    # Not log(1 - p), which is log(0) for a confident model.
    target = ops.where(is_target, log_probs, ops.zeros_like(log_probs))
    return ops.stack(
        [
            ops.sum(target, axis=-1),
            ops.logsumexp(_without(log_probs, is_target), axis=-1),
        ],
        axis=-1,
    )


def _among_others(log_probs, is_target):
    return ops.log_softmax(_without(log_probs, is_target), axis=-1)


def _without(log_probs, is_target):
    excluded = ops.full_like(log_probs, _EXCLUDED)
    return ops.where(is_target, excluded, log_probs)


@keras.saving.register_keras_serializable(package="keras_kd")
class DecoupledKD(LogitDivergence):
    """Decoupled KD (DKD): a separate weight for the non-target classes.

    In plain soft targets, the non-target classes count less the more confident
    the teacher is. Here they count the same for each sample. The loss needs
    labels, and more than two classes: with two, only one class is not the
    target, and the second part is exactly 0.

        value = T^2 * (target_weight * KL(b_t || b_s)
                       + non_target_weight * KL(o_t || o_s))
        b = (probability of the true class, of any other), at temperature T
        o = softmax over the other classes alone, at temperature T

    Usual settings: `Transfer(..., weight=1)` beside a task loss of weight 1;
    CIFAR-100: T = 4, `non_target_weight` 8 (6 for VGG and Wide ResNet, 2 for
    ResNet56 to 20), with the weight raised over 20 epochs; ImageNet: T = 1,
    `non_target_weight` 0.5 (2 for MobileNet). The authors' warm-up,
    min(1, epoch / 20), is the callback

        WeightAnnealing(0.0, 1.0, transfer="decoupled_kd", epochs=21)

    Unlabeled samples (label -1) get plain soft targets. The authors' code masks
    with a logit of -1000 and takes log(softmax); here both parts are computed
    from log-probabilities, with the same value wherever theirs is finite.

    Args:
        temperature: T, a positive number or a `LearningRateSchedule` over
            training steps.
        target_weight: weight of the first part, alpha in the paper.
        non_target_weight: weight of the second part, beta in the paper.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.
        temperature: optional, one per sample, shape `(batch,)`; set by a rule
            of the transfer, in place of the loss's own.

    Returns:
        The weighted mean over samples, a scalar in nats (times T^2).

    Raises:
        ValueError: `temperature` is not positive; a weight is negative; class
            counts differ, or there is one class; the labels are one-hot.

    Example:
    >>> loss = DecoupledKD(temperature=1.0, non_target_weight=1.0)
    >>> logits = [[2.0, 1.0, 0.0]], [[2.0, 0.0, 1.0]]
    >>> round(float(loss(*logits, labels=[0])), 4)
    0.4621

    Reference: Zhao et al., 2022, arXiv 2203.08679.
    """

    divergence = staticmethod(decoupled_kd)

    def __init__(
        self,
        temperature=4.0,
        *,
        target_weight=1.0,
        non_target_weight=8.0,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.target_weight = number(target_weight, "target_weight", least=0.0)
        self.non_target_weight = number(
            non_target_weight, "non_target_weight", least=0.0
        )

    def call(self, teacher_logits, student_logits, *, labels, temperature=None):
        return self.divergence_at_temperature(
            teacher_logits, student_logits, labels, temperature=temperature
        )

    def options(self):
        return {
            "target_weight": self.target_weight,
            "non_target_weight": self.non_target_weight,
        }
