"""Folds batch normalization into the layers before it."""

import functools

import numpy as np
from keras import layers
from keras import ops

from keras_kd._src.quantization.weights import WITH_WEIGHTS
from keras_kd._src.quantization.weights import scale_channels


def fold_all(uses):
    """Folds all normalizations that can be folded, and returns them."""
    pairs = _foldable(uses)
    for layer, norm in pairs:
        _fold(layer, norm)
    return [norm for _, norm in pairs]


def _foldable(uses):
    """Pairs of a layer and the batch normalization right after it."""
    pairs = []
    for layer in uses.parts.values():
        users = uses.users_of(layer) if _takes_scale(layer) else []
        norm = users[0] if len(users) == 1 else None
        is_norm = isinstance(norm, layers.BatchNormalization)
        if is_norm and uses.calls_of(norm) == 1 and _fits(layer, norm):
            pairs.append((layer, norm))
    return pairs


def _takes_scale(layer):
    is_linear = getattr(layer, "activation", None) is None or (
        layer.activation.__name__ == "linear"
    )
    other = layers.Embedding, layers.EinsumDense
    takes = isinstance(layer, WITH_WEIGHTS) and not isinstance(layer, other)
    return takes and is_linear


def _fits(layer, norm):
    first = getattr(layer, "data_format", None) == "channels_first"
    rank = getattr(layer, "rank", None)
    last = None if rank is None else rank + 1
    return norm.axis == 1 if first else norm.axis in (-1, last)


def _fold(layer, norm):
    """Multiplies a normalization's scale into the layer; a shift remains.

    Layer and normalization together compute the same as before with the moving
    statistics, which are fixed from here on.
    """
    mean, variance = map(
        ops.convert_to_numpy, (norm.moving_mean, norm.moving_variance)
    )
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * ops.convert_to_numpy(norm.gamma)
        norm.gamma.assign(np.ones_like(mean))
        norm.gamma.trainable = False
    shift = -mean * scale
    if norm.beta is not None:
        shift = shift + ops.convert_to_numpy(norm.beta)
        norm.beta.assign(shift)
        shift = np.zeros_like(mean)
    scale_channels(layer, scale)
    norm.moving_mean.assign(-shift)
    norm.moving_variance.assign(np.full_like(mean, 1 - norm.epsilon))
    _stop_statistics(norm)


def _stop_statistics(norm):
    original = norm.call

    @functools.wraps(original)
    def call(*args, **kwargs):
        return original(*args, **{**kwargs, "training": False})

    object.__setattr__(norm, "call", call)
