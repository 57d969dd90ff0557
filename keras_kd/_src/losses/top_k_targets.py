"""Top-k targets: the most likely classes, and one bucket for the rest."""

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.logit_divergence import LogitDivergence


def top_k_targets(
    target_indices, target_log_probs, student_logits, *, temperature=1.0
):
    """Top-k soft targets: KL over k classes and one bucket for all others.

    For targets stored as the k most likely classes of each token. The remaining
    probability is a target, too: without it the student would learn to give the
    k classes all of it.

        p_rest = 1 - sum_kept p;  q_rest = 1 - sum_kept q
        value = T^2 * (sum_kept p * (log p - log q)
                       + p_rest * (log p_rest - log q_rest))

    Args:
        target_indices: the kept classes, integers of shape `(..., k)`, all
            different for a token.
        target_log_probs: their log-probabilities at the same temperature, in
            nats, shape `(..., k)`. Not renormalized to a sum of 1.
        student_logits: shape `(..., classes)`, more classes than k.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Raises:
        ValueError: k is not below the number of classes.

    Example:
    >>> indices, log_probs = keep_top_k([[2.0, 0.0, 0.0]], k=1)
    >>> value = top_k_targets(indices, log_probs, [[0.0, 0.0, 0.0]])
    >>> round(float(value[0]), 4)
    0.433

    Reference: Anshumann et al., 2025, "Sparse Logit Sampling: Accelerating
    Knowledge Distillation in LLMs", arXiv 2503.16870.
    """
    (target_log_probs,) = in_full_precision(target_log_probs)
    (student_logits,) = bounded_logits(student_logits)
    target_indices = ops.cast(target_indices, "int32")
    _check_rest(target_indices.shape[-1], student_logits.shape)
    log_probs = ops.log_softmax(student_logits / temperature, axis=-1)
    kept = ops.take_along_axis(log_probs, target_indices, axis=-1)
    kept_part = ops.sum(
        ops.exp(target_log_probs) * (target_log_probs - kept), axis=-1
    )
    target_rest = _log_left_over(target_log_probs)
    student_rest = log_of_others(log_probs, target_indices)
    rest_part = ops.exp(target_rest) * (target_rest - student_rest)
    return temperature**2 * (kept_part + rest_part)


def keep_top_k(teacher_logits, *, k=50, temperature=1.0):
    """The k most likely classes and their log-probabilities, for storing.

        log_probs = the k largest of log_softmax(teacher_logits / T)

    Args:
        teacher_logits: shape `(..., classes)`.
        k: how many classes to keep.
        temperature: T, a positive number; use that of the training.

    Returns:
        Indices (int32) and log-probabilities in nats (float32), both of shape
        `(..., k)`, the most likely first.

    Example:
    >>> indices, log_probs = keep_top_k([[0.0, 2.0, 1.0]], k=2)
    >>> [int(i) for i in indices[0]], [round(float(v), 3) for v in log_probs[0]]
    ([1, 2], [-0.408, -1.408])

    Reference: Anshumann et al., 2025, arXiv 2503.16870.
    """
    (teacher_logits,) = bounded_logits(teacher_logits)
    log_probs = ops.log_softmax(teacher_logits / temperature, axis=-1)
    log_probs, indices = ops.top_k(log_probs, k)
    return ops.cast(indices, "int32"), log_probs


def _log_left_over(log_probs):
    """Log of 1 - sum(exp(log_probs)), with a floor."""
    # expm1 keeps small values. The floor is float32's precision next to 1;
    # rounded targets may even sum to more than 1.
    missing = ops.maximum(-ops.logsumexp(log_probs, axis=-1), 1e-7)
    return ops.log(-ops.expm1(-missing))


def log_of_others(log_probs, indices):
    """Log of the probability outside the k classes of `indices`, (..., k)."""
    # A sum, not 1 minus the rest: that would give a student that is confident
    # of the kept classes neither value nor gradient for the others.
    classes, k = log_probs.shape[-1], indices.shape[-1]
    tokens = ops.reshape(log_probs, (-1, classes))
    indices = ops.reshape(indices, (-1, 1))
    rows = ops.arange(ops.shape(tokens)[0], dtype="int32")
    rows = ops.reshape(ops.repeat(rows, k), (-1, 1))
    others = ops.scatter_update(
        tokens,
        ops.concatenate([rows, indices], axis=-1),
        ops.full_like(indices[:, 0], -1e30, dtype=tokens.dtype),
    )
    return ops.reshape(
        ops.logsumexp(others, axis=-1), ops.shape(log_probs)[:-1]
    )


def _check_rest(k, student_shape):
    if k >= student_shape[-1]:
        raise ValueError(
            "Top-k targets need more classes than are kept: nothing is left "
            f"for the rest. Received: k={k}, student outputs of shape "
            f"{tuple(student_shape)}. Lower k, or use "
            "`keras_kd.losses.SoftTargets`, which keeps all classes."
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class TopKTargets(LogitDivergence):
    """Top-k soft targets (sparse KD): k classes, and one bucket for the rest.

    For large vocabularies, where the tail of the distribution is mostly noise.
    The student is free to distribute the tail's probability over its classes,
    but its total is matched: dropping the tail would make the student
    overconfident. `keep_top_k` and `top_k_targets` do the same with stored
    targets. Usual weight: 1.

        value = T^2 * (sum_kept p * (log p - log q)
                       + p_rest * (log p_rest - log q_rest)), in nats
        p = softmax(teacher / T);  q = softmax(student / T)
        p_rest = 1 - sum_kept p;  q_rest = 1 - sum_kept q

    The value is a lower bound of that of `SoftTargets`, which it reaches as k
    grows. The paper's own method samples the kept classes; this is the top k,
    with the remaining probability kept.

    Args:
        k: how many classes to keep for each token, fewer than there are.
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
        ValueError: `k` is not a positive integer, or not below the number of
            classes; `temperature` is not positive; class counts differ.

    Example:
    >>> loss = TopKTargets(k=1)
    >>> round(float(loss([[2.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]])), 4)
    0.433

    Reference: Anshumann et al., 2025, arXiv 2503.16870.
    """

    def __init__(self, k=50, *, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.k = integer(k, "k")

    @staticmethod
    def divergence(teacher_logits, student_logits, *, k, temperature):
        kept = keep_top_k(teacher_logits, k=k, temperature=temperature)
        return top_k_targets(*kept, student_logits, temperature=temperature)

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        _check_rest(self.k, self.compared(student_shape))

    def options(self):
        return {"k": self.k}
