"""Which weights are quantized, and which of their axes are channels."""

from typing import NamedTuple

import numpy as np
from keras import layers
from keras import ops

from keras_kd._src.keras_compat import weight_attribute


class QuantizedWeight(NamedTuple):
    """A weight of a layer."""

    attribute: str
    axes: tuple  # Its channel axes.


_CONV = layers.Conv1D, layers.Conv2D, layers.Conv3D
_TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D
_SEPARABLE = layers.SeparableConv1D, layers.SeparableConv2D
WITH_WEIGHTS = (
    *_CONV,
    *_TRANSPOSED,
    *_DEPTHWISE,
    *_SEPARABLE,
    layers.Dense,
    layers.EinsumDense,
    layers.Embedding,
)


def quantized_weights(layer):
    """The weights of a built layer that are quantized, in order."""
    named = _named(layer)
    return [
        QuantizedWeight(weight_attribute(layer, name), axes)
        for name, axes in named.items()
    ]


def output_kernel(layer):
    """The last weight of a layer, whose channels are its outputs'."""
    return quantized_weights(layer)[-1]


def _named(layer):
    if isinstance(layer, layers.Embedding):
        # One grid, as runtimes look up rows in a table with one scale.
        return {"embeddings": ()}
    if isinstance(layer, layers.EinsumDense):
        return {"kernel": _einsum_outputs(layer.equation)}
    if isinstance(layer, layers.Dense):
        return {"kernel": (1,)}
    last = layer.rank + 1
    if isinstance(layer, _SEPARABLE):
        return {
            "depthwise_kernel": (last - 1, last),
            "pointwise_kernel": (last,),
        }
    if isinstance(layer, _DEPTHWISE):
        return {"kernel": (last - 1, last)}
    if isinstance(layer, _TRANSPOSED):
        return {"kernel": (last - 1,)}
    return {"kernel": (last,)}


def _einsum_outputs(equation):
    kernel, output = equation.replace("...", "").split(",")[1].split("->")
    return tuple(n for n, name in enumerate(kernel) if name in output)


def scale_channels(layer, scale):
    """Multiplies a layer's output channels, by its weights and bias."""
    attribute, axes = output_kernel(layer)
    kernel = getattr(layer, attribute)
    shape = [n if a in axes else 1 for a, n in enumerate(kernel.shape)]
    values = ops.convert_to_numpy(kernel) * np.reshape(scale, shape)
    kernel.assign(values)
    if layer.bias is not None:
        layer.bias.assign(ops.convert_to_numpy(layer.bias) * scale)
