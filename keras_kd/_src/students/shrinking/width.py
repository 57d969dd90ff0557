"""Rebuilds a model with narrower layers.

The widths are arguments of Keras' own layers, tied to each other by the graph.
Layers of other classes take the widths of their inputs.
"""

import inspect
import math

import keras
from keras import layers

from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import config_of
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.rebuild import new_operation
from keras_kd._src.students.shrinking.rebuild import rebuild

_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv1DTranspose,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.Conv3D,
    layers.Conv3DTranspose,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
# The argument that is the width of a layer's output.
_WIDTHS = {
    "units": (layers.Dense, layers.GRU, layers.LSTM, layers.SimpleRNN),
    "filters": _CONVOLUTIONS,
    "output_dim": (layers.Embedding,),
}


class Narrower:
    """Computes smaller widths: multiples of a divisor, unless below it."""

    def __init__(self, share, divisor):
        self.share, self.divisor = share, divisor

    def __call__(self, size):
        exact = size * self.share
        unit = self.divisor if exact >= self.divisor else 1
        return min(size, max(unit, unit * int(exact / unit + 0.5)))

    def heads(self, number):
        return max(1, int(number * self.share + 0.5))


def narrowed(model, narrower, fixed_width=None, made=None):
    """A model of the same layers with fewer channels, without the weights.

    `fixed_width` are those of its inputs and outputs whose width stays; `made`
    are the new layers so far, as in `rebuild`.
    """
    graph, made = Graph(model), {} if made is None else made
    groups = width_groups(graph)
    if fixed_width is None:
        # Inputs of integers are indices, without channels.
        floats = [t for t in graph.inputs if "float" in str(t.dtype)]
        fixed_width = [*floats, *graph.outputs]
    fixed = {groups[id(tensor)] for tensor in fixed_width}

    def make(operation, arguments):
        call = graph.first_call(operation)
        if not is_model(operation):
            is_fixed = groups[id(call.outputs[0])] in fixed
            return _narrow_operation(call, arguments, narrower, is_fixed)
        pairs = zip(
            [*operation.inputs, *operation.outputs],
            [*call.input_tensors, *call.outputs],
        )
        fixed_inside = [t for t, same in pairs if groups[id(same)] in fixed]
        return narrowed(operation, narrower, fixed_inside, made)

    return rebuild(graph, make=make, made=made)


# --- which widths are the same ----------------------------------------------


def width_groups(graph):
    """The group of each tensor, by id; tensors of a group have one width.

    A layer with its own width argument separates its output from its inputs;
    any other operation ties the two.
    """
    groups = {id(tensor): number for number, tensor in enumerate(graph.tensors)}
    first = {}
    for call in graph.calls:
        # A layer has the same width in all of its calls.
        before = first.setdefault(id(call.operation), call)
        for tensors in [*_tied(call), *zip(before.outputs, call.outputs)]:
            _join(groups, tensors)
    return groups


def _join(groups, tensors):
    joined = {groups[id(tensor)] for tensor in tensors}
    for key, group in groups.items():
        if group in joined:
            groups[key] = min(joined)


def _tied(call):
    """Lists of a call's tensors that are tied to each other."""
    operation, outputs = call.operation, list(call.outputs)
    if is_model(operation):
        return _tied_by_model(call)
    if _has_width(operation):
        return []
    tensors = call.input_tensors
    if isinstance(operation, layers.Layer):
        # Not masks and contexts, which are further arguments.
        arguments = call.arguments
        tensors = _first(operation, arguments.args, arguments.kwargs)
    return [[*tensors, *outputs]]


def _first(operation, args, kwargs):
    """The tensors of a call's first argument, also given by keyword."""
    if args:
        return _tensors(args[0])
    name = next(iter(inspect.signature(operation.call).parameters))
    return _tensors(kwargs.get(name, kwargs))


def _tied_by_model(call):
    graph, tied = Graph(call.operation), {}
    groups = width_groups(graph)
    pairs = zip(
        [*graph.inputs, *graph.outputs], [*call.input_tensors, *call.outputs]
    )
    for inner, outer in pairs:
        tied.setdefault(groups[id(inner)], []).append(outer)
    return list(tied.values())


def _tensors(arguments):
    flat = keras.tree.flatten(arguments)
    return [value for value in flat if isinstance(value, keras.KerasTensor)]


# --- layers -----------------------------------------------------------------


def _has_width(operation):
    """Whether a layer's config gives the number of its output channels."""
    return (
        _width_argument(operation) is not None
        or _has_output_shape(operation)
        or any(map(_has_width, _wrapped(operation).values()))
    )


