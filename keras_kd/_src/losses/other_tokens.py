"""Shared by losses between models of different tokenizers."""

from keras import ops


def entries_of(inputs, name):
    """An entry of a batch's inputs, or None where there is none."""
    return inputs.get(name) if isinstance(inputs, dict) else None


def check_other_classes(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both are logits with the same rank."""
    one = 1 in (teacher_shape[-1], student_shape[-1])
    if len(teacher_shape) == len(student_shape) > 1 and not one:
        return
    raise ValueError(
        f"{type(loss).__name__} compares logits of two classes or more, of "
        "the same rank on both sides. Received: teacher "
        f"{tuple(teacher_shape)}, student {tuple(student_shape)}. Tap the "
        "outputs of two language models, of shape (batch, length, classes)."
    )


def token_log_likelihoods(logits, labels):
    """The log-probability of each position's label only, in nats."""
    labels = ops.cast(ops.maximum(labels, 0), "int32")
    chosen = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    # Two reductions, instead of log-probabilities of all classes.
    return chosen - ops.logsumexp(logits, axis=-1)
