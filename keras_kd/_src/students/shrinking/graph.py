"""A model as a graph of calls: its segments, their signatures, its taps."""

import json
import re
from typing import Any
from typing import NamedTuple

import keras

from keras_kd._src.keras_compat import producer

# Entries that may differ between equal blocks: names, and settings that change
# neither shapes nor the function (dropout rates often grow with depth).
_FREE = {"name", "trainable", "seed", "rate", "build_config"}
_FREE_ENDINGS = ("initializer", "regularizer", "constraint")


class Segment(NamedTuple):
    """The part of a model between two of its tensors: its calls, in order."""

    entry: Any
    exit: Any
    calls: Any


class Graph:
    """The calls of layers that a model's outputs depend on, in order."""

    # A call is a Keras `Node`: `operation`, `arguments`, `input_tensors`,
    # `outputs`.

    def __init__(self, model, *, inputs=None, left_out=None):
        self.model = model
        # The id of the tensor at the end of a part that is left out -> the
        # tensor that replaces it.
        self.left_out = left_out or {}
        self.inputs = list(model.inputs if inputs is None else inputs)
        self.outputs = [self._found(tensor) for tensor in model.outputs]
        self.calls = self._calls()
        self.maker, self.users = {}, {}
        for call in self.calls:
            for tensor in call.outputs:
                self.maker[id(tensor)] = call
            for tensor in {id(t): t for t in call.input_tensors}.values():
                self.users.setdefault(id(tensor), []).append(call)

    @property
    def tensors(self):
        """The inputs and the outputs of the calls, in order."""
        return [*self.inputs, *[t for c in self.calls for t in c.outputs]]

    def _found(self, tensor):
        while id(tensor) in self.left_out:
            tensor = self.left_out[id(tensor)]
        return tensor

    def arguments(self, call, replace):
        """A call's `(args, kwargs)`, with each tensor replaced."""
        return call.arguments.convert(
            lambda value: (
                replace(self._found(value))
                if isinstance(value, keras.KerasTensor)
                else value
            )
        )

    def _calls(self):
        """The calls that the outputs depend on, in topological order."""
        done = {id(tensor) for tensor in self.inputs}
        calls, pending = [], [(tensor, False) for tensor in self.outputs[::-1]]
        while pending:
            tensor, is_ready = pending.pop()
            if id(tensor) in done and not is_ready:
                continue
            _, call = producer(tensor)
            if is_ready:
                calls.append(call)
                continue
            done |= {id(output) for output in call.outputs}
            pending.append((tensor, True))
            for needed in reversed(call.input_tensors):
                pending.append((self._found(needed), False))
        return calls

    def inside(self, model):
        """The graph of a model in this one, with its parts left out, too."""
        return Graph(model, left_out=self.left_out)

    def first_call(self, operation):
        """The first call of an operation."""
        return next(c for c in self.calls if c.operation is operation)

    def calls_of(self, operation):
        """How often the model calls an operation."""
        return sum(call.operation is operation for call in self.calls)

    def chains(self):
        """Lists of tensors, where all paths from one pass through the next.

        So the calls between the two form one segment. The chains from the
        inputs come first; many have the same end.
        """
        gates = self._gates(self.tensors)
        within = {id(gate) for gate in gates.values()}
        chains = [
            [tensor]
            for tensor in self.tensors
            if id(tensor) in gates and id(tensor) not in within
        ]
        for chain in chains:
            while id(chain[-1]) in gates:
                chain.append(gates[id(chain[-1])])
        return chains

    def _gates(self, tensors):
        # Immediate post-dominators. A set of tensors is the bits of an integer.
        place = {id(tensor): n for n, tensor in enumerate(tensors)}
        ends = {id(tensor) for tensor in self.outputs}
        passed, gates = {}, {}
        for tensor in reversed(tensors):
            after = [
                passed[id(output)]
                for call in self.users.get(id(tensor), [])
                for output in call.outputs
                if id(output) in passed
            ]
            if not after and id(tensor) in ends:
                after = [0]
            if not after:
                continue
            common = after[0]
            for other in after[1:]:
                common &= other
            if common:
                first = (common & -common).bit_length() - 1
                gates[id(tensor)] = tensors[first]
            passed[id(tensor)] = common | 1 << place[id(tensor)]
        return gates

    def segment(self, entry, end):
        """The part of the graph between a tensor and a later one of its chain.

        Besides the calls that depend on `entry`, it has those that are used
        only there, such as a block's own projection of a condition.
        """
        reached, inside = {id(entry)}, set()
        for call in self.calls:
            if any(id(tensor) in reached for tensor in call.input_tensors):
                inside.add(id(call))
                reached |= {id(t) for t in call.outputs if t is not end}
        ends = {id(tensor) for tensor in self.outputs}
        for call in reversed(self.calls):
            users = [
                id(user)
                for tensor in call.outputs
                for user in self.users.get(id(tensor), [])
            ]
            is_end = any(id(t) in ends or t is entry for t in call.outputs)
            if users and not is_end and inside.issuperset(users):
                inside.add(id(call))
        calls = [call for call in self.calls if id(call) in inside]
        return Segment(entry, end, calls)

    def is_open(self, segment):
        """Whether the segment alone has or uses an output or input."""
        ends = {id(tensor) for tensor in self.outputs} - {id(segment.exit)}
        made = [tensor for call in segment.calls for tensor in call.outputs]
        inside = {id(call) for call in segment.calls}
        given = [t for t in self.inputs if t is not segment.entry]
        users = [self.users.get(id(tensor), []) for tensor in given]
        return any(id(tensor) in ends for tensor in made) or any(
            each and inside.issuperset(map(id, each)) for each in users
        )


