"""Finds the last activation of a model, and records its input."""

import functools

import keras

from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import is_symbolic
from keras_kd._src.keras_compat import producer
from keras_kd._src.keras_compat import tensor_index

# Activations whose values are probabilities.
PROBABILITIES = {"softmax", "sigmoid"}
# The same as operations of `keras.ops` in a Functional model.
OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def last_activations(model):
    """The names of the activations that a model's graph ends in, if known."""
    return [_name(part) for part in last_parts(model)]


def last_activation(model, tap):
    """The name of the activation whose values a tap reads, or None.

    It is read from the graph of a Functional or Sequential model, and from a
    layer's `activation`; activations in a layer's code are not seen.
    """
    if tap.end != "output":
        return None
    parts = last_parts(find_layer(model, tap.path), tap)
    return common_name(_name(part) for part in parts)


def common_name(names):
    """The name of all activations, if they have the same one; else None."""
    names = set(names)
    # Outputs of linear layers beside others are logits already.
    names = names - {"linear"} or names
    return names.pop() if len(names) == 1 else None


class ActivationRecord:
    """The inputs of activations in one pass, by the values they returned."""

    def __init__(self):
        self._found = {}  # By the id of a value, which is kept alive.

    def input_for(self, output):
        """The input of the activation that returned this; else None."""
        return self._found.get(id(output), (None, None, None))[1]

    def name_of(self, output):
        """The name of the activation that returned this; else None."""
        return self._found.get(id(output), (None, None, None))[2]

    def recorded(self, function, name):
        """The function, with its calls recorded."""

        @functools.wraps(function)
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            given = args[0] if args else next(iter(kwargs.values()))
            self._found[id(result)] = result, given, name
            return result

        return call


def watch(model, tap, record, replace):
    """Records the activations that may be the last at a tap.

    Args:
        model: a Keras model.
        tap: a `Tap`.
        record: an `ActivationRecord`.
        replace: function of an object, a name and a value, which sets the
            attribute for this pass.

    Returns:
        The number of activations that are recorded.
    """
    watched = _watched(find_layer(model, tap.path), tap)
    for part, attribute in watched:
        function = getattr(part, attribute)
        replace(part, attribute, record.recorded(function, _name(part)))
    return len(watched)


def _watched(layer, tap):
    """Where activations are called: pairs of an object and an attribute."""
    parts = [
        inner for part in last_parts(layer, tap) for inner in _inside(part)
    ]
    return [(p, _attribute(p)) for p in parts if _attribute(p)]


def _inside(part):
    # Where its code decides what comes last, any layer inside may be it.
    is_layer = isinstance(part, keras.layers.Layer)
    return all_layers(part) if is_layer and not _attribute(part) else [part]


def _attribute(part):
    if _is_recurrent(part):
        return None
    if callable(getattr(part, "activation", None)):
        return "activation"
    return "call" if _name(part) else None


def _is_recurrent(part):
    # Its activation is a property, for an activation inside the cell.
    return isinstance(getattr(type(part), "activation", None), property)


def last_parts(layer, tap=None):
    """The layers or operations that a layer's outputs come from."""
    outputs = getattr(layer, "outputs", None)
    if not outputs:
        return [layer]
    if tap is not None and tap.key is not None:
        outputs = [tap.select(layer.output)]
    return [_maker(tensor) for tensor in keras.tree.flatten(outputs)]


def _maker(tensor):
    """The layer or operation that returned a symbolic tensor, or None."""
    if not is_symbolic(tensor):
        return None
    operation, _ = producer(tensor)
    outputs = keras.tree.flatten(getattr(operation, "outputs", None) or [])
    return _maker(outputs[tensor_index(tensor)]) if outputs else operation


def _name(part):
    if isinstance(part, keras.layers.Softmax):
        return "softmax"
    if not isinstance(part, keras.layers.Layer):
        return OPERATIONS.get(type(part).__name__)
    if _is_recurrent(part):
        return None
    return getattr(getattr(part, "activation", None), "__name__", None)
