"""Difficulty of samples: by entropy, or by cross-entropy with labels."""

import math

from keras import ops

from keras_kd._src.losses.true_class import true_class


def log_probabilities(logits, temperature=1.0):
    """Log-probabilities in float32, whatever the models' precision."""
    logits = ops.cast(ops.convert_to_tensor(logits), "float32")
    return ops.log_softmax(logits / temperature, axis=-1)


def normalized_entropy(logits, temperature=1.0):
    """Entropy / log(classes), shape `(...)`: 0 if certain, 1 if uniform."""
    log_p = log_probabilities(logits, temperature)
    entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
    # A single class has entropy 0; rounding may give slightly more than 1.
    largest = math.log(max(log_p.shape[-1], 2))
    return ops.clip(entropy / largest, 0.0, 1.0)


def label_cross_entropy(logits, labels):
    """`(nats, labeled)`, each `(batch,)`; 0 and False without a label."""
    log_p = log_probabilities(logits)
    is_true = true_class(labels, log_p)
    values = ops.sum(ops.where(is_true, -log_p, 0.0), axis=-1)
    return values, ops.any(is_true, axis=-1)
