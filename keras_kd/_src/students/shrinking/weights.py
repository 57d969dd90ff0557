"""Weights of a larger layer for a smaller one: evenly spread channels."""

import keras
import numpy as np

from keras_kd._src.keras_compat import all_layers


def selected(weight, shape):
    """A smaller array of a larger one's entries, evenly spread on each axis.

        index of entry i of an axis: floor(i * size / smaller size)

    Of equal sizes all take the same channels, so that what one layer makes is
    what the next one was trained to take; also behind a `Flatten`, in the
    gates of an `LSTM` and where parts of one rate are concatenated, as the
    rule repeats itself with each part.

    Args:
        weight: array.
        shape: the smaller shape, of the same rank.

    Returns:
        Array of that shape.

    Example:
    >>> selected(np.arange(8), (4,)).tolist()
    [0, 2, 4, 6]

    Reference: Xu et al., 2024, "Initializing Models with Larger Ones",
    arXiv 2311.18823 (uniform element selection; the authors' code rounds
    between the first entry and the last where the sizes don't divide).
    """
    for axis, (size, smaller) in enumerate(zip(weight.shape, shape)):
        if size != smaller:
            places = np.arange(smaller) * size // smaller
            weight = np.take(weight, places, axis=axis)
    return weight


def take_weights(source, target, *, learnt=True):
    """Gives a new layer the weights of the one that it was made from.

    Args:
        source: a layer.
        target: a layer of the same class, of equal or smaller weights.
        learnt: False for those that are not learnt alone, of layers that are
            adapted to data (`Normalization`).

    Raises:
        ValueError: the layers have other weights.

    Example:
    >>> source, target = keras.layers.Dense(4), keras.layers.Dense(2)
    >>> source.build((None, 3)), target.build((None, 3))
    (None, None)
    >>> take_weights(source, target)
    >>> first = keras.ops.convert_to_numpy(source.kernel)[:, [0, 2]]
    >>> bool((keras.ops.convert_to_numpy(target.kernel) == first).all())
    True
    """
    _check(source, target)
    if learnt:
        _assign(source, target)
    for old, new in zip(_with_inner(source), _with_inner(target)):
        if hasattr(old, "finalize_state"):
            _assign(old, new)
            new.finalize_state()


def _assign(source, target):
    for weight, variable in zip(source.weights, target.weights):
        value = keras.ops.convert_to_numpy(weight)
        variable.assign(selected(value, variable.shape))


def _with_inner(layer):
    return all_layers(layer)


def _check(source, target):
    shapes = [
        [tuple(weight.shape) for weight in layer.weights]
        for layer in (source, target)
    ]
    fit = len(shapes[0]) == len(shapes[1]) and all(
        len(old) == len(new) and all(a >= b for a, b in zip(old, new))
        for old, new in zip(*shapes)
    )
    if not fit:
        raise ValueError(
            f"The layer {source.name!r} (of type {type(source).__name__}), "
            "made again from its config, has other weights. Received: "
            f"weights of shapes {shapes[0]} and {shapes[1]}. Its `get_config` "
            "must hold all that its weights depend on."
        )
