"""Makes a graph again, of new layers, with parts of it left out."""

import keras

from keras_kd._src.keras_compat import producer
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.signature import config_of


def copied(graph, make, name=None):
    """A Functional model of the form of a graph, of new layers.

    Args:
        graph: a `Graph`.
        make: function of an operation and the new arguments of its first
            call, `(args, kwargs)`, that returns the new operation.
        name: the model's name.

    Returns:
        A Functional model.

    Example:
    >>> layers = [keras.layers.Dense(4, name=name) for name in "ab"]
    >>> graph = Graph(keras.Sequential([keras.Input((4,)), *layers]))
    >>> [layer.name for layer in copied(graph, remade).layers[1:]]
    ['a', 'b']
    """
    made = {}
    tensors = {id(tensor): _new_input(tensor) for tensor in graph.inputs}
    for call in graph.calls:
        arguments = graph.arguments(call, lambda tensor: tensors[id(tensor)])
        key = id(call.operation)
        if key not in made:
            made[key] = make(call.operation, arguments)
        outputs = keras.tree.flatten(called(made[key], *arguments))
        tensors.update(zip(map(id, call.outputs), outputs))
    starts = [tensors[id(tensor)] for tensor in graph.inputs]
    ends = [tensors[id(tensor)] for tensor in graph.outputs]
    return _model(graph.model, starts, ends, name)


def _new_input(tensor):
    layer, _ = producer(tensor)
    return type(layer).from_config(layer.get_config()).output


def called(operation, args, kwargs):
    """What an operation makes of new arguments.

    Raises:
        ValueError: it does not take them.

    Example:
    >>> called(keras.layers.Dense(2), (keras.Input((4,)),), {}).shape
    (None, 2)
    """
    try:
        return operation(*args, **kwargs)
    except Exception as error:
        shapes = [
            tuple(value.shape)
            for value in keras.tree.flatten((args, kwargs))
            if isinstance(value, keras.KerasTensor)
        ]
        raise ValueError(
            f"The student's layer {operation.name!r} (of type "
            f"{type(operation).__name__}) does not take what it is given: a "
            "width is baked into it, or into a layer before it. Received: "
            f"inputs of shape {shapes}. Shrink with `width=1.0`, or use a "
            "layer that takes its widths from its inputs."
        ) from error


def _model(model, inputs, outputs, name):
    if isinstance(model, keras.Sequential):
        return keras.Model(inputs[0], outputs[0], name=name or model.name)
    return keras.Model(
        keras.tree.pack_sequence_as(model.input, inputs),
        keras.tree.pack_sequence_as(model.output, outputs),
        name=name or model.name,
    )


def as_sequential(model, like):
    """A Sequential model of a Functional's layers, if the other is one.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> copy = copied(Graph(model), remade)
    >>> type(as_sequential(copy, model)).__name__
    'Sequential'
    """
    if not isinstance(like, keras.Sequential):
        return model
    layers = [call.operation for call in Graph(model).calls]
    inputs = model.inputs[0]
    first = keras.Input(
        batch_shape=inputs.shape, dtype=inputs.dtype, name=inputs.name
    )
    return keras.Sequential([first, *layers], name=model.name)


def remade(operation, _=None, *, config=None):
    """A new operation of the same config, without the weights.

    Args:
        operation: a layer or another operation.
        config: its new config; its own by default.

    Raises:
        ValueError: it is a layer that can't be made again.

    Example:
    >>> remade(keras.layers.Dense(4, name="a")).name
    'a'
    """
    is_layer = isinstance(operation, keras.layers.Layer)
    if config is None and is_layer:
        config = config_of(operation)
    try:
        if isinstance(operation, keras.layers.Lambda):
            # Its code is in this process already, with what it refers to.
            made = type(operation).from_config(config, safe_mode=False)
            made.function = operation.function
            return made
        return type(operation).from_config(config or operation.get_config())
    except Exception as error:
        if not is_layer:
            # It has no state, so the two models can share it.
            return operation
        raise ValueError(
            "The student's layers are made from the configs of the teacher's. "
            f"Received: the layer {operation.name!r} (of type "
            f"{type(operation).__name__}), which its class's `from_config` "
            f"does not make: {error}"
        ) from error
