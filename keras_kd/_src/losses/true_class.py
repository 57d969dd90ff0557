"""Checks of labels, shared by the losses and rules that read them."""

import keras
from keras import ops

from keras_kd._src.losses.positions import expand_to


def true_class(labels, logits):
    """True at the true class, in the logits' shape; False throughout for -1."""
    labels = ops.expand_dims(class_numbers(labels, logits), axis=-1)
    return ops.equal(labels, ops.arange(logits.shape[-1], dtype="int32"))


def class_numbers(labels, logits):
    """Labels as int32, with the axes of the logits except for the classes."""
    labels = one_set(labels)
    rank = len(logits.shape)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) >= rank:
        raise ValueError(
            "The labels must be class numbers, one per sample. Received: "
            f"labels of shape {tuple(labels.shape)} for logits of shape "
            f"{tuple(logits.shape)}. Turn one-hot labels into numbers with "
            "`keras.ops.argmax(labels, axis=-1)`."
        )
    return expand_to(ops.cast(labels, "int32"), rank - 1)


def one_set(labels):
    """The labels as a tensor; `ValueError` if they are for several outputs."""
    if keras.tree.is_nested(labels) and not _numbers(labels):
        keys = sorted(labels) if isinstance(labels, dict) else len(labels)
        raise ValueError(
            "The labels must be one set for all outputs, as a loss or rule "
            "that reads them can't choose. Received: labels of several "
            f"outputs, {keys}. Give `fit` one array, or name the output in "
            "the transfer, as in `Transfer(labels='cls')`."
        )
    return ops.convert_to_tensor(labels)


def _numbers(labels):
    """Whether a structure is nested lists of numbers, hence an array."""
    flat = keras.tree.flatten(labels)
    return not isinstance(labels, dict) and not any(
        hasattr(each, "shape") and len(each.shape) for each in flat
    )


def one_per_sample(numbers, name):
    """Labels or sample indices as int32 of shape `(batch,)`."""
    numbers = one_set(numbers)
    if len(numbers.shape) == 2 and numbers.shape[-1] == 1:
        numbers = ops.squeeze(numbers, axis=-1)
    if len(numbers.shape) != 1:
        raise ValueError(
            f"`{name}` must be integers, one per sample. Received: {name} "
            f"of shape {tuple(numbers.shape)}. Turn one-hot labels into "
            "numbers with `keras.ops.argmax(labels, axis=-1)`."
        )
    return ops.cast(numbers, "int32")
