"""Reverse, skew and Jensen-Shannon divergences of class probabilities."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.arguments import received
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.losses.probabilities import log_probabilities
from keras_kd._src.losses.soft_targets import soft_targets


def reverse_kl(teacher_logits, student_logits, *, temperature=1.0):
    """Reverse KL: divergence of the student from the teacher, per position.

    The full-vocabulary form: the expectation over the student's tokens is a
    sum, where MiniLLM estimates it from sampled sequences.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^2 * sum_classes q * (log q - log p)

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Example:
    >>> value = reverse_kl([[2.0, 0.0]], [[0.0, 0.0]])
    >>> round(float(value[0]), 4)
    0.4338

    Reference: Gu et al., 2023, "MiniLLM: Knowledge Distillation of Large
    Language Models", arXiv 2306.08543.
    """
    teacher_log_probs, student_log_probs = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    divergence = kl_divergence(student_log_probs, teacher_log_probs)
    return temperature**2 * divergence


def skew_kl(teacher_logits, student_logits, *, skew=0.1, temperature=1.0):
    """Skew KL: KL to a mixture of the student with some of the teacher.

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
        excess, _ = _mixture_log_ratios(excess, skew)
    divergence = ops.sum(ops.exp(teacher_log_probs) * excess, axis=-1)
    return temperature**2 * divergence


def skew_reverse_kl(
    teacher_logits, student_logits, *, skew=0.1, temperature=1.0
):
    """Skew reverse KL: KL to a mixture of the teacher with some student.

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


def jensen_shannon(
    teacher_logits,
    student_logits,
    *,
    beta=0.5,
    normalize=False,
    temperature=1.0,
):
    """Generalized JSD (GKD): divergence of both sides from their mixture.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        m = beta * p + (1 - beta) * q
        value = T^2 * (beta * KL(p || m) + (1 - beta) * KL(q || m))
        divided by beta * (1 - beta) with normalize=True

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        beta: the teacher's share of the mixture, between 0 and 1. With
            `normalize=True` it may be 0 (forward KL) or 1 (reverse KL).
        normalize: whether to divide by `beta * (1 - beta)`: the value then goes
            continuously from forward KL to reverse KL. The published formula
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
    """The divergence divided by share * (1 - share), of log-probabilities."""
    above, below = _mixture_log_ratios(first - second, share)
    from_first = ops.sum(ops.exp(first) * above, axis=-1)
    from_second = ops.sum(ops.exp(second) * (below / share), axis=-1)
    return from_first / (1.0 - share) - from_second


def _mixture_log_ratios(difference, share):
    """Log a/m and log m/b of m = share * a + (1 - share) * b, from log a/b."""
    # Precise however small the share is (at most 1/2), and finite for every
    # finite difference. Beyond e^60 only a matters; float32 ends at e^88. A
    # sum of logs (logaddexp) would have a rounding error of 1e-7, which is
    # then divided by the share; log1p(share * expm1(difference)) has one
    # relative to its own size.
    beyond = ops.relu(difference - 60.0)
    within = difference - beyond
    below = ops.log1p(share * ops.expm1(within))
    return within - below, below + beyond


@keras.saving.register_keras_serializable(package="keras_kd")
class ReverseKL(LogitDivergence):
    """Reverse KL (MiniLLM): the student keeps to the most likely tokens.

    For language models, where a small student can't cover everything that a
    large teacher finds possible. `SoftTargets` spreads the student's
    probability over all of the teacher's tokens (mode covering); this loss
    draws it to the most likely ones (mode seeking). MiniLLM estimates the
    expectation by sampling sequences from the student (a policy gradient); this
    is the full-vocabulary form at the tokens of the given sequence. Usual
    weight: 1; with labels 0.5 to 1, and a `hard_weight` that makes the sum 1.

        value = T^2 * sum_classes q * (log q - log p), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        temperature: T, a positive number (1 for language models), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar in
        nats (times T^2).

    Raises:
        ValueError: `temperature` is not positive; class counts differ; there
            is one class only.

    Example:
    >>> loss = ReverseKL()
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.4338

    Reference: Gu et al., 2023, arXiv 2306.08543.
    """

    divergence = staticmethod(reverse_kl)


