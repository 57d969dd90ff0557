"""Rebuilds a graph from new layers with the weights of the old ones."""

from functools import partial

import keras
import numpy as np

from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import producer
from keras_kd._src.specs import finalize
from keras_kd._src.students.shrinking.fit import misfit_error
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import config_of
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.graph import same_form
from keras_kd._src.students.shrinking.graph import signature


def rebuild(graph, *, make=None, made=None, name=None):
    """A model with the form of a graph, without the weights.

    `make` returns the new operation for an operation and the new `(args,
    kwargs)` of its first call; by default one with the same config. `made` maps
    ids of old operations to new ones, of models around this one, too, so that
    shared layers are shared again; it is filled here.
    """
    made = {} if made is None else made
    make = make or partial(_made_alike, graph, made)
    tensors = {id(tensor): _new_input(tensor) for tensor in graph.inputs}
    for call in graph.calls:
        arguments = graph.arguments(call, lambda tensor: tensors[id(tensor)])
        key = id(call.operation)
        if key not in made:
            made[key] = make(call.operation, arguments)
        outputs = keras.tree.flatten(_called(made[key], *arguments))
        _note_parts(call.operation, made)
        tensors.update(zip(map(id, call.outputs), outputs))
    starts = [tensors[id(tensor)] for tensor in graph.inputs]
    ends = [tensors[id(tensor)] for tensor in graph.outputs]
    return _model(graph.model, starts, ends, name)


def _made_alike(graph, made, operation, _):
    if is_model(operation):
        return rebuild(graph.inside(operation), made=made)
    return new_operation(operation)


def _new_input(tensor):
    layer, _ = producer(tensor)
    return type(layer).from_config(layer.get_config()).output


def _note_parts(operation, made):
    """Notes which layers inside a new layer replace those of the old one."""
    if isinstance(operation, keras.layers.Layer):
        pairs = zip(all_layers(operation), all_layers(made[id(operation)]))
        for old, new in pairs:
            made.setdefault(id(old), new)


def _called(operation, args, kwargs):
    try:
        return operation(*args, **kwargs)
    except Exception as error:  # Whatever a backend raises at a wrong shape.
        shapes = [
            tuple(value.shape)
            for value in keras.tree.flatten((args, kwargs))
            if isinstance(value, keras.KerasTensor)
        ]
        raise misfit_error(operation, shapes, error) from error


def _model(model, inputs, outputs, name):
    name = name or model.name
    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.pack_sequence_as(model.input, inputs)
        outputs = keras.tree.pack_sequence_as(model.output, outputs)
        return keras.Model(inputs, outputs, name=name)
    made = keras.Model(inputs[0], outputs[0], name=name)
    first = keras.Input(
        batch_shape=inputs[0].shape, dtype=inputs[0].dtype, name=inputs[0].name
    )
    layers = [call.operation for call in Graph(made).calls]
    return keras.Sequential([first, *layers], name=name)


def new_operation(operation, config=None):
    """A new operation of the same config, or another, without the weights."""
    if not isinstance(operation, keras.layers.Layer):
        try:
            return type(operation).from_config(config or operation.get_config())
        except (NotImplementedError, TypeError):
            # It has no state, so both models can share it.
            return operation
    config = config or config_of(operation)
    try:
        if not isinstance(operation, keras.layers.Lambda):
            return type(operation).from_config(config)
        # Safe, as its code is already in this process, with all it refers to.
        made = type(operation).from_config(config, safe_mode=False)
        made.function = operation.function
        return made
    except Exception as error:  # Whatever the class's constructor raises.
        raise ValueError(
            "The student's layers are made from the configs of the teacher's. "
            f"Received: the layer {operation.name!r} (of type "
            f"{type(operation).__name__}), whose `from_config` fails: {error} "
            "Correct its `get_config`, or make a student of the teacher's "
            "class with `config`."
        ) from error


# --- weights ----------------------------------------------------------------


def transfer_weights(graph, model, *, copy_weights=True):
    """Copies the weights and flags of a graph's layers to a model of its form.

    Without `copy_weights` only weights adapted to data (`Normalization`).
    """
    done = set()
    for call, new_call in zip(graph.calls, Graph(model).calls):
        old, new = call.operation, new_call.operation
        if not isinstance(old, keras.layers.Layer) or id(old) in done:
            continue
        done.add(id(old))
        if old.trainable != new.trainable:
            new.trainable = old.trainable
        if is_model(old):
            inside = graph.inside(old)
            transfer_weights(inside, new, copy_weights=copy_weights)
            continue
        _check_weights(old, new)
        if copy_weights:
            _assign(old, new)
            continue
        for old_part, new_part in zip(all_layers(old), all_layers(new)):
            if hasattr(old_part, "finalize_state"):
                _assign(old_part, new_part)


def _assign(source, target):
    pairs = zip(source.get_weights(), target.weights)
    target.set_weights([_selected(old, new.shape) for old, new in pairs])
    finalize(target)


def _selected(weight, shape):
    """A smaller array of a larger one's entries, evenly spaced on each axis.

    Axes of equal sizes keep the same channels, so that the outputs of a layer
    are the channels that the next one was trained on. This also holds after a
    `Flatten`, in the gates of an `LSTM`, and where parts narrowed by the same
    share are concatenated, as the pattern repeats with each part.
    """
    # Uniform element selection of Xu et al., whose code rounds positions
    # between the first entry and the last where the sizes don't divide.
    for axis, (size, smaller) in enumerate(zip(weight.shape, shape)):
        if size != smaller:
            places = np.arange(smaller) * size // smaller
            weight = np.take(weight, places, axis=axis)
    return weight


def _check_weights(source, target):
    shapes = [
        [tuple(weight.shape) for weight in layer.weights]
        for layer in (source, target)
    ]
    fit = len(shapes[0]) == len(shapes[1]) and all(
        len(old) == len(new) and all(a >= b for a, b in zip(old, new))
        for old, new in zip(*shapes)
    )
    if not fit:
        raise ValueError(
            f"The layer {source.name!r} (of type {type(source).__name__}), "
            "made again from its config, has weights of other shapes. "
            f"Received: weights of shapes {shapes[0]} and {shapes[1]}. Its "
            "`get_config` must contain all arguments that its weights depend "
            "on."
        )


# --- the teacher's class ----------------------------------------------------


def in_class_of(teacher, graph, changes, name):
    """A model of the teacher's class with the form of a graph, or an error."""
    config = _changed(teacher.get_config(), changes, type(teacher).__name__)
    if "name" in config:
        config["name"] = name
    made = type(teacher).from_config(config)
    if same_form(signature(Graph(made)), signature(graph)):
        return made
    raise ValueError(
        "Argument `config` must make the teacher's class build the layers that "
        f"are kept. Received: config={changes}, with which "
        f"{type(teacher).__name__!r} builds other layers. Give all arguments "
        "that differ, or no `config`, for a plain Functional student."
    )


def _changed(config, changes, owner):
    config = dict(config)
    for key, change in changes.items():
        if key not in config:
            raise ValueError(
                "Argument `config` must have keys of what the `get_config` of "
                f"{owner!r} returns. Received: {key!r}, for the keys "
                f"{sorted(config)}."
            )
        value = config[key]
        if isinstance(change, dict) and _is_object(value):
            # A model in the config, such as a classifier's backbone.
            inner = _changed(value["config"], change, value["class_name"])
            change = {**value, "config": inner}
        config[key] = change
    return config


def _is_object(value):
    return isinstance(value, dict) and {"class_name", "config"} <= value.keys()
