"""Finds the layers of a transformer, and the taps in each."""

import math
from typing import NamedTuple

import keras

from keras_kd._src.distillation.attention_scores import check_scores
from keras_kd._src.distillation.attention_scores import gives_scores
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.keras_compat import sublayers
from keras_kd._src.students.shrinking.blocks import described
from keras_kd._src.students.shrinking.depth import Depth
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.graph import nested_tap
from keras_kd._src.students.shrinking.graph import tap_of

# The names of the three projections in attention layers.
PROJECTIONS = "{}", "{}_dense", "{}_proj"
SMALLEST = 16  # Units of a relation head; MiniLMv2 has 48 heads for 768 units.


class Block(NamedTuple):
    """A layer of a transformer: the tap of its output, the layers inside."""

    state_tap: str
    layers: list  # Pairs of path and layer.


def transformer_blocks(model):
    """The `Block`s of a model, in their order; a `ValueError` if none."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "A layer map needs Keras models, to find their layers. Received: "
            f"{model!r} (of type {type(model).__name__}). Name the layers of "
            "other teachers in `Transfer`s."
        )
    found = _listed(model, "")
    if found is None:
        found = _repeated(model) if is_model(model) else []
    if not found:
        raise ValueError(
            "No repeated blocks were found in a model. Received: "
            f"{model.name!r} (of type {type(model).__name__}), without "
            "`transformer_layers`, and without two layers or groups of layers "
            "of the same config, one after the other. Name its layers in "
            "`Transfer`s."
        )
    return found


def _listed(model, path):
    """The blocks of the first model or inner model that lists its layers."""
    listed = getattr(model, "transformer_layers", None)
    if isinstance(listed, (list, tuple)) and all(map(_is_layer, listed)):
        pairs = [(_below(path, layer.name), layer) for layer in listed]
        return [Block(name, [(name, layer)]) for name, layer in pairs]
    for inner in sublayers(model):
        if isinstance(inner, keras.Model):
            is_backbone = getattr(model, "backbone", None) is inner
            name = "backbone" if is_backbone else inner.name
            found = _listed(inner, _below(path, name))
            if found is not None:
                return found
    return None


def _is_layer(value):
    return isinstance(value, keras.layers.Layer)


def _below(path, tap):
    return nested_tap(path, tap) if path else tap


def _repeated(model):
    """The blocks of the only stack that a graph of layers repeats."""
    runs = list(_runs(Depth(model), ""))
    if len(runs) > 1:
        raise ValueError(
            "A layer map needs a model with one stack of layers. Received: "
            "the model "
            f"{model.name!r}, which repeats several: "
            f"{described([run for _, _, run in runs])} (blocks by their last "
            "layer). Name the layers in `Transfer`s."
        )
    return [
        _block_of(path, graph, block.segment)
        for path, graph, run in runs
        for block in run
    ]


def _runs(depth, path):
    for run in depth.own_runs:
        yield path, depth.graph, run
    for inner in depth.inner.values():
        yield from _runs(inner, _below(path, inner.graph.model.name))


def _block_of(path, graph, segment):
    tap = tap_of(graph, segment.exit)
    if tap is None:
        raise ValueError(
            "The output of each block must be the output or input of a layer. "
            "Received: the block that ends in "
            f"{segment.calls[-1].operation.name!r}, whose output is neither. "
            "Name other layers in `Transfer`s."
        )
    operations = [call.operation for call in segment.calls]
    layers = [
        each for each in operations if isinstance(each, keras.layers.Layer)
    ]
    names = [_below(path, each.name) for each in layers]
    return Block(_below(path, tap), list(zip(names, layers)))


def _attention(block, wanted, what):
    """`(path, layer)` of a block's self-attention."""
    found = [
        (path, layer) for path, layer in _inside(block.layers) if wanted(layer)
    ]
    # A layer around an attention layer may have its maps, too: take the inner.
    found = [
        (path, layer)
        for path, layer in found
        if not any(other.startswith(f"{path}/") for other, _ in found)
    ]
    own = [each for each in found if "cross" not in each[0]]
    if len(own) != 1:
        raise ValueError(
            f"A block's {what} must be in one self-attention layer. Received: "
            f"the block {block.state_tap!r}, where these layers have them: "
            f"{[path for path, _ in own]}. Distil its hidden states "
            "(`states`), or name the layers in `Transfer`s."
        )
    return own[0]


def _inside(layers):
    for path, layer in layers:
        yield path, layer
        inner = [(f"{path}/{each.name}", each) for each in sublayers(layer)]
        yield from _inside(inner)


def _projections(layer):
    """The query, key and value layers directly in a layer, or None."""
    held = {each.name: each for each in sublayers(layer)}
    for form in PROJECTIONS:
        names = [form.format(name) for name in ("query", "key", "value")]
        if all(name in held for name in names):
            return [held[name] for name in names]
    return None


def _projections_in(block):
    path, layer = _attention(block, _projections, "queries, keys and values")
    return path, _projections(layer)


def projection_taps(block):
    """The taps of a block's queries, keys and values."""
    path, layers = _projections_in(block)
    return [f"{path}/{layer.name}" for layer in layers]


def relation_heads(blocks):
    """The most relation heads that divide the units of all projections."""
    units = [
        _units(layer) for block in blocks for layer in _projections_in(block)[1]
    ]
    common = math.gcd(*units)
    fitting = [
        heads
        for heads in range(1, common + 1)
        if common % heads == 0 and min(units) // heads >= SMALLEST
    ]
    return max(fitting, default=1)


def _units(layer):
    if isinstance(layer, keras.layers.EinsumDense):
        # The sizes of the heads' axes; None stands for the positions.
        sizes = layer.get_config()["output_shape"]
        return math.prod(filter(None, sizes))
    return getattr(layer, "units", 1)


def maps_tap(block):
    """The tap of a block's attention maps."""
    path, layer = _attention(block, gives_scores, "attention maps")
    tap = f"{path}:scores"
    check_scores(layer, Tap(tap))
    return tap
