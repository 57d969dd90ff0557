"""A teacher's fingerprint: tells whether it is the same teacher."""

import hashlib

import numpy as np
from keras import ops

from keras_kd._src.keras_compat import all_layers


def fingerprint(model):
    """SHA-256 over a model's weights: tells whether it is the same teacher.

    Stored with a cache of predictions, and in a training state in the place of
    the weights of a teacher that never changes. The shapes, types and values
    of the weights count, and of a layer that is more than its weights what its
    `fingerprint_bytes()` returns. Names do not: they differ from one process
    to the next.

    Args:
        model: a built Keras model.

    Returns:
        A uint8 array of shape `(32,)`.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> before = fingerprint(model)
    >>> _ = model.layers[0].bias.assign([1.0, 0.0])
    >>> bool((before == fingerprint(model)).all())
    False
    """
    digest = hashlib.sha256()
    for layer in all_layers(model):
        if hasattr(layer, "fingerprint_bytes"):
            digest.update(layer.fingerprint_bytes())
    for weight in model.weights:
        value = np.ascontiguousarray(ops.convert_to_numpy(weight.value))
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return np.frombuffer(digest.digest(), dtype="uint8")


def hexadecimal(fingerprint):
    """A fingerprint as text."""
    return bytes(fingerprint).hex()
