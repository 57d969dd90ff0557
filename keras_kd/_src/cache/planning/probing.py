"""Asks a teacher about a part of the data, and takes the time."""

import dataclasses
import itertools
import time

import keras
import numpy as np

from keras_kd._src.cache.batches import batches_of
from keras_kd._src.cache.batches import count_of
from keras_kd._src.cache.batches import is_arrays
from keras_kd._src.cache.batches import of_arrays
from keras_kd._src.cache.batches import of_batch
from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.numbering import Numbering
from keras_kd._src.cache.views import Views
from keras_kd._src.cache.writer import RecordingTeacher
from keras_kd._src.cache.writer import comes_again
from keras_kd._src.cache.writer import stored_outputs

PROBE_BYTES = 2**27  # The answers are held in memory.
INDEX_ENTRY = 16  # Bytes: an id, and its row.


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a teacher answered to a part of the data.

    Args:
        views: dict, tap text -> float32 array `(asked, ...)`.
        seconds: that the teacher took for each.
        asked: how many views of samples it was asked about.
        samples: how many samples the data has; None if it doesn't tell.
        index_bytes: of the cache's index, for each record: more than 0 where
            samples do not come in the order of their ids.

    Example:
    >>> Probe({"": np.zeros((8, 3), "float32")}, 1e-4, 8, 100).asked
    8
    """

    views: dict
    seconds: float
    asked: int
    samples: int | None
    index_bytes: float = 0.0


def probe(teacher, dataset, taps, batch_size, most, views=1):
    """Asks a teacher about a part of the data, in the way that `write` does.

    Args:
        teacher: a built Keras model.
        dataset: what `write` takes.
        taps: texts of the taps to store.
        batch_size: samples to ask about at once, where the data is no batches.
        most: how many samples to ask about; fewer where their answers are
            large.
        views: how many views of each sample the data may have.

    Returns:
        A `Probe`.

    Raises:
        ValueError: a tap does not exist, there are no samples, one comes
            twice, or an answer is not finite.

    Example:
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> found = probe(teacher, np.ones((9, 4)), [""], batch_size=2, most=6)
    >>> found.views[""].shape, found.samples
    ((6, 3), 9)
    """
    batches = iter(_spread(dataset, batch_size, most))
    first = next(batches, None)
    if first is None:
        raise ValueError(
            "There is nothing to ask the teacher about. Received: a dataset "
            "without samples."
        )
    outputs = dict.fromkeys(taps, Dense("float32"))
    stored = stored_outputs(teacher, outputs, first.inputs)
    asked = RecordingTeacher(teacher, stored)
    asked.record(first.inputs, first.labels)  # Compiles, and is not timed.
    answers, seconds, keys = [], [], []
    for batch in itertools.chain([first], batches):
        begin = time.perf_counter()
        answers.append(asked.record(batch.inputs, batch.labels))
        # One of another size would be compiled in that time.
        if len(batch.keys) == len(first.keys):
            seconds.append((time.perf_counter() - begin) / len(batch.keys))
        keys.extend(batch.keys)
        if len(keys) >= most or _too_large(answers):
            break
    return Probe(
        views={output.tap: _view(answers, output) for output in stored},
        seconds=float(np.median(seconds)),
        asked=len(keys),
        **_told_by(dataset, np.array(keys), batches, views),
    )


def _told_by(dataset, keys, batches, views):
    """How many samples there are, and how large an index to them is."""
    if isinstance(dataset, Views):
        return {"samples": dataset.samples}
    if is_arrays(dataset):
        return {"samples": count_of(dataset)}
    distinct, counts = np.unique(keys, return_counts=True)
    if views == 1 and (counts > 1).any():
        raise ValueError(comes_again(distinct[counts > 1][0]))
    ended = next(batches, None) is None
    # The index has an entry wherever an id is not the next one.
    breaks = (np.diff(keys) != 1).mean() if len(keys) > 1 else 0.0
    return {
        "samples": len(distinct) if ended else None,
        "index_bytes": INDEX_ENTRY * float(breaks),
    }


def _spread(dataset, batch_size, most):
    """Batches from all over the data, where it can be read anywhere."""
    if isinstance(dataset, Views):
        for keys in _groups(len(dataset), batch_size, most):
            view, sample_index = np.divmod(keys, dataset.samples)
            batch = dataset.batch(sample_index, view)
            yield of_batch(batch, Numbering(dataset.settings()))
    elif is_arrays(dataset):
        for keys in _groups(count_of(dataset), batch_size, most):
            yield of_arrays(dataset, keys)
    else:
        yield from batches_of(dataset, batch_size)


def _groups(count, batch_size, most):
    size = min(batch_size, count, most)
    whole = min(count, most) // size * size if size else 0
    keys = np.linspace(0, count - 1, whole).astype("int64")
    return keys.reshape(-1, size) if size else []


def _too_large(answers):
    held = sum(each.nbytes for each in keras.tree.flatten(answers))
    return held >= PROBE_BYTES


def _view(answers, output):
    view = np.concatenate([each[output.name]["values"] for each in answers])
    if not np.isfinite(view).all():
        raise ValueError(
            "The teacher answered with values that are not finite. Received: "
            f"NaN or infinity at {output.name!r}. Look at its weights and its "
            "input scaling."
        )
    return view
