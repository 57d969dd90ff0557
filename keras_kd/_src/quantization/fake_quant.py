"""Fake quantization: rounds values to a quantized grid, as floats."""

import keras
from keras import ops

# The step of a narrower range would be too close to zero for float32.
NARROWEST = 1e-6
# Only masks have values as large as this. In a range that includes them, all
# other values would fall into one step.
UNBOUNDED = 1e8


def per_tensor(values, low, high, bits):
    """Values on the grid of one range; if `bits` is None, only clipped to it.

    The range always includes zero, which padding and ReLU need exactly.
    """
    low, high = with_zero(low, high)
    if bits is None:
        low, high = (ops.cast(end, values.dtype) for end in (low, high))
        return ops.clip(values, low, high)
    return keras.quantizers.fake_quant_with_min_max_vars(
        values, low, high, num_bits=bits
    )


def with_zero(low, high):
    """The ends of a range that includes zero and is wide enough to divide by.

    An end at zero gets no gradient: else values that are exactly zero, as
    after ReLU, would count as clipped there.
    """
    low = ops.where(low < 0, low, ops.zeros_like(low))
    high = ops.where(high > 0, high, ops.zeros_like(high))
    return low, ops.maximum(high, low + NARROWEST)


def per_channel(weight, limit, bits, axes):
    """A weight on a symmetric grid for each channel, with an exact zero.

    Args:
        weight: the weight.
        limit: the largest absolute value of each channel's grid.
        bits: how many bits a value has; `2^bits - 1` values are used.
        axes: the weight's channel axes; if empty, there is one grid for all.
    """
    if not axes:
        limit = ops.reshape(limit, ())
        return keras.quantizers.fake_quant_with_min_max_vars(
            weight, -limit, limit, num_bits=bits, narrow_range=True
        )
    order, back = _channels_last(weight.shape, axes)
    table = ops.transpose(weight, order)
    shape = table.shape
    table = keras.quantizers.fake_quant_with_min_max_vars(
        ops.reshape(table, (-1, limit.shape[0])),
        -limit,
        limit,
        num_bits=bits,
        narrow_range=True,
        axis=1,
    )
    return ops.transpose(ops.reshape(table, shape), back)


def largest(weight, axes):
    """The largest absolute value of each channel."""
    others = [axis for axis in range(len(weight.shape)) if axis not in axes]
    found = ops.max(ops.abs(weight), axis=others)
    return ops.maximum(ops.reshape(found, (-1,)), NARROWEST)


def _channels_last(shape, axes):
    others = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*others, *axes]
    return order, [order.index(axis) for axis in range(len(shape))]
