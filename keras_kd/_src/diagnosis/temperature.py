"""Checks of a temperature against the teacher's confidence."""

import math

import numpy as np
from keras import ops

from keras_kd._src.diagnosis.finding import Finding

# 1, and the higher temperatures that are suggested, the lowest first.
CHOICES = 1.0, 4.0, 8.0, 16.0
# Above this mean probability of the most likely class, soft targets say little
# more than labels do.
SURE = 0.95
# A share of the entropy of equal classes above which they are all but equal.
EQUAL = 0.97


def confidence(logits, temperature):
    """Means of a batch: entropy, the largest probability; log(classes).

    Args:
        logits: shape `(..., classes)`.
        temperature: a positive number or a scalar tensor.
    """
    log_probs = ops.log_softmax(logits / temperature, axis=-1)
    probs = ops.exp(log_probs)
    # Classes that are masked with minus infinity have no part.
    products = ops.where(probs > 0.0, probs * log_probs, 0.0)
    entropy = -ops.sum(products, axis=-1)
    first = ops.max(probs, axis=-1)
    most = math.log(logits.shape[-1])
    means = ops.mean(entropy), ops.mean(first)
    return ops.stack([*means, ops.cast(most, means[0].dtype)])


def confidences(logits, temperature):
    """`confidence` at each of `CHOICES`, and last at a transfer's own."""
    logits = ops.stop_gradient(ops.cast(logits, "float32"))
    return ops.stack(
        [confidence(logits, each) for each in (*CHOICES, temperature)]
    )


def judge_temperature(transfer, number, means):
    """What is to be said of a transfer's temperature.

    Args:
        transfer: the `Transfer`.
        number: its temperature now.
        means: what `confidences` returns, mean over the batches.
    """
    *choices, (entropy, first, most) = np.asarray(means).tolist()
    at_one = choices[0]
    too_sure = first > SURE and number < CHOICES[-1]
    too_soft = entropy > EQUAL * most and number > 1.0
    suggested, remedy = number, ""
    if too_sure:
        suggested = _first_unsure(choices, number)
        remedy = (
            "Soft targets then say little more than labels do. With few "
            f"samples, some hundreds, try {suggested:g}; with many it makes "
            "little difference. Compare on held-out data."
        )
    elif too_soft:
        suggested = 1.0
        remedy = "All classes are nearly equal then. Try 1."
    figures = {
        "temperature": number,
        "suggested": suggested,
        "entropy_at_1": at_one[0],
        "top_1_at_1": at_one[1],
        "entropy": entropy,
        "top_1": first,
    }
    seen = (
        f"The teacher's most likely class has a probability of "
        f"{at_one[1]:.3f} in the mean, and {first:.3f} at temperature "
        f"{number:g}; the entropy is {at_one[0]:.3f} nats, and {entropy:.3f} "
        f"of at most {most:.3f}."
    )
    severity = "look" if too_sure or too_soft else "fine"
    name = f"temperature, {transfer.name}"
    return Finding(name, severity, seen, remedy, figures)


def _first_unsure(choices, number):
    """The first higher temperature at which the teacher is not too sure."""
    higher = [
        (temperature, first)
        for temperature, (_, first, _) in zip(CHOICES, choices)
        if temperature > number
    ]
    return next((t for t, first in higher if first <= SURE), higher[-1][0])
