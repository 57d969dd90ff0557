"""Floating-point operations for one sample, counted layer by layer."""

import contextlib
import functools
import math

import keras
from keras import layers

from keras_kd._src.distillation.taps import called_method
from keras_kd._src.distillation.taps import replaced
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.specs import of_batch_size
from keras_kd._src.specs import output_spec

GATES = {
    layers.SimpleRNN: 1,
    layers.GRU: 3,
    layers.LSTM: 4,
}
CONVOLUTIONS = layers.Conv1D, layers.Conv2D, layers.Conv3D
DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D
SEPARABLE = layers.SeparableConv1D, layers.SeparableConv2D
TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
ATTENTION = layers.MultiHeadAttention, layers.GroupQueryAttention
# Counted by the layer around them; or the cost is negligible, as weights are
# only looked up, or scale each value once.
FREE = (
    layers.SimpleRNNCell,
    layers.GRUCell,
    layers.LSTMCell,
    layers.Embedding,
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.Normalization,
    layers.PReLU,
)


def count_flops(model, inputs):
    """Operations for one sample in inference, and layers that aren't counted.

    A multiplication and an addition are two operations. Dense layers,
    convolutions, recurrent layers and attention are counted. Biases,
    activations, normalization and pooling are left out, as is usual.

    Args:
        model: a Keras model.
        inputs: its inputs, as `KerasTensor`s.

    Returns:
        An integer, and a list of the types of layers with weights that are not
        counted.
    """
    found, unknown = [], set()
    with contextlib.ExitStack() as stack:
        for layer in {id(each): each for each in all_layers(model)}.values():
            call = _counted(layer, found, unknown)
            stack.enter_context(replaced(layer, called_method(layer), call))
        stack.enter_context(keras.StatelessScope())

        def run(x):
            found.clear()  # PyTorch may need a second attempt.
            return model(x, training=False)

        output_spec(run, of_batch_size(inputs, 1))
    return sum(found), sorted(unknown)


def _counted(layer, found, unknown):
    """The layer's call, which also records how many operations it takes."""
    original = getattr(layer, called_method(layer))

    @functools.wraps(original)
    def call(*args, **kwargs):
        before = len(found)
        result = original(*args, **kwargs)
        given = args[0] if args else next(iter(kwargs.values()))
        inner = sum(found[before:])
        number = _operations(layer, given, result, inner, (args, kwargs))
        if number is None:
            if _has_own_weights(layer):
                unknown.add(type(layer).__name__)
            return result
        found[before:] = [number]
        return result

    return call


def _has_own_weights(layer):
    """Whether a layer has weights that belong to no layer inside it."""
    inner = [e for e in all_layers(layer) if e is not layer]
    held = {id(weight) for each in inner for weight in each.weights}
    own = [weight for weight in layer.weights if id(weight) not in held]
    return bool(own) and not isinstance(layer, FREE)


def _operations(layer, given, result, inner, arguments):
    """The operations of one call; None if the layer's type is not known."""
    if isinstance(layer, layers.Dense):
        return 2 * math.prod(given.shape) * layer.units
    if isinstance(layer, layers.EinsumDense):
        return _of_einsum(layer, given)
    if isinstance(layer, layers.Embedding) and arguments[1].get("reverse"):
        # The tied output layer of a language model.
        return 2 * math.prod(given.shape) * layer.input_dim
    if isinstance(layer, ATTENTION):
        return inner + _of_attention(layer, *arguments)
    if isinstance(layer, tuple(GATES)):
        return _of_recurrence(layer, given)
    return _of_convolution(layer, given, result)


def _of_einsum(layer, given):
    """The product of all sizes, as each letter of the equation is a loop."""
    terms, output = layer.equation.replace("...", "").split("->")
    data, weights = terms.split(",")
    sizes = dict(zip(weights, layer.kernel.shape))
    # Ellipses stand for leading axes of the data.
    leading = math.prod(given.shape[: len(given.shape) - len(data)])
    sizes |= dict(zip(data, given.shape[len(given.shape) - len(data) :]))
    return 2 * leading * math.prod(sizes[letter] for letter in {*sizes})


def _of_attention(layer, args, kwargs):
    """The products of queries with keys, and of weights with values."""
    names = "query", "value"
    given = {**dict(zip(names, args)), **kwargs}
    queries, values = (given[name].shape[1:-1] for name in names)
    grouped = isinstance(layer, layers.GroupQueryAttention)
    heads = layer.num_query_heads if grouped else layer.num_heads
    config = layer.get_config()
    key_dim = config.get("key_dim") or config.get("head_dim")
    value_dim = config.get("value_dim") or key_dim
    pairs = math.prod(queries) * math.prod(values)
    return 2 * heads * pairs * (key_dim + value_dim)


def _of_recurrence(layer, given):
    gates = next(n for kind, n in GATES.items() if isinstance(layer, kind))
    steps, features = given.shape[1:]
    return 2 * gates * steps * layer.units * (features + layer.units)


def _of_convolution(layer, given, result):
    if isinstance(layer, SEPARABLE):
        last = layer.data_format == "channels_last"
        places = math.prod(result.shape[1:-1] if last else result.shape[2:])
        weights = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        return 2 * places * sum(map(math.prod, weights))
    if isinstance(layer, DEPTHWISE):
        return 2 * math.prod(result.shape) * math.prod(layer.kernel_size)
    if isinstance(layer, TRANSPOSED):
        # Each input value is multiplied with the whole kernel of its channel.
        each = math.prod(layer.kernel_size) * layer.filters
        return 2 * math.prod(given.shape) * each
    if isinstance(layer, CONVOLUTIONS):
        each = math.prod(layer.kernel.shape[:-1])
        return 2 * math.prod(result.shape) * each
    return None
