"""A teacher's fingerprint: tells whether it is the same teacher."""

import hashlib

import numpy as np
from keras import ops

from keras_kd._src.keras_compat import all_layers


def fingerprint(model):
    """SHA-256 over the shapes, types and values of a model's weights.

    Stored in the place of the weights of a teacher that never changes. Names
    do not count: they differ from one process to the next. A layer that is
    more than its weights adds what its `fingerprint_bytes()` returns.
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
