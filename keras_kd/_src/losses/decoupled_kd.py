"""Decoupled distillation: the true class and the others, weighed apart."""

import keras
from keras import ops

from keras_kd._src.losses.class_counts import check_two_classes
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.tempered_loss import TemperedLoss
from keras_kd._src.losses.tempered_loss import beside_logits
from keras_kd._src.losses.tempered_loss import of_values
from keras_kd._src.losses.true_class import number_of
from keras_kd._src.losses.true_class import true_class

# A logit so low that its probability is exactly 0 next to any that a model
# gives, and still finite: infinity would make NaN of 0 * infinity.
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
    """Soft targets in two parts: the true class, and the others among them.

        value = T^2 * (target_weight * KL(b_t || b_s)
                       + non_target_weight * KL(o_t || o_s))
        b = (probability of the true class, of any other), at temperature T
        o = softmax over the other classes alone, at temperature T

    Plain soft targets are the first part plus (1 - the teacher's probability
    of the true class) times the second.

    Args:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`. A sample of
            label -1 is unlabelled: its value is that of `soft_targets`.
        temperature: T, a positive number, or one a sample, shape `(batch,)`.
        target_weight: of the first part, alpha in the paper.
        non_target_weight: of the second part, beta in the paper.

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
    teacher_logits, student_logits = in_full_precision(
        teacher_logits, student_logits
    )
    is_target = true_class(labels, teacher_logits)
    labelled = ops.any(is_target, axis=-1)
    temperature = beside_logits(temperature, teacher_logits)
    teacher = ops.log_softmax(teacher_logits / temperature, axis=-1)
    student = ops.log_softmax(student_logits / temperature, axis=-1)
    target = _divergence(
        _target_or_not(teacher, is_target), _target_or_not(student, is_target)
    )
    # Without a label no class is excluded: this part is then the whole.
    others = _divergence(
        _among_others(teacher, is_target), _among_others(student, is_target)
    )
    value = ops.where(
        labelled,
        target_weight * target + non_target_weight * others,
        others,
    )
    return of_values(temperature) ** 2 * value


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


def _divergence(teacher, student):
    return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class DecoupledKD(TemperedLoss):
    """Soft targets with a weight of its own for the non-target classes.

    In plain soft targets, what the teacher says of the classes beside the
    true one counts the less the surer the teacher is. Here it counts the same
    for each sample. It needs labels, and more than two classes: with two, only
    one class is not the target, and the second part is exactly 0.

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

    Unlabelled samples (label -1) learn by plain soft targets. The authors'
    code masks by a logit of -1000 and takes log(softmax); here both parts come
    from log-probabilities, with the same value wherever theirs is finite.

    Args:
        temperature: T, a positive number or a `LearningRateSchedule` over
            training steps.
        target_weight: of the first part, alpha in the paper.
        non_target_weight: of the second part, beta in the paper.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: the same shape.
        labels: class numbers, shape `(batch,)` or `(batch, ...)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.
        temperature: optional, one a sample, shape `(batch,)`, in the place of
            the argument: what a rule of the transfer sets.

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

    expects_logits = True

    def __init__(
        self,
        temperature=4.0,
        *,
        target_weight=1.0,
        non_target_weight=8.0,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.target_weight = number_of(target_weight, "target_weight")
        self.non_target_weight = number_of(
            non_target_weight, "non_target_weight"
        )

    def call(self, teacher_logits, student_logits, *, labels, temperature=None):
        return decoupled_kd(
            teacher_logits,
            student_logits,
            labels,
            temperature=self.temperature_or(temperature),
            target_weight=self.target_weight,
            non_target_weight=self.non_target_weight,
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "target_weight": self.target_weight,
            "non_target_weight": self.non_target_weight,
        }
