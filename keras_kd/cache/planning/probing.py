"""Asks a teacher about a part of the data, and takes the time."""

import dataclasses
import itertools
import time

import keras
import numpy as np

from keras_kd.cache.asking import AskedTeacher
from keras_kd.cache.asking import stored_outputs
from keras_kd.cache.batches import batches_of
from keras_kd.cache.batches import count_of
from keras_kd.cache.batches import is_arrays
from keras_kd.cache.batches import of_arrays
from keras_kd.cache.batches import of_batch
from keras_kd.cache.dense import Dense
from keras_kd.cache.numbering import Numbering
from keras_kd.cache.views import Views

PROBE_BYTES = 2**27  # The answers are held in memory.


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a teacher answered to a part of the data.

    Args:
        views: dict, tap text -> float32 array `(asked, ...)`.
        seconds: that the teacher took for each.
        asked: how many views of samples it was asked about.
        samples: how many samples the data has; None if it doesn't tell.

    Example:
    >>> Probe({"": np.zeros((8, 3), "float32")}, 1e-4, 8, 100).asked
    8
    """

    views: dict
    seconds: float
    asked: int
    samples: int | None


def probe(teacher, dataset, taps, batch_size, most):
    """Asks a teacher about a part of the data, in the way that `write` does.

    Args:
        teacher: a built Keras model.
        dataset: what `write` takes.
        taps: texts of the taps to store.
        batch_size: samples to ask about at once, where the data is no batches.
        most: how many samples to ask about; fewer where their answers are
            large.

    Returns:
        A `Probe`.

    Raises:
        ValueError: a tap does not exist, there are no samples, or an answer is
            not finite.

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
    asked = AskedTeacher(teacher, stored)
    asked.ask(first.inputs, first.labels)  # Compiles, and is not timed.
    answers, seconds, count = [], [], 0
    for batch in itertools.chain([first], batches):
        begin = time.perf_counter()
        answers.append(asked.ask(batch.inputs, batch.labels))
        # One of another size would be compiled in that time.
        if len(batch.keys) == len(first.keys):
            seconds.append((time.perf_counter() - begin) / len(batch.keys))
        count += len(batch.keys)
        if count >= most or _too_large(answers):
            break
    return Probe(
        views={output.tap: _view(answers, output) for output in stored},
        seconds=float(np.median(seconds)),
        asked=count,
        samples=_samples_of(dataset, count, batches),
    )


def _samples_of(dataset, asked, batches):
    if isinstance(dataset, Views):
        return dataset.samples
    if is_arrays(dataset):
        return count_of(dataset)
    return asked if next(batches, None) is None else None


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
