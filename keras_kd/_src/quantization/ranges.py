"""Layers that hold the quantization range of a tensor or a weight."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.backend import of_all_replicas
from keras_kd._src.quantization.fake_quant import UNBOUNDED
from keras_kd._src.quantization.fake_quant import largest
from keras_kd._src.quantization.fake_quant import per_channel
from keras_kd._src.quantization.fake_quant import per_tensor
from keras_kd._src.quantization.fake_quant import with_zero

LEARNED, MOVING_AVERAGE = KINDS = "learned", "moving_average"
# The share of the previous range in a moving average, in each step.
MOMENTUM = 0.99


class ActivationRange(keras.layers.Layer):
    """Rounds a tensor to a grid between a minimum and a maximum."""

    def __init__(self, bits, kind, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.bits, self.kind = bits, kind
        # While a model is calibrated: each batch's smallest and largest value.
        self.seen = None
        self.is_bounded = True

    def build(self, _=None):
        learned = self.kind == LEARNED
        self.minimum, self.maximum = (
            self.add_weight(
                shape=(),
                initializer="zeros",
                trainable=learned,
                aggregation="mean" if learned else "only_first_replica",
                name=name,
            )
            for name in ("minimum", "maximum")
        )

    def call(self, values, training=False):
        if self.seen is not None:
            self._watch(values)
        if self.seen is not None or not self.is_bounded:
            return values
        if training and self.kind == MOVING_AVERAGE:
            self._follow(values)
        dtype = values.dtype
        low, high = self.minimum.value, self.maximum.value
        return ops.cast(per_tensor(values, low, high, self.bits), dtype)

    def _watch(self, values):
        values = ops.convert_to_numpy(values)
        self.seen.extend([values.min(), values.max()] if values.size else [])

    def _follow(self, values):
        values = ops.cast(ops.stop_gradient(values), "float32")
        low, high = (
            ops.reshape(end(values), (1,)) for end in (ops.min, ops.max)
        )
        low, high = of_all_replicas(low, high)
        for weight, found in (
            (self.minimum, ops.min(low)),
            (self.maximum, ops.max(high)),
        ):
            weight.assign(MOMENTUM * weight + (1 - MOMENTUM) * found)

    def calibrate(self):
        """Sets the range to the smallest and largest value observed."""
        seen, self.seen = self.seen, None
        if np.any(np.isnan(seen)):
            raise ValueError(
                "A model is calibrated with samples at which all of its values "
                f"are numbers. Received: samples with which {self.name!r} has "
                "a value that is NaN. Look for NaN in them and in the weights."
            )
        if seen:
            self.take(min(seen), max(seen))

    def take(self, low, high):
        """Sets the range; with an unbounded one, values are not rounded."""
        self.is_bounded = bool(max(-low, high) < UNBOUNDED)
        for weight, end in ((self.minimum, low), (self.maximum, high)):
            weight.assign(end if self.is_bounded else 0.0)
            weight.trainable = self.is_bounded and self.kind == LEARNED

    @property
    def ends(self):
        """The minimum and the maximum, as floats."""
        if not self.is_bounded:
            return -np.inf, np.inf
        ends = with_zero(self.minimum.value, self.maximum.value)
        return tuple(float(ops.convert_to_numpy(end)) for end in ends)


class WeightLimit(keras.layers.Layer):
    """Rounds a weight to a symmetric grid for each channel."""

    def __init__(self, bits, kind, axes, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.bits, self.kind, self.axes = bits, kind, axes

    def build(self, shape):
        channels = int(np.prod([shape[axis] for axis in self.axes]))
        if self.kind == LEARNED:
            self.limit = self.add_weight(
                shape=(channels,), initializer="ones", name="limit"
            )

    def call(self, weight):
        # The grid ends at the largest value at most: exporters know only the
        # values, and would else choose another grid.
        limit = top = ops.stop_gradient(largest(weight, self.axes))
        if self.kind == LEARNED:
            learned = self.limit.value
            limit = ops.where(learned < top, learned, top)
            limit = ops.maximum(limit, 0.01 * top)
        return per_channel(weight, limit, self.bits, self.axes)

    def calibrate(self, weight):
        """Sets the limits to those with the least squared rounding error."""
        if self.kind != LEARNED:
            return
        top = largest(weight, self.axes)
        shares = np.linspace(0.2, 1, 33)
        errors = [self._error(weight, top * float(s)) for s in shares]
        best = shares[np.argmin(errors, axis=0)]
        self.limit.assign(ops.convert_to_numpy(top) * best)

    def _error(self, weight, limit):
        rounded = per_channel(weight, limit, self.bits, self.axes)
        others = [n for n in range(len(weight.shape)) if n not in self.axes]
        error = ops.mean(ops.square(rounded - weight), axis=others)
        return ops.convert_to_numpy(ops.reshape(error, (-1,)))
