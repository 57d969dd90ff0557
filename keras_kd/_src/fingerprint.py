"""A teacher's fingerprint: the same for the same teacher."""

import hashlib

import keras
import numpy as np
from keras import ops

from keras_kd._src.keras_compat import all_layers


def fingerprint(model):
    """SHA-256 over a model's weights: the same for the same teacher.

    Stored with a cache of predictions, and in a training state in the place of
    the weights of a teacher that never changes. The shapes, types and values
    of the weights count, and of a layer that is more than its weights what its
    `fingerprint_bytes()` returns. Names do not: they differ from one process
    to the next.

    Args:
        model: a built Keras model, or a `keras_kd.teachers.Teacher`, which
            defines its own.

    Returns:
        A uint8 array of shape `(32,)`.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> before = fingerprint(model)
    >>> _ = model.layers[0].bias.assign([1.0, 0.0])
    >>> bool((before == fingerprint(model)).all())
    False
    """
    if not isinstance(model, keras.layers.Layer):
        return model.fingerprint()
    texts = [
        layer.fingerprint_bytes()
        for layer in all_layers(model)
        if hasattr(layer, "fingerprint_bytes")
    ]
    return digest(
        texts, (ops.convert_to_numpy(weight.value) for weight in model.weights)
    )


def digest(texts, arrays):
    """SHA-256 over texts (bytes), and the shapes, types, values of arrays."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text)
    for array in arrays:
        array = np.ascontiguousarray(array)
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return np.frombuffer(found.digest(), dtype="uint8")


def hexadecimal(fingerprint):
    """A fingerprint as text."""
    return bytes(fingerprint).hex()
