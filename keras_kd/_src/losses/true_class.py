"""What the losses share that look at the labels: the true class, checked."""

import math

from keras import ops


def true_class(labels, logits):
    """Where the true class is, for losses that treat it apart.

    Args:
        labels: class numbers of any dtype, shape `(batch,)`, `(batch, 1)` or
            `(batch, ...)`, one a position; -1 for none.
        logits: shape `(batch, ..., classes)`.

    Returns:
        Booleans that broadcast to the logits; no class is true for -1.

    Raises:
        ValueError: the labels are one-hot, or of too many axes.

    Example:
    >>> true_class([1.0, -1.0], ops.zeros((2, 2))).shape == (2, 2)
    True
    """
    if isinstance(labels, dict):
        raise ValueError(
            "The labels must be one set for all outputs. Received: labels told "
            f"apart by output, {sorted(labels)}. A loss or rule that reads the "
            "labels can't choose among them: give `fit` one array."
        )
    labels = ops.convert_to_tensor(labels)
    rank = len(logits.shape)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) >= rank:
        raise ValueError(
            "The labels must be class numbers, one a sample. Received: labels "
            f"of shape {tuple(labels.shape)} for logits of shape "
            f"{tuple(logits.shape)}. Turn one-hot labels into numbers with "
            "`keras.ops.argmax(labels, axis=-1)`."
        )
    labels = ops.cast(labels, "int32")
    while len(labels.shape) < rank:
        labels = ops.expand_dims(labels, axis=-1)
    return ops.equal(labels, ops.arange(logits.shape[-1], dtype="int32"))


def number_of(value, name, least=0.0, most=math.inf):
    """The argument as a float; least <= value < most.

    Raises:
        ValueError: it is no number, or not in that range.

    Example:
    >>> number_of(1, "margin")
    1.0
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number < most:
        raise ValueError(
            f"Argument `{name}` must be a number of {least:g} or more, below "
            f"{most:g}. Received: {name}={value!r} (of type "
            f"{type(value).__name__})."
        )
    return number


def one_a_sample(numbers, name):
    """Labels or places in the data as int32 of shape `(batch,)`.

    Raises:
        ValueError: they have more axes.

    Example:
    >>> one_a_sample([[3.0], [1.0]], "labels").shape == (2,)
    True
    """
    numbers = ops.convert_to_tensor(numbers)
    if len(numbers.shape) == 2 and numbers.shape[-1] == 1:
        numbers = ops.squeeze(numbers, axis=-1)
    if len(numbers.shape) != 1:
        raise ValueError(
            f"`{name}` must be whole numbers, one a sample. Received: {name} "
            f"of shape {tuple(numbers.shape)}. Turn one-hot labels into "
            "numbers with `keras.ops.argmax(labels, axis=-1)`."
        )
    return ops.cast(numbers, "int32")