@keras.saving.register_keras_serializable(package="keras_kd")
class SkewKL(LogitDivergence):
    """Skew KL (SKL, DistiLLM): forward KL whose gradient can't explode.

    Forward KL has no bound where the student finds one of the teacher's tokens
    almost impossible. With a share of the teacher in the mixture, each token
    costs at most -log(skew). The authors' code drops the teacher's entropy, a
    constant; this is the whole divergence, 0 where both sides agree, with the
    same gradient. Usual weight: 1.

        value = T^2 * KL(p || skew * p + (1 - skew) * q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        skew: the teacher's share of the mixture, 0 (forward KL) or more and
            below 1. The paper's is 0.1.
        temperature: T, a positive number (the paper's is 1), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar in
        nats (times T^2).

    Raises:
        ValueError: `skew` or `temperature` is out of range; class counts
            differ; there is one class only.

    Example:
    >>> loss = SkewKL()
    >>> round(float(loss([[0.0, 99.0]], [[99.0, 0.0]])), 4)
    2.3026

    Reference: Ko et al., 2024, arXiv 2402.03898.
    """

    divergence = staticmethod(skew_kl)

    def __init__(self, skew=0.1, *, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        # At 1 both sides of the divergence would be the same.
        self.skew = number(skew, "skew", least=0.0, below=1.0)

    def options(self):
        return {"skew": self.skew}


@keras.saving.register_keras_serializable(package="keras_kd")
class SkewReverseKL(SkewKL):
    """Skew reverse KL (SRKL, DistiLLM): the better of the two in the paper.

    Draws the student to the teacher's most likely tokens, as `ReverseKL` does,
    with a bounded cost for a token that the teacher finds almost impossible.
    Usual weight: 1.

        value = T^2 * KL(q || (1 - skew) * p + skew * q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        skew: the student's share of the mixture, 0 (reverse KL) or more and
            below 1. The paper's is 0.1.
        temperature: as in `SkewKL`.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar in
        nats (times T^2).

    Raises:
        ValueError: as in `SkewKL`.

    Example:
    >>> loss = SkewReverseKL()
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.3173

    Reference: Ko et al., 2024, arXiv 2402.03898.
    """

    divergence = staticmethod(skew_reverse_kl)


@keras.saving.register_keras_serializable(package="keras_kd")
class JensenShannon(LogitDivergence):
    """Generalized JSD (GKD): from forward KL (`beta` 0) to reverse KL (1).

    For language models, on sequences from the data or from the student. Small
    `beta` acts like `SoftTargets` (cover all that the teacher finds possible),
    large `beta` like `ReverseKL` (keep to its most likely tokens). Either way
    the values are bounded (by the entropy of a coin of bias `beta`, times T^2),
    so one extreme token can't dominate a batch.

    The published formula goes to 0 towards beta = 0 and 1. The authors set it
    to the two KL divergences exactly at 0 and 1, so that there is a jump. Here
    `normalize=False` is the published formula, and refuses 0 and 1.
    `normalize=True` divides by beta * (1 - beta); the limits are then forward
    KL at 0 and reverse KL at 1, without a jump.

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
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar in
        nats (times T^2).

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

    divergence = staticmethod(jensen_shannon)

    def __init__(self, beta=0.5, *, normalize=False, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.beta = number(beta, "beta", least=0.0, most=1.0)
        self.normalize = normalize
        if self.beta in (0.0, 1.0) and not normalize:
            raise ValueError(
                "Argument `beta` must be above 0 and below 1 with "
                "`normalize=False`: at the ends the divergence is 0 "
                f"everywhere. {received('beta', beta)} With `normalize=True` "
                "0 is forward KL and 1 reverse KL."
            )

    def options(self):
        return {"beta": self.beta, "normalize": self.normalize}
