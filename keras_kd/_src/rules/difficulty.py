"""How hard samples are: for those that answer, and beside the labels."""

import math

from keras import ops

from keras_kd._src.losses.true_class import true_class


def log_probabilities(logits, temperature=1.0):
    """Log-probabilities in float32, whatever the models' precision.

    Example:
    >>> [round(float(v), 3) for v in log_probabilities([[0.0, 0.0]])[0]]
    [-0.693, -0.693]
    """
    logits = ops.cast(ops.convert_to_tensor(logits), "float32")
    return ops.log_softmax(logits / temperature, axis=-1)


def relative_entropy_of(logits, temperature=1.0):
    """How unsure each answer is: 0 for one class, 1 for all alike.

        p = softmax(logits / T)
        value = -sum_classes p * log p / log(classes)

    Args:
        logits: shape `(..., classes)`.
        temperature: T, a positive number.

    Returns:
        Shape `(...)`, from 0 to 1.

    Example:
    >>> values = relative_entropy_of([[9.0, 9.0, 9.0], [9.0, 0.0, 0.0]])
    >>> [round(float(value), 3) for value in values]
    [1.0, 0.002]
    """
    log_p = log_probabilities(logits, temperature)
    entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
    # One class has no entropy; rounding may give a little more than 1.
    largest = math.log(max(log_p.shape[-1], 2))
    return ops.clip(entropy / largest, 0.0, 1.0)


def cross_entropy_of(logits, labels):
    """Each answer's cross-entropy with its label, in nats.

    Args:
        logits: shape `(batch, classes)`.
        labels: class numbers, shape `(batch,)`, -1 for none.

    Returns:
        `(values, labelled)` of shape `(batch,)`; without a label the value is
        0 and `labelled` False.

    Example:
    >>> values, labelled = cross_entropy_of([[0.0, 0.0]] * 2, [1, -1])
    >>> [round(float(value), 3) for value in values]
    [0.693, 0.0]
    """
    log_p = log_probabilities(logits)
    is_true = true_class(labels, log_p)
    values = ops.sum(ops.where(is_true, -log_p, 0.0), axis=-1)
    return values, ops.any(is_true, axis=-1)
