"""Skew KL: the divergence from a mixture that holds some of the other side."""

import numbers

import keras
from keras import ops

from keras_kd._src.losses.class_counts import check_two_classes
from keras_kd._src.losses.jensen_shannon import mixture_log_ratios
from keras_kd._src.losses.reverse_kl import log_probabilities
from keras_kd._src.losses.tempered_loss import TemperedLoss


def skew_kl(teacher_logits, student_logits, *, skew=0.1, temperature=1.0):
    """Divergence from the student with some of the teacher mixed in.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^2 * KL(p || skew * p + (1 - skew) * q)

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        skew: the teacher's share of the mixture; 0 gives forward KL.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`; at most -log(skew) * T^2.

    Example:
    >>> teacher, student = [[0.0, 99.0]], [[99.0, 0.0]]
    >>> round(float(skew_kl(teacher, student)[0]), 4)
    2.3026

    Reference: Ko et al., 2024, "DistiLLM: Towards Streamlined Distillation
    for Large Language Models", arXiv 2402.03898.
    """
    teacher_log_probs, student_log_probs = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    excess = teacher_log_probs - student_log_probs
    if skew > 0:
        excess, _ = mixture_log_ratios(excess, skew)
    divergence = ops.sum(ops.exp(teacher_log_probs) * excess, axis=-1)
    return temperature**2 * divergence


def skew_reverse_kl(
    teacher_logits, student_logits, *, skew=0.1, temperature=1.0
):
    """Divergence from the teacher with some of the student mixed in.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^2 * KL(q || (1 - skew) * p + skew * q)

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        skew: the student's share of the mixture; 0 gives reverse KL.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`; at most -log(skew) * T^2.

    Example:
    >>> value = skew_reverse_kl([[2.0, 0.0]], [[0.0, 0.0]])
    >>> round(float(value[0]), 4)
    0.3173

    Reference: Ko et al., 2024, arXiv 2402.03898.
    """
    return skew_kl(
        student_logits, teacher_logits, skew=skew, temperature=temperature
    )


@keras.saving.register_keras_serializable(package="keras_kd")
class SkewKL(TemperedLoss):
    """DistiLLM's skew KL: forward KL whose gradient can't explode.

    Where the student holds a token of the teacher's to be almost impossible,
    forward KL has no bound; with a share of the teacher in the mixture each
    token costs -log(skew) at most. The authors' code drops the teacher's
    entropy, a constant; this is the whole divergence, 0 where both sides
    agree, with the same gradient. Usual weight: 1.

        value = T^2 * KL(p || skew * p + (1 - skew) * q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        skew: the teacher's share of the mixture, 0 (forward KL) or more and
            below 1. The paper's is 0.1.
        temperature: T, a positive number (the paper's is 1), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar.

    Raises:
        ValueError: `skew` or `temperature` is out of range; class counts
            differ; there is one class only.

    Example:
    >>> loss = SkewKL()
    >>> round(float(loss([[0.0, 99.0]], [[99.0, 0.0]])), 4)
    2.3026

    Reference: Ko et al., 2024, arXiv 2402.03898.
    """

    expects_logits = True
    divergence = staticmethod(skew_kl)

    def __init__(self, skew=0.1, *, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        if not (isinstance(skew, numbers.Real) and 0.0 <= skew < 1.0):
            raise ValueError(
                "Argument `skew` must be a number from 0 to below 1: at 1 "
                "both sides of the divergence are the same. Received: "
                f"skew={skew!r}."
            )
        self.skew = float(skew)

    def call(self, teacher_logits, student_logits):
        return self.divergence(
            teacher_logits,
            student_logits,
            skew=self.skew,
            temperature=ops.convert_to_tensor(self.temperature),
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "skew": self.skew,
        }


@keras.saving.register_keras_serializable(package="keras_kd")
class SkewReverseKL(SkewKL):
    """DistiLLM's skew reverse KL, the better of the two in the paper.

    Draws the student to the teacher's likeliest answers, as `ReverseKL` does,
    at a bounded cost for a token that the teacher holds to be almost
    impossible. Usual weight: 1.

        value = T^2 * KL(q || (1 - skew) * p + skew * q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        skew: the student's share of the mixture, 0 (reverse KL) or more and
            below 1. The paper's is 0.1.
        temperature: as in `SkewKL`.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar.

    Raises:
        ValueError: as in `SkewKL`.

    Example:
    >>> loss = SkewReverseKL()
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.3173

    Reference: Ko et al., 2024, arXiv 2402.03898.
    """

    divergence = staticmethod(skew_reverse_kl)
