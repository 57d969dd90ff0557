"""Losses that keep something of each sample: one memory, one view."""

import keras

from keras_kd._src.distillation.hyperparameter import Hyperparameter


def memories_of(loss):
    """The layers in which a loss keeps something of each sample.

    Example:
    >>> import keras_kd as kd
    >>> memories_of(kd.losses.SoftTargets())
    []
    """
    return [
        part
        for part in vars(loss).values()
        if isinstance(part, keras.layers.Layer)
        and not isinstance(part, Hyperparameter)
    ]


def check_memories(transfers):
    """Raises a `ValueError` if two transfers write to one loss's memory.

    Example:
    >>> check_memories([])
    """
    seen = {}
    for transfer in transfers:
        for memory in memories_of(transfer.loss):
            if id(memory) in seen:
                raise ValueError(
                    f"{type(transfer.loss).__name__} keeps something of each "
                    "sample, for one transfer. Received: one loss in the "
                    f"transfers {seen[id(memory)]!r} and {transfer.name!r}. "
                    "Make a loss for each."
                )
            seen[id(memory)] = transfer.name
