"""Makes a model again with narrower layers."""

import keras

from keras_kd._src.students.shrinking.copying import as_sequential
from keras_kd._src.students.shrinking.copying import copied
from keras_kd._src.students.shrinking.copying import remade
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.same_class import around_the_same
from keras_kd._src.students.shrinking.same_class import hand_over
from keras_kd._src.students.shrinking.same_class import made_of
from keras_kd._src.students.shrinking.same_class import own_config
from keras_kd._src.students.shrinking.signature import config_of
from keras_kd._src.students.shrinking.ties import Ties
from keras_kd._src.students.shrinking.widths import fewer_heads
from keras_kd._src.students.shrinking.widths import narrow

# Arguments of models of classes of their own that are widths.
_WIDTHS = "hidden", "intermediate", "embedding_dim", "mlp_dim", "filters"

_HEADS = "num_heads", "num_query_heads"


def narrowed(model, narrower, *, bound=None, learnt=True):
    """A model of the same layers with fewer channels.

    Args:
        model: a Functional or a built Sequential model.
        narrower: a `Narrower`.
        bound: for a model inside of another, a function of its `Ties` that
            returns the groups whose width is the other's; those of inputs
            and outputs by default.
        learnt: whether it takes the wider model's weights.

    Returns:
        A model.

    Raises:
        ValueError: a width is baked into a layer.

    Example:
    >>> from keras_kd._src.students.shrinking.widths import Narrower
    >>> layers = [keras.layers.Dense(32), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> student = narrowed(model, Narrower(0.5, 8))
    >>> [layer.units for layer in student.layers]
    [16, 3]
    """
    graph = Graph(model)
    ties = Ties(graph)
    groups = bound(ties) if bound else None
    is_free = not groups or groups.isdisjoint(ties.bound(graph.outputs))
    made = _of_the_same_class(model, narrower) if is_free else None
    if made is not None:
        hand_over(graph, made, learnt=learnt)
        return made
    groups = _bound(ties) if bound is None else groups

    def make(operation, arguments):
        if is_model(operation):
            call = graph.first_call(operation)
            inside = _bound_inside(call, ties, groups)
            return narrowed(operation, narrower, bound=inside, learnt=learnt)
        return _narrow_operation(
            graph, operation, arguments, narrower, ties, groups
        )

    made = copied(graph, make)
    operations = [call.operation for call in graph.calls]
    done = [id(operation) for operation in operations if is_model(operation)]
    hand_over(graph, made, learnt=learnt, done=done)
    made = around_the_same(model, made) or made
    return as_sequential(made, model)


def _bound(ties):
    """The groups of a model's outputs, and of inputs that are no indices."""
    graph = ties.graph
    floating = [t for t in graph.inputs if "float" in str(t.dtype)]
    return ties.bound([*floating, *graph.outputs])


def _narrow_operation(graph, operation, arguments, narrower, ties, groups):
    call = graph.first_call(operation)
    before, after = (
        next((tuple(tensor.shape) for tensor in tensors), ())
        for tensors in (call.input_tensors, _tensors(arguments))
    )
    config = None
    if isinstance(operation, keras.layers.Layer):
        config = narrow(
            config_of(operation),
            narrower,
            is_bound=ties.group(call.outputs[0]) in groups,
            before=before,
            after=after,
        )
    if before != after:
        config = _reshaped(operation, config, call, before, after)
    return remade(operation, config=config)


def _tensors(arguments):
    flat = keras.tree.flatten(arguments)
    return [value for value in flat if isinstance(value, keras.KerasTensor)]


def _bound_inside(call, ties, groups):
    outer = [*call.input_tensors, *call.outputs]

    def bound(inner_ties):
        inner = [*inner_ties.graph.inputs, *inner_ties.graph.outputs]
        pairs = zip(inner, outer)
        return inner_ties.bound(
            [tensor for tensor, same in pairs if ties.group(same) in groups]
        )

    return bound


def _reshaped(operation, config, call, before, after):
    """The config of what may name a width in a shape, or is code."""
    for key in ("target_shape", "newshape"):
        shape = getattr(operation, key, None)
        if shape is None:
            continue
        if tuple(shape) == (-1,):
            return config  # As `Flatten`.
        if before[-1] == shape[-1]:
            config = config or config_of(operation)
            return {**config, key: (*shape[:-1], after[-1])}
        raise ValueError(_baked(operation, before, after, f"{key}={shape}"))
    if isinstance(operation, keras.layers.Lambda):
        raise ValueError(_baked(operation, before, after, "code of its own"))
    some = call.outputs[0].shape[-1:] != before[-1:]
    if some and type(operation).__name__ == "GetItem":
        raise ValueError(_baked(operation, before, after, "places"))
    return config


def _baked(operation, before, after, what):
    return (
        f"A width is baked into the teacher's layer {operation.name!r} (of "
        f"type {type(operation).__name__}), so what it is given can't be "
        f"narrowed. Received: a layer with {what}, and inputs of shape "
        f"{before}, which would be {after}. Shrink with `width=1.0`, or use "
        "a layer that takes its widths from its inputs."
    )


def _of_the_same_class(model, narrower):
    """A model of a class of its own, its widths made smaller, or None."""
    config = own_config(model)
    if config is None:
        return None
    made = made_of(model, _narrow_config(config, narrower), model.name)
    return made if made is not None and _is_alike(model, made) else None


def _narrow_config(config, narrower):
    changed = fewer_heads(config, narrower)
    share = [(config[key], changed[key]) for key in _HEADS if key in changed]
    for key, value in config.items():
        if type(value) is int and any(part in key for part in _WIDTHS):
            changed[key] = narrower(value)
            if share and key.startswith("hidden") and not value % share[0][0]:
                # Heads stay as large as they were.
                changed[key] = value // share[0][0] * share[0][1]
        elif isinstance(value, (list, tuple)) and "filters" in key:
            changed[key] = [narrower(each) for each in value]
    return {**config, **changed}


def _is_alike(model, made):
    shapes = [
        [
            (type(call.operation).__name__, _ranks(call.operation))
            for call in Graph(each).calls
        ]
        for each in (model, made)
    ]
    return shapes[0] == shapes[1] and made.count_params() < model.count_params()


def _ranks(operation):
    weights = getattr(operation, "weights", [])
    return [len(weight.shape) for weight in weights]
