"""A model that rounds in training as its int8 file will."""

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import one_of
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.quantization.batch_norm import fold_all
from keras_kd._src.quantization.copies import copied
from keras_kd._src.quantization.insertion import FakeQuantization
from keras_kd._src.quantization.parts import Uses
from keras_kd._src.quantization.parts import parts_of
from keras_kd._src.quantization.ranges import KINDS
from keras_kd._src.quantization.ranges import LEARNED
from keras_kd._src.quantization.ranges import MOVING_AVERAGE
from keras_kd._src.quantization.weights import WITH_WEIGHTS
from keras_kd._src.samples import checked_samples
from keras_kd._src.samples import flat
from keras_kd._src.samples import run_student
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import of_batch_size
from keras_kd._src.specs import output_spec


@keras.saving.register_keras_serializable("keras_kd.quantization")
class QuantizationAwareModel(keras.Model):
    """QAT and QAD: a copy of a model that rounds as its int8 file will.

    Rounding to 8 bits after training (post-training quantization) costs little
    accuracy in wide networks, but much in depthwise ones and with 4-bit
    weights. Here the student is trained with the rounding in its forward pass
    (quantization-aware training, QAT), so its weights adapt to it. In a
    `Distiller` with the float student, or its teacher, as the teacher
    (quantization-aware distillation, QAD) this takes few steps and needs no
    labels.

    Each value `x` is rounded to one of `2^bits` steps between `low` and `high`
    and stays a float (fake quantization). Its gradient is that of the unrounded
    value, or zero where it was clipped (straight-through estimator):

        scale = (high - low) / (2^bits - 1)
        round((clip(x, low, high) - low) / scale) * scale + low

    - Weights of Dense, EinsumDense, Conv, ConvTranspose, DepthwiseConv and
      SeparableConv have a symmetric range for each output channel, with
      `2^bits - 1` steps, one of which is zero. The weights of an Embedding have
      one range, as the runtimes look up rows in a table with one scale.
    - Inputs, and the outputs of all other layers and operations that compute,
      have one range each, as in a file that is int8 throughout. A ReLU is
      rounded with the layer before it. Dropout, reshaping, max pooling and
      padding need no range, as they only move values. In a subclassed model
      only layers are rounded: what its own code adds or multiplies stays float
      here, and gets a range from samples when it is exported.
    - Biases stay floats, as do the inner layers of recurrent layers and of
      wrappers such as `Bidirectional`.
    - Values of 1e8 or more, as masks add them, are not rounded.
    - A BatchNormalization right after a layer is folded into its weights with
      the moving statistics; only its shift is still trained (static folding).

    Args:
        model: a trained, built float model: Functional, Sequential, or of a
            class with a `get_config`. It is not changed.
        samples: inputs of the model, about 100 that are typical of the data,
            for calibration: each range begins with the smallest and largest
            value found there.
        weight_bits: integer from 2 to 16, or None to leave weights unrounded.
        activation_bits: integer from 2 to 16, or None to only clip values.
        ranges: `"learned"`: the ranges are weights, trained with the others;
            those of the weights begin where rounding has the least squared
            error. `"moving_average"`: the ranges of values follow the training
            batches (momentum 0.99); those of weights are the largest values.
        name: the model's name.

    Returns:
        A Keras model with the same inputs and outputs. Taps find its layers
        below "model/", as in "model/stage3". Train it like any other model,
        for a few epochs, with a learning rate of 1 to 10 % of the float
        model's, and without weight decay on its ranges (the variables
        `minimum`, `maximum` and `limit`).

    Raises:
        ValueError: nothing in the model can be quantized, or it is quantized
            already; its class has no `get_config`; a value is NaN with these
            samples; code in a model's `call` uses the output of a folded
            layer; an argument is out of range.

    Example:
    >>> x = keras.random.normal((8, 4))
    >>> head = keras.layers.Dense(2, name="head")
    >>> student = keras.Sequential([keras.Input((4,)), head])
    >>> quantized = QuantizationAwareModel(student, x)
    >>> sorted(quantized.ranges)
    [':input', 'head']

    References: Jacob et al., 2018, "Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference", arXiv
    1712.05877; Polino et al., 2018, "Model compression via distillation and
    quantization", arXiv 1802.05668; Nagel et al., 2021, "A White Paper on
    Neural Network Quantization", arXiv 2106.08295.
    """

    def __init__(
        self,
        model,
        samples,
        *,
        weight_bits=8,
        activation_bits=8,
        ranges=LEARNED,
        name=None,
    ):
        _check_model(model)
        super().__init__(name=name or f"quantized_{model.name}")
        self.weight_bits = _bits(weight_bits, "weight_bits")
        self.activation_bits = _bits(activation_bits, "activation_bits")
        self.kind = one_of(ranges, "ranges", KINDS)
        # In a model that is loaded, or made from another, ranges are known.
        is_calibrated = any(map(_is_spec, keras.tree.flatten(samples)))
        if not is_calibrated:
            samples = checked_samples(model, samples)
        spec = of_batch_size(data_spec(samples), None)
        self.model = copied(model, spec)
        uses = Uses(self.model, spec)
        norms = fold_all(uses)
        if norms and not is_calibrated:
            _check_folding(model, self.model, samples)
        self._inserted = FakeQuantization(
            uses,
            norms,
            parts_of(model).values(),
            spec,
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            kind=self.kind,
        )
        self.activation_ranges = list(self._inserted.ranges.values())
        self.weight_limits = [limit for _, _, limit in self._inserted.weights()]
        if is_calibrated:
            output_spec(self, of_batch_size(spec, 2))
        else:
            self.calibrate(samples)

    def calibrate(self, samples):
        """Sets each range to the smallest and largest value with some samples.

        Args:
            samples: inputs of the model, in its structure.
        """
        for layer, attribute, limit in self._inserted.weights():
            limit.calibrate(getattr(layer, attribute).value)
        for each in self.activation_ranges:
            each.seen = []
        run_student(self, checked_samples(self.model, samples))
        for each in self.activation_ranges:
            each.calibrate()

    def call(self, inputs, training=None):
        given = [
            each if found is None else found(each, training=training)
            for each, found in zip(
                keras.tree.flatten(inputs), self._inserted.input_ranges
            )
        ]
        inputs = keras.tree.pack_sequence_as(inputs, given)
        return self.model(inputs, training=training)

    def known_inputs(self):
        """The inputs that the wrapped model takes, as `KerasTensor`s."""
        return known_inputs(self.model)

    # --- after training -----------------------------------------------------

    @property
    def ranges(self):
        """Dict, path of a layer or operation -> its `(minimum, maximum)`."""
        return {
            path: each.ends
            for path, each in self._inserted.ranges.items()
            if each.is_bounded
        }

    def float_model(self):
        """A plain float model with the rounded weights.

        Its class is that of the original model, if that has a `get_config`. A
        folded BatchNormalization only adds its shift. Together with `ranges`
        it holds everything that an int8 file needs.

        Returns:
            A Keras model, which shares nothing with this one.
        """
        model = copied(self.model, self._inserted.spec)
        parts = parts_of(self.model).values(), parts_of(model).values()
        copies = {id(part): copy for part, copy in zip(*parts)}
        for layer, attribute, limit in self._inserted.weights():
            rounded = limit(getattr(layer, attribute).value)
            getattr(copies[id(layer)], attribute).assign(rounded)
        return model

    def with_rounded_weights(self, activation_bits):
        """A copy whose weights are already rounded, for exporters.

        Args:
            activation_bits: as in the class; None only clips values.

        Returns:
            A `QuantizationAwareModel` that leaves its weights unrounded.
        """
        made = QuantizationAwareModel(
            self.float_model(),
            self._inserted.spec,
            weight_bits=None,
            activation_bits=activation_bits,
            ranges=MOVING_AVERAGE,
            name=self.name,
        )
        for each, mine in zip(made.activation_ranges, self.activation_ranges):
            each.take(*mine.ends)
        return made

    # --- saving -------------------------------------------------------------

    def get_config(self):
        shapes = keras.tree.map_structure(
            lambda each: {"shape": list(each.shape), "dtype": each.dtype},
            self._inserted.spec,
        )
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "inputs": shapes,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "ranges": self.kind,
            "unbounded": [
                place
                for place, each in enumerate(self.activation_ranges)
                if not each.is_bounded
            ],
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """The model of a config; its ranges are loaded with the weights."""
        config = dict(config)
        model = keras.saving.deserialize_keras_object(config.pop("model"))
        spec = _spec_of(config.pop("inputs"))
        unbounded = config.pop("unbounded")
        made = cls(model, spec, **config)
        for place in unbounded:
            made.activation_ranges[place].take(-np.inf, np.inf)
        return made


