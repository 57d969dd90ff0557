"""find_layer: finds a layer by its path of names."""

import difflib

import keras

from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import sublayers


def find_layer(model, path):
    """Finds the layer at a path of names (or attributes) inside a model.

    Checks the path of a tap before training, or gets a nested layer.

    Args:
        model: a Keras model or layer.
        path: names joined with "/"; "" is the model itself.

    Returns:
        The layer.

    Raises:
        ValueError: there is no layer at the path; the closest names are
            listed.

    Example:
    >>> head = keras.layers.Dense(2, name="head")
    >>> model = keras.Sequential([keras.Input((4,)), head])
    >>> find_layer(model, "head").units
    2
    """
    layer = model
    for part in [part for part in path.split("/") if part]:
        found = _child(layer, part)
        if found is None:
            raise ValueError(_no_such_layer(model, path, layer, part))
        layer = found
    return layer


def _child(parent, name):
    for layer in _children(parent):
        if layer.name == name:
            return layer
    if isinstance(parent, (list, tuple)):
        inside = name.isdigit() and int(name) < len(parent)
        return parent[int(name)] if inside else None
    value = getattr(parent, name, None)
    tappable = isinstance(value, (keras.layers.Layer, list, tuple))
    return value if tappable else None


def _children(layer):
    if isinstance(layer, (list, tuple)):
        return [item for item in layer if isinstance(item, keras.layers.Layer)]
    return sublayers(layer)


def _no_such_layer(model, path, parent, part):
    names = [layer.name for layer in _children(parent)]
    every = [layer.name for layer in all_layers(model)[1:]]
    close = difflib.get_close_matches(part, names, n=3, cutoff=0.4)
    where = (
        "the model" if parent is model else f"{getattr(parent, 'name', 'it')!r}"
    )
    message = (
        f"No layer {path!r} in model {model.name!r}. Received a path with "
        f"{part!r}, which {where} does not have. "
    )
    if close:
        message += f"Closest names there: {close}. "
    if part in every:
        message += "A nested layer has that name: write the path to it. "
    return (
        message
        + f"Names there: {names[:20]}{' ...' if len(names) > 20 else ''}."
    )
