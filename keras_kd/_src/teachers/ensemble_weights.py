"""The weights of an ensemble's members, for one sample or for all."""

import math

import numpy as np
from keras import ops

from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.true_class import true_class
from keras_kd._src.teachers.member import TINY

# The cross-entropy of a member that does not know the true class is infinite.
# All such members get the same number instead, and so the same weight.
_LARGEST = 1e6
NAMED = ("learned", "confidence", "entropy")


def mean_of_probabilities(logits, weights, temperature=1.0):
    """Logits whose softmax is the weighted mean of the members' softmax.

    An `Ensemble` averages in this way; use it for teachers that you average
    yourself.

        result = T * log(sum_k weight_k softmax(logits_k / T))

    Args:
        logits: shape `(batch, members, classes)`.
        weights: weights with sum 1, shape `(members,)` or `(batch, members)`.
        temperature: T, positive.

    Returns:
        Logits of shape `(batch, classes)`.

    Example:
    >>> logits = 2.0 * ops.log([[[0.9, 0.1], [0.3, 0.7]]])
    >>> mean = mean_of_probabilities(logits, [0.5, 0.5], temperature=2.0)
    >>> [round(float(p), 2) for p in ops.softmax(mean / 2.0)[0]]
    [0.6, 0.4]
    """
    logits, weights = in_full_precision(logits, weights)
    log_p = ops.log_softmax(logits / temperature, axis=-1)
    log_weights = ops.log(ops.maximum(weights, TINY))
    log_p = log_p + ops.expand_dims(log_weights, axis=-1)
    return temperature * ops.logsumexp(log_p, axis=-2)


def confidence_weights(logits, labels):
    """Confidence-aware weights (CA-MKD): members that are right count more.

    For members that are good at different samples: the wrong ones would spoil
    the mean, and the labels show which these are.

        cross_entropy_k = -log(softmax(logits_k)[label])
        weight_k = (1 - softmax(cross_entropy)_k) / (members - 1)

    with the softmax over the members; the weights of a sample add up to 1. A
    sample without a label (-1) gets equal weights, a single member gets 1.

    Args:
        logits: shape `(batch, members, classes)`.
        labels: class numbers, shape `(batch,)` or `(batch, 1)`, or None.

    Returns:
        Weights of shape `(batch, members)`.

    Raises:
        ValueError: the labels are one-hot.

    Example:
    >>> logits = ops.log([[[0.9, 0.1], [0.3, 0.7]]])
    >>> weights = confidence_weights(logits, [0])
    >>> [round(float(weight), 2) for weight in weights[0]]
    [0.75, 0.25]

    Reference: Zhang, Chen and Wang, 2022, "Confidence-Aware Multi-Teacher
    Knowledge Distillation", arXiv 2201.00007.
    """
    (logits,) = in_full_precision(logits)
    if labels is None:
        return _lower_is_better(ops.zeros_like(logits[..., 0]))
    is_true = ops.expand_dims(true_class(labels, logits[:, 0]), axis=1)
    # Not a product: 0 times the infinite logit of an unknown class is NaN.
    log_p = ops.where(is_true, ops.log_softmax(logits, axis=-1), 0.0)
    return _lower_is_better(-ops.sum(log_p, axis=-1))


def entropy_weights(logits):
    """Entropy weights: confident members count more, without labels.

        entropy_k = -sum_c p_k(c) log p_k(c),  p_k = softmax(logits_k)
        weight_k = (1 - softmax(entropy)_k) / (members - 1)

    This is `confidence_weights` with the entropy in place of the cross-entropy.
    It helps only if the members are more confident where they are right.

    Args:
        logits: shape `(batch, members, classes)`.

    Returns:
        Weights of shape `(batch, members)`.

    Example:
    >>> weights = entropy_weights([[[9.0, 0.0], [0.0, 0.0]]])
    >>> [round(float(weight), 2) for weight in weights[0]]
    [0.67, 0.33]

    Reference: after Zhang, Chen and Wang, 2022, "Confidence-Aware
    Multi-Teacher Knowledge Distillation", arXiv 2201.00007; the entropy is
    this library's.
    """
    (logits,) = in_full_precision(logits)
    log_p = ops.log_softmax(logits, axis=-1)
    return _lower_is_better(-ops.sum(ops.exp(log_p) * log_p, axis=-1))


def _lower_is_better(badness):
    members = badness.shape[-1]
    if members == 1:
        return ops.ones_like(badness)
    badness = ops.minimum(badness, _LARGEST)
    return (1.0 - ops.softmax(badness, axis=-1)) / (members - 1)


def checked_weights(weights, members):
    """The argument `weights` of an ensemble: a name, or numbers of sum 1."""
    if isinstance(weights, str) and weights in NAMED:
        return weights
    try:
        numbers = [1.0] * members if weights is None else list(weights)
        numbers = [float(number) for number in numbers]
    except (TypeError, ValueError):
        numbers = []
    fine = len(numbers) == members and all(0 <= n < math.inf for n in numbers)
    if not fine or sum(numbers) == 0:
        raise ValueError(
            "Argument `weights` must be None, one of "
            f"{', '.join(map(repr, NAMED))}, or a list of one number per "
            "member, none negative, not all zero. Received: "
            f"weights={weights!r} for {members} members."
        )
    return [number / sum(numbers) for number in numbers]


def check_known(table, average, weighting):
    """Raises a `ValueError` if too few members know a class."""
    fixed = not isinstance(weighting, str)
    counts = np.array(weighting) > 0 if fixed else np.ones(len(table), bool)
    known = table >= 0
    missing = np.flatnonzero(~known[counts].any(axis=0)).tolist()
    if missing:
        raise ValueError(
            "Each class must be known to a member whose weight is not zero. "
            f"Received: {table.shape[1]} classes, of which {missing[:5]} are "
            "known to none. Check `num_classes`, `weights` and the members' "
            "`classes`."
        )
    if average == "logits" and not known.all():
        raise ValueError(
            "Logits can be averaged only where all members know all classes. "
            "Received: average='logits', and members with the classes "
            f"{[np.flatnonzero(row).tolist()[:9] for row in known]}. Use "
            "average='probabilities'."
        )
