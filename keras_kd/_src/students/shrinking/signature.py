"""What two parts of a model must have in common to be blocks of one kind."""

import json

import keras

from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model

# What may differ from block to block: names, and what has no part in the
# shapes and in the function that is learnt (dropout often grows with depth).
_FREE = {"name", "trainable", "seed", "rate", "build_config"}
_FREE_ENDINGS = ("initializer", "regularizer", "constraint")


def signature(graph, segment=None):
    """The form of a graph or a part of it: equal forms take equal weights.

    Args:
        graph: a `Graph`.
        segment: one of its segments; the whole graph by default. Tensors from
            elsewhere are told apart by what they are.

    Returns:
        A tuple, equal for parts of equal form.

    Example:
    >>> layers = [keras.layers.Dense(4, name=name) for name in "ab"]
    >>> graph = Graph(keras.Sequential([keras.Input((4,)), *layers]))
    >>> first, second = (call.outputs[0] for call in graph.calls)
    >>> form = signature(graph, graph.segment(graph.inputs[0], first))
    >>> form == signature(graph, graph.segment(first, second))
    True
    """
    inputs = [segment.entry] if segment else graph.inputs
    places = {id(tensor): ("input", n) for n, tensor in enumerate(inputs)}
    numbers, form = {}, [*map(_spec, inputs)]
    calls = segment.calls if segment else graph.calls
    for number, call in enumerate(calls):
        operation = call.operation
        is_new = id(operation) not in numbers
        order = numbers.setdefault(id(operation), len(numbers))
        kind = _operation(operation) if is_new else None
        specs = map(_spec, call.outputs)
        form.append((order, kind, _arguments(graph, call, places), *specs))
        for index, tensor in enumerate(call.outputs):
            places[id(tensor)] = (number, index)
    ends = [segment.exit] if segment else graph.outputs
    return (*form, *[places.get(id(tensor)) for tensor in ends])


def _spec(tensor):
    return tuple(tensor.shape), str(tensor.dtype)


def _arguments(graph, call, places):
    arguments = graph.arguments(
        call, lambda tensor: places.get(id(tensor), ("outside", id(tensor)))
    )
    return repr(keras.tree.map_structure(_plain, arguments))


def _plain(value):
    # Numbers in an array are the block's own, like weights.
    shape = getattr(value, "shape", None)
    return value if shape is None else ("array", tuple(shape))


def _operation(operation):
    kind = f"{type(operation).__module__}.{type(operation).__name__}"
    if is_model(operation):
        return kind, signature(Graph(operation))
    weights = [tuple(w.shape) for w in getattr(operation, "weights", [])]
    try:
        config = json.dumps(
            _kept(config_of(operation)), sort_keys=True, default=_class_name
        )
    except ValueError:
        config = None
    return kind, config, tuple(weights)


def _class_name(value):
    return type(value).__name__


def config_of(operation):
    """A layer's config, or what is known of an operation without one.

    Raises:
        ValueError: it is a layer that can't be made again.

    Example:
    >>> config_of(keras.layers.Dense(4))["units"]
    4
    """
    try:
        return operation.get_config()
    except Exception as error:
        # Whatever a class of another's raises there.
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
            "class a `get_config` with the arguments of its constructor."
        ) from error


def _kept(config):
    if isinstance(config, dict):
        return {
            str(key): _kept(value)
            for key, value in config.items()
            if key not in _FREE
            and "drop" not in str(key)
            and not str(key).endswith(_FREE_ENDINGS)
        }
    if isinstance(config, (list, tuple)):
        return [_kept(value) for value in config]
    return config