def _width_argument(layer):
    for argument, classes in _WIDTHS.items():
        if isinstance(layer, classes) and argument in config_of(layer):
            return argument
    return None


def _wrapped(layer):
    """The layers inside a wrapper, by their keys in its config."""
    if isinstance(layer, layers.Bidirectional):
        return {
            "layer": layer.forward_layer,
            "backward_layer": layer.backward_layer,
        }
    return {"layer": layer.layer} if isinstance(layer, layers.Wrapper) else {}


def _has_output_shape(layer):
    """Whether a layer's `output_shape` ends in its width.

    True of attention, and of an `EinsumDense` whose last output axis is its
    only new one.
    """
    if isinstance(layer, layers.MultiHeadAttention):
        return bool(config_of(layer)["output_shape"])
    if not isinstance(layer, layers.EinsumDense):
        return False
    given, made = layer.equation.replace(".", "").split("->")
    given = given.split(",")[0]
    return [letter for letter in made if letter not in given] == [made[-1]]


def _narrow_operation(call, arguments, narrower, is_fixed):
    operation = call.operation
    before, after = (
        next((tuple(t.shape) for t in _first(operation, *each)), ())
        for each in (
            (call.arguments.args, call.arguments.kwargs),
            arguments,
        )
    )
    config = None
    if isinstance(operation, layers.Layer):
        config = _narrow_config(operation, narrower, is_fixed, after)
    if before != after:
        config = _reshaped(operation, config, call, before, after)
    return new_operation(operation, config)


def _narrow_config(layer, narrower, is_fixed, given):
    config = dict(config_of(layer))
    for key, inner in _wrapped(layer).items():
        inner = _narrow_config(inner, narrower, is_fixed, given)
        config[key] = {**config[key], "config": inner}
    argument = _width_argument(layer)
    if argument and not is_fixed:
        config[argument] = narrower(config[argument])
    if _has_output_shape(layer) and not is_fixed:
        *axes, made = keras.tree.flatten(config["output_shape"])
        config["output_shape"] = [*axes, narrower(made)]
    return {
        **config,
        **_heads(layer, narrower),
        **_groups(layer, config, given),
    }


def _heads(layer, narrower):
    """Fewer heads of the same size."""
    config = config_of(layer)
    if isinstance(layer, layers.MultiHeadAttention):
        return {"num_heads": narrower.heads(config["num_heads"])}
    if not isinstance(layer, layers.GroupQueryAttention):
        return {}
    queries, keys = config["num_query_heads"], config["num_key_value_heads"]
    fewer = narrower.heads(keys)
    # The same number of query heads shares a key head as before.
    return {
        "num_query_heads": queries // keys * fewer,
        "num_key_value_heads": fewer,
    }


def _groups(layer, config, given):
    """A number of groups that divides the channels."""
    is_grouped = isinstance(layer, (*_CONVOLUTIONS, layers.GroupNormalization))
    groups = config.get("groups") if is_grouped else None
    if groups is None or groups < 2 or not given:
        return {}
    first = config.get("data_format") == "channels_first"
    axis = config.get("axis", 1 if first else -1)
    made = config.get("filters", 0)
    return {"groups": math.gcd(groups, given[axis] or 0, made)}


# --- shapes -----------------------------------------------------------------


def _reshaped(operation, config, call, before, after):
    """The config with widths in its shape replaced, or an error."""
    # Of `layers.Reshape` and of `ops.reshape`.
    for key in ("target_shape", "newshape"):
        shape = getattr(operation, key, None)
        if shape is None:
            continue
        if tuple(shape) == (-1,):
            return config  # As `Flatten`.
        if before[-1] == shape[-1]:
            config = config or config_of(operation)
            return {**config, key: (*shape[:-1], after[-1])}
        raise _hard_coded(operation, before, after, f"{key}={shape}")
    if isinstance(operation, layers.Lambda):
        raise _hard_coded(operation, before, after, "its own code")
    is_cut = call.outputs[0].shape[-1:] != before[-1:]
    if is_cut and type(operation).__name__ == "GetItem":
        raise _hard_coded(operation, before, after, "a slice")
    return config


def _hard_coded(operation, before, after, what):
    return ValueError(
        f"A width is hard-coded in the teacher's layer {operation.name!r} (of "
        f"type {type(operation).__name__}), so its inputs can't be narrowed. "
        f"Received: a layer with {what}, and inputs of shape {before}, which "
        f"would be {after}. Shrink with `width=1.0`, or use a layer that takes "
        "its widths from its inputs."
    )