def keeps_shape(segment):
    """Whether a segment's output has the shape and type of its input."""
    first, last = segment.entry, segment.exit
    return first.shape == last.shape and first.dtype == last.dtype


def is_model(operation):
    """Whether an operation is a model with a graph of its own."""
    graph = getattr(operation, "outputs", None)
    return isinstance(operation, keras.Model) and bool(graph)


def config_of(operation):
    """A layer's config; of an operation without one, its plain attributes."""
    try:
        return operation.get_config()
    except Exception as error:  # Whatever the class raises there.
        if not isinstance(operation, keras.layers.Layer):
            return {
                name: value
                for name, value in vars(operation).items()
                if isinstance(value, (str, int, float, list, tuple))
                and not name.startswith("_")
            }
        raise ValueError(
            "The student's layers are made from the configs of the teacher's. "
            f"Received: the layer {operation.name!r} (of type "
            f"{type(operation).__name__}), which has none: {error} Give its "
            "class a `get_config` with the arguments of its constructor, or "
            "make a student of the teacher's class with `config`."
        ) from error


# --- signatures -------------------------------------------------------------


def signature(graph, segment=None):
    """A description of the form of a graph or a segment, to be compared.

    Parts with equal signatures can take each other's weights.
    """
    inputs = [segment.entry] if segment else graph.inputs
    places = {id(tensor): ("input", n) for n, tensor in enumerate(inputs)}
    numbers, form = {}, [*map(_spec, inputs)]
    calls = segment.calls if segment else graph.calls
    for number, call in enumerate(calls):
        operation = call.operation
        is_new = id(operation) not in numbers
        order = numbers.setdefault(id(operation), len(numbers))
        kind = _operation(graph, operation) if is_new else None
        specs = map(_spec, call.outputs)
        form.append((order, kind, _arguments(graph, call, places), *specs))
        for index, tensor in enumerate(call.outputs):
            places[id(tensor)] = (number, index)
    ends = [segment.exit] if segment else graph.outputs
    return (*form, *[places.get(id(tensor)) for tensor in ends])


def same_form(first, second):
    """Whether two signatures are equal, as far as configs are known."""
    # Whether a layer without a `get_config` of its own has a config depends on
    # its arguments.
    if isinstance(first, tuple) and isinstance(second, tuple):
        same_length = len(first) == len(second)
        return same_length and all(map(same_form, first, second))
    unknown = {type(first), type(second)} == {str, type(None)}
    return unknown or first == second


def _spec(tensor):
    return tuple(tensor.shape), str(tensor.dtype)


def _arguments(graph, call, places):
    # Tensors from outside the segment are compared by identity.
    arguments = graph.arguments(
        call, lambda tensor: places.get(id(tensor), ("outside", id(tensor)))
    )
    return repr(keras.tree.map_structure(_plain, arguments))


def _plain(value):
    # An array's values may differ between blocks, like weights.
    shape = getattr(value, "shape", None)
    return value if shape is None else ("array", tuple(shape))


def _operation(graph, operation):
    if is_model(operation):
        # Whatever its class, its layers are rebuilt.
        return "model", signature(graph.inside(operation))
    kind = f"{type(operation).__module__}.{type(operation).__name__}"
    weights = [tuple(w.shape) for w in getattr(operation, "weights", [])]
    try:
        config = json.dumps(
            _compared(config_of(operation)), sort_keys=True, default=_class_name
        )
    except ValueError:
        config = None
    return kind, config, tuple(weights)


def _class_name(value):
    return type(value).__name__


def _compared(config):
    if isinstance(config, dict):
        return {
            str(key): _compared(value)
            for key, value in config.items()
            if key not in _FREE
            and "drop" not in str(key)
            and not str(key).endswith(_FREE_ENDINGS)
        }
    if isinstance(config, (list, tuple)):
        return [_compared(value) for value in config]
    return config


# --- taps -------------------------------------------------------------------


def tap_of(graph, tensor):
    """The text of a tap that reads a tensor, or None.

    It must be the output or the first argument of a layer that the model calls
    once (an operation, such as `x + y`, is no layer).
    """
    call = graph.maker.get(id(tensor))
    if call and len(call.outputs) == 1 and _is_tappable(graph, call):
        return call.operation.name
    for user in graph.users.get(id(tensor), []):
        args = user.arguments.args
        if args and args[0] is tensor and _is_tappable(graph, user):
            return f"{user.operation.name}:input"
    is_output = len(graph.outputs) == 1 and graph.outputs[0] is tensor
    return "" if is_output else None


def _is_tappable(graph, call):
    layer = call.operation
    is_layer = isinstance(layer, keras.layers.Layer)
    return is_layer and graph.calls_of(layer) == 1


def nested_tap(path, tap):
    """A tap of a model inside another, as a tap of the outer model."""
    return f"{path}/{tap}" if tap else path


def shape_at(model, tap):
    """The shape, with the batch axis, that a tap from `tap_of` reads."""
    name, separator, rest = re.match("([^/:]*)([/:]?)(.*)", tap).groups()
    graph = Graph(model)
    if not name:
        return tuple(graph.outputs[0].shape)
    call = next(call for call in graph.calls if call.operation.name == name)
    if separator == "/":
        return shape_at(call.operation, rest)
    tensor = call.arguments.args[0] if rest else call.outputs[0]
    return tuple(tensor.shape)
