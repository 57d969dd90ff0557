"""Tries an encoding on a few of a teacher's answers, in memory."""

import dataclasses
import time

import numpy as np
from keras import ops

from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.cache.records import gather
from keras_kd._src.cache.records import record_type

READ_BATCHES = 20  # That are timed; then the median counts.
READ_BYTES = 2**26  # More than processors hold near: a cache is large.


@dataclasses.dataclass(frozen=True)
class Trial:
    """One view of the teacher in one encoding, tried on some samples.

    Args:
        bytes: that a sample's view takes up.
        pack_seconds: for each sample, to write it.
        read_seconds: for each sample, to read it.
        restored: the views as a student would be told them, float32.

    Example:
    >>> Trial(130, 2e-6, 3e-7, np.zeros((1, 1000))).bytes
    130
    """

    bytes: int
    pack_seconds: float
    read_seconds: float
    restored: np.ndarray


def tried(tap, encoding, views, batch_size):
    """Stores views in memory, and reads them again.

    Args:
        tap: text of the tap.
        encoding: `Dense`, `TopK` or `Int8`.
        views: float32 array of shape `(samples, ...)`.
        batch_size: of a batch of the training to come.

    Returns:
        A `Trial`.

    Raises:
        ValueError: the encoding can't hold the views.

    Example:
    >>> from keras_kd._src.cache.encodings import Dense
    >>> trial = tried("", Dense("float16"), np.ones((4, 10), "float32"), 2)
    >>> trial.bytes, trial.restored.shape
    (20, (4, 10))
    """
    shape = views.shape[1:]
    output = StoredOutput(tap, shape, encoding)
    _prepared(encoding, views)  # Its operations are compiled first.
    begin = time.perf_counter()
    prepared = _prepared(encoding, views)
    constants = encoding.calibrate(prepared)
    records = np.zeros(len(views), record_type([output]))
    output.put(records, encoding.pack(prepared, constants))
    pack_seconds = (time.perf_counter() - begin) / len(views)
    carried = encoding.unpack(output.take(records), constants)
    return Trial(
        bytes=records.dtype.itemsize - records.dtype[SAMPLE_INDEX].itemsize,
        pack_seconds=pack_seconds,
        read_seconds=_read_seconds(
            output, records.dtype, constants, batch_size
        ),
        restored=ops.convert_to_numpy(encoding.restore(carried, shape)),
    )


def _prepared(encoding, views):
    prepared = encoding.prepare(ops.convert_to_tensor(views))
    return {
        name: ops.convert_to_numpy(value) for name, value in prepared.items()
    }


def _read_seconds(output, dtype, constants, batch_size):
    random = np.random.default_rng(0)
    count = max(1, READ_BYTES // dtype.itemsize)
    # Written to, or they would all be one page of zeros.
    records = np.full(count * dtype.itemsize, 1, "u1").view(dtype)
    seconds = []
    for _ in range(READ_BATCHES):
        places = random.integers(0, len(records), batch_size)
        begin = time.perf_counter()
        found = gather(records, places)
        output.encoding.unpack(output.take(found), constants)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)) / batch_size


def divergences(full, restored, temperature, probabilities=False):
    """How far restored soft targets are from the full ones, for each sample.

        p = softmax(full / T);  q = softmax(restored / T)
        value = sum_classes p * (log p - log q)

    Args:
        full: logits, array of shape `(samples, ..., classes)`.
        restored: the same, as they were stored.
        temperature: T, a positive number.
        probabilities: whether both are probabilities; then their logs count.

    Returns:
        Values in nats, not times T^2, of shape `(samples, ...)`.

    Example:
    >>> full, restored = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> round(float(divergences(full, restored, 2.0)[0]), 4)
    0.1109
    """
    log_p, log_q = (
        _log_softmax(np.asarray(view, "float64"), temperature, probabilities)
        for view in (full, restored)
    )
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def _log_softmax(view, temperature, probabilities):
    if probabilities:
        view = np.log(np.maximum(view, 1e-30))
    view = view / temperature
    view = view - view.max(axis=-1, keepdims=True)
    return view - np.log(np.exp(view).sum(axis=-1, keepdims=True))


def like_probabilities(view):
    """Whether each row of a view is a distribution.

    Example:
    >>> like_probabilities(np.array([[0.2, 0.8]]))
    True
    """
    sums = view.sum(axis=-1)
    return bool((view >= 0).all() and (np.abs(sums - 1) < 1e-2).all())