def _spec_of(inputs):
    if isinstance(inputs, dict) and inputs.keys() == {"shape", "dtype"}:
        return keras.KerasTensor(inputs["shape"], inputs["dtype"])
    if isinstance(inputs, dict):
        return {name: _spec_of(each) for name, each in inputs.items()}
    return [_spec_of(each) for each in inputs]


def _is_spec(array):
    return isinstance(array, keras.KerasTensor)


def _bits(value, name):
    return None if value is None else integer(value, name, least=2, most=16)


def _check_folding(model, folded, samples):
    """Raises a `ValueError` if folding changed the model's outputs.

    That happens if the code of a subclassed model also uses a folded layer's
    output, as only uses by layers are recorded.
    """
    few = keras.tree.map_structure(lambda array: array[:2], samples)
    before, after = (flat(run_student(each, few)) for each in (model, folded))
    for expected, found in zip(before, after):
        # The error of half precision is smaller.
        off = np.abs(np.subtract(expected, found, dtype="float32")).max()
        if off > 0.05 * np.abs(expected).max():
            raise ValueError(
                "A BatchNormalization is folded into the layer before it, so "
                "nothing else may use what that layer returns. Received: "
                f"{model.name!r} (of type {type(model).__name__}), which "
                "computes something else with it folded. Where its code adds "
                "or multiplies, use a layer such as `keras.layers.Add`."
            )


def _check_model(model):
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a Keras model, built and trained as "
            f"floats. Received: {model!r} (of type {type(model).__name__})."
        )
    quantized = [
        layer
        for layer in all_layers(model)
        if getattr(layer, "quantization_mode", None)
        or isinstance(layer, QuantizationAwareModel)
    ]
    if quantized:
        raise ValueError(
            "Argument `model` must be a float model. Received: "
            f"{model.name!r}, in which {quantized[0].name!r} is quantized "
            "already. Give the model as it was before quantization."
        )
    if not any(isinstance(each, WITH_WEIGHTS) for each in all_layers(model)):
        raise ValueError(
            "A model to quantize must have a layer with weights: Dense, "
            "EinsumDense, Conv, DepthwiseConv, SeparableConv or Embedding. "
            f"Received: {model.name!r} with layers of types "
            f"{sorted({type(each).__name__ for each in all_layers(model)})}."
        )
