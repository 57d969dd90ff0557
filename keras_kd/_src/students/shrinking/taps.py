"""How a tensor of a model is tapped."""

import keras

from keras_kd._src.students.shrinking.graph import Graph


def tap_of(graph, tensor):
    """The text of a tap at which a tensor is read, or None.

    A layer that the model calls once gives it as its output, or takes it as
    its first argument (an operation, such as `x + y`, is no layer).

    Args:
        graph: a `Graph`.
        tensor: one of its tensors.

    Returns:
        A text as `keras_kd.taps.Tap` has it, or None where there is none.

    Example:
    >>> inputs = keras.Input((4,))
    >>> added = inputs + 1.0
    >>> graph = Graph(keras.Model(inputs, keras.layers.ReLU(name="r")(added)))
    >>> tap_of(graph, added), tap_of(graph, graph.outputs[0])
    ('r:input', 'r')
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


def within(path, tap):
    """A tap of a model inside of another, as a tap of the other.

    Example:
    >>> within("backbone", "stage2"), within("backbone", "")
    ('backbone/stage2', 'backbone')
    """
    return f"{path}/{tap}" if tap else path


def shape_at(model, tap):
    """The shape, with the batch, of what a tap of `tap_of` reads.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model.layers[0].name = "head"
    >>> shape_at(model, "head:input")
    (None, 4)
    """
    path, _, end = tap.partition(":")
    name, _, rest = path.partition("/")
    graph = Graph(model)
    if not name:
        return tuple(graph.outputs[0].shape)
    call = next(call for call in graph.calls if call.operation.name == name)
    if rest:
        return shape_at(call.operation, tap.partition("/")[2])
    tensor = call.arguments.args[0] if end else call.outputs[0]
    return tuple(tensor.shape)
