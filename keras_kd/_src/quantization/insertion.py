"""Inserts fake quantization of weights and activations into a model."""

import contextlib
import functools
import re

import keras
from keras import ops

from keras_kd._src.distillation.taps import replaced
from keras_kd._src.quantization.parts import is_float
from keras_kd._src.quantization.parts import is_relu
from keras_kd._src.quantization.parts import moves_values
from keras_kd._src.quantization.ranges import ActivationRange
from keras_kd._src.quantization.ranges import WeightLimit
from keras_kd._src.quantization.weights import WITH_WEIGHTS
from keras_kd._src.quantization.weights import quantized_weights


class FakeQuantization:
    """The fake quantization of a model; it changes how layers are called.

    Args:
        uses: `Uses` of the model's parts.
        norms: the normalizations that are folded.
        shared: parts that are shared with another model, and not changed.
        spec: the model's inputs, as `KerasTensor`s.
        weight_bits, activation_bits, kind: as in `QuantizationAwareModel`.
    """

    def __init__(
        self, uses, norms, shared, spec, *, weight_bits, activation_bits, kind
    ):
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.kind = kind
        self.spec = spec
        # Keys are the paths of layers and operations.
        self.ranges, self.limits = {}, {}
        self._parts = uses.parts
        self.input_ranges = self._ranges_of_inputs()
        norms, shared = (
            {id(each) for each in some} for some in (norms, shared)
        )
        for path, part in self._parts.items():
            if id(part) not in shared:
                self._insert(path, part, uses, norms)

    def _ranges_of_inputs(self):
        inputs = keras.tree.flatten(self.spec)
        names = [":input"]
        if len(inputs) > 1:
            names = [f":input[{n}]" for n in range(len(inputs))]
        return [
            self._new_range(name) if is_float(each) else None
            for name, each in zip(names, inputs)
        ]

    def _insert(self, path, part, uses, norms):
        limits = self._new_limits(path, part)
        joined = [
            user is not None and (id(user) in norms or is_relu(user))
            for user in uses.users_of(part)
        ]
        is_exact = moves_values(part) or (joined and all(joined))
        activation_range = None
        if not is_exact and uses.makes_floats(part):
            activation_range = self._new_range(path)
        if limits or activation_range:
            _change_call(part, limits, activation_range)

    def _new_range(self, path):
        name = f"range_of_{_plain(path)}"
        made = ActivationRange(self.activation_bits, self.kind, name=name)
        made.build()
        self.ranges[path] = made
        return made

    def _new_limits(self, path, part):
        if self.weight_bits is None or not isinstance(part, WITH_WEIGHTS):
            return {}
        limits = {}
        for attribute, axes in quantized_weights(part):
            name = f"limit_of_{_plain(path)}_{attribute.strip('_')}"
            made = WeightLimit(self.weight_bits, self.kind, axes, name=name)
            made.build(getattr(part, attribute).shape)
            limits[attribute] = made
        self.limits[path] = limits
        return limits

    def weights(self):
        """Yields `(layer, attribute, limit)` of each weight that is rounded."""
        for path, limits in self.limits.items():
            for attribute, limit in limits.items():
                yield self._parts[path], attribute, limit


def _plain(path):
    return re.sub("[^A-Za-z0-9.-]+", "_", path).strip("_")


def _change_call(part, limits, activation_range):
    """Makes a layer or operation use rounded weights, and round its output."""
    original = part.call

    @functools.wraps(original)
    def call(*args, **kwargs):
        with contextlib.ExitStack() as stack:
            for attribute, limit in limits.items():
                rounded = limit(getattr(part, attribute))
                rounded = ops.cast(rounded, part.compute_dtype)
                stack.enter_context(replaced(part, attribute, rounded))
            result = original(*args, **kwargs)
        return activation_range(result) if activation_range else result

    # Bypasses the __setattr__ of Keras and PyTorch, which would track it.
    object.__setattr__(part, "call", call)
