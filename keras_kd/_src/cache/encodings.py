"""What is common to the ways in which a teacher's answers are stored."""

import numpy as np
from keras import ops

from keras_kd._src.cache.dense import Dense
from keras_kd._src.cache.int8 import Int8
from keras_kd._src.cache.top_k import TopK

KINDS = {encoding.kind: encoding for encoding in (Dense, TopK, Int8)}


def round_trip(encoding, view):
    """A view as a student is told it: stored, and read again.

    Args:
        encoding: `Dense`, `TopK` or `Int8`.
        view: array of shape `(batch, ...)`.

    Returns:
        A float32 NumPy array of the same shape.

    Example:
    >>> float(round_trip(Dense("bfloat16"), np.array([[1.001]]))[0, 0])
    1.0
    """
    shape = view.shape[1:]
    prepared = {
        name: ops.convert_to_numpy(value)
        for name, value in encoding.prepare(ops.convert_to_tensor(view)).items()
    }
    constants = encoding.calibrate(prepared)
    stored = {
        name: np.asarray(value).astype(encoding.fields(shape)[name].base)
        for name, value in encoding.pack(prepared, constants).items()
    }
    carried = encoding.unpack(stored, constants)
    return ops.convert_to_numpy(encoding.restore(carried, shape))
