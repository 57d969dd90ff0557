"""Generalised Jensen-Shannon divergence: between forward and reverse KL."""

import numbers

import keras
from keras import ops

from keras_kd._src.losses.class_counts import check_two_classes
from keras_kd._src.losses.reverse_kl import log_probabilities
from keras_kd._src.losses.reverse_kl import reverse_kl
from keras_kd._src.losses.soft_targets import soft_targets
from keras_kd._src.losses.tempered_loss import TemperedLoss


def jensen_shannon(
    teacher_logits,
    student_logits,
    *,
    beta=0.5,
    normalize=False,
    temperature=1.0,
):
    """Divergence of teacher and student from a mixture of both.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        m = beta * p + (1 - beta) * q
        value = T^2 * (beta * KL(p || m) + (1 - beta) * KL(q || m))
        divided by beta * (1 - beta) where normalize=True

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        beta: the teacher's share of the mixture, between 0 and 1. With
            `normalize=True` it may be 0 (forward KL) or 1 (reverse KL).
        normalize: whether to divide by `beta * (1 - beta)`, which joins the
            two divergences without a jump. The published formula, without it,
            goes to 0 towards both ends.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Example:
    >>> teacher, student = [[2.0, 0.0]], [[0.0, 0.0]]
    >>> round(float(jensen_shannon(teacher, student)[0]), 4)
    0.0895

    Reference: Agarwal et al., 2023, "On-Policy Distillation of Language
    Models: Learning from Self-Generated Mistakes" (GKD), arXiv 2306.13649.
    """
    if normalize and beta in (0, 1):
        end = soft_targets if beta == 0 else reverse_kl
        return end(teacher_logits, student_logits, temperature=temperature)
    first, second = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    share = beta
    if share > 0.5:  # The divergence is the same with the sides exchanged.
        first, second, share = second, first, 1.0 - share
    divergence = _normalized(first, second, share)
    scale = 1.0 if normalize else beta * (1.0 - beta)
    return scale * temperature**2 * divergence


def _normalized(first, second, share):
    """The divergence over share * (1 - share), of log-probabilities."""
    above, below = mixture_log_ratios(first - second, share)
    from_first = ops.sum(ops.exp(first) * above, axis=-1)
    from_second = ops.sum(ops.exp(second) * (below / share), axis=-1)
    return from_first / (1.0 - share) - from_second


def mixture_log_ratios(difference, share):
    """Where the mixture m = share * a + (1 - share) * b lies, of log a - log b.

    Precise however small the share is, and finite for every finite
    difference.

    Args:
        difference: log a - log b, in nats, of any shape.
        share: of a in the mixture, a Python float between 0 and 1, in the
            lower half for full precision.

    Returns:
        log a - log m and log m - log b, in nats, of the shape of `difference`.

    Example:
    >>> above, below = mixture_log_ratios(ops.log(3.0), 0.5)  # m = 2 b
    >>> round(float(above), 4), round(float(below), 4)
    (0.4055, 0.6931)

    Reference: Agarwal et al., 2023, arXiv 2306.13649 (the mixture).
    """
    # Beyond e^60 only a counts; float32 ends at e^88. A sum of logs
    # (logaddexp) would round at 1e-7, which is then divided by the share;
    # log1p(share * expm1(difference)) rounds relative to its own size.
    beyond = ops.relu(difference - 60.0)
    within = difference - beyond
    below = ops.log1p(share * ops.expm1(within))
    return within - below, below + beyond


@keras.saving.register_keras_serializable(package="keras_kd")
class JensenShannon(TemperedLoss):
    """Generalised knowledge distillation's divergence, from KL to reverse KL.

    For language models, on sequences from the data or from the student. Small
    `beta` acts like `SoftTargets` (cover what the teacher holds possible),
    large `beta` like `ReverseKL` (keep to its likeliest answers), and either
    way the values are bounded (by the entropy of a coin of bias `beta`, times
    T^2): one absurd token can't dominate a batch.

    The published formula goes to 0 towards beta = 0 and 1, and the authors
    set the ends themselves to the two KL divergences, so that there is a jump.
    Here `normalize=False` is the published formula and refuses the ends;
    `normalize=True` divides by beta * (1 - beta), whose limits are forward KL
    at 0 and reverse KL at 1, continuously.

        m = beta * p + (1 - beta) * q
        value = T^2 * (beta * KL(p || m) + (1 - beta) * KL(q || m)), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Usual weight: 1. The gradient shrinks with beta * (1 - beta) (a quarter at
    0.5) unless normalized, so raise the weight next to labels.

    Args:
        beta: the teacher's share of the mixture; the paper uses 0.1, 0.5 and
            0.9. Above 0 and below 1; with `normalize=True` also 0 and 1.
        normalize: whether to divide by `beta * (1 - beta)`.
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
        ValueError: `beta` or `temperature` is out of range; class counts
            differ; there is one class only.

    Example:
    >>> teacher, student = [[2.0, 0.0]], [[0.0, 0.0]]
    >>> round(float(JensenShannon()(teacher, student)), 4)
    0.0895
    >>> loss = JensenShannon(beta=1.0, normalize=True)  # reverse KL
    >>> round(float(loss(teacher, student)), 4)
    0.4338

    Reference: Agarwal et al., 2023, arXiv 2306.13649.
    """

    expects_logits = True

    def __init__(self, beta=0.5, *, normalize=False, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.beta = _checked(beta, normalize)
        self.normalize = normalize

    def call(self, teacher_logits, student_logits):
        return jensen_shannon(
            teacher_logits,
            student_logits,
            beta=self.beta,
            normalize=self.normalize,
            temperature=ops.convert_to_tensor(self.temperature),
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "beta": self.beta,
            "normalize": self.normalize,
        }


def _checked(beta, normalize):
    inside = isinstance(beta, numbers.Real) and 0.0 <= beta <= 1.0
    if not inside or (beta in (0, 1) and not normalize):
        raise ValueError(
            "Argument `beta` must be a number above 0 and below 1: at the ends "
            "the divergence is 0 everywhere. Received: "
            f"beta={beta!r}, normalize={normalize!r}. With `normalize=True` "
            "0 is forward KL and 1 reverse KL."
        )
    return float(beta)
