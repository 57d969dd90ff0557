"""What is said about a cache's data, as JSON can hold it."""

import json

import keras

from keras_kd._src.arguments import received
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal


def names_of(class_names):
    """The classes' names as a list that JSON can hold; None stays None."""
    if class_names is None:
        return None
    unordered = isinstance(class_names, (str, bytes, dict, set))
    in_order = hasattr(class_names, "__iter__") and not unordered
    try:
        names = list(class_names) if in_order else []
        # NumPy's numbers have `item`.
        names = json.loads(json.dumps(names, default=lambda name: name.item()))
    except (AttributeError, TypeError, ValueError):
        names = []
    if not names:
        raise ValueError(
            "Argument `class_names` must be a list of the names of the "
            "teacher's classes, text or anything else that JSON can hold. "
            f"{received('class_names', class_names)} Give, for example, "
            '["cat", "dog"].'
        )
    return names


def text_of(dataset_id):
    """The data's name, if JSON can hold it."""
    hint = "Give it as text: for example str(path)."
    return _checked_json("dataset_id", "text", dataset_id, hint)


def plain(preprocessing):
    """A description of the preprocessing that JSON can hold."""
    if not isinstance(preprocessing, keras.layers.Layer):
        expected = "something that JSON can hold, or a Keras layer"
        hint = 'Name it: for example "resnet50.preprocess_input, 224 pixels".'
        return _checked_json("preprocessing", expected, preprocessing, hint)
    config = keras.saving.serialize_keras_object(preprocessing)
    config = _nameless(json.loads(json.dumps(config)))
    if preprocessing.weights:  # Such as the mean that `Normalization` adapts.
        config["weights"] = hexadecimal(fingerprint(preprocessing))
    return config


def _checked_json(name, expected, value, hint):
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Argument `{name}` must be {expected}. {received(name, value)} "
            f"{hint}"
        ) from error


def _nameless(config):
    """Without what differs from one process to the next."""
    if isinstance(config, list):
        return [_nameless(value) for value in config]
    if not isinstance(config, dict):
        return config
    left_out = {"name", "build_config"}
    return {k: _nameless(v) for k, v in config.items() if k not in left_out}
