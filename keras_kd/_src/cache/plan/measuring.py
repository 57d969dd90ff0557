"""Measures a teacher on a part of the data, and the machine's free space."""

import dataclasses
import itertools
import re
import shutil
import time
from pathlib import Path

import keras
import numpy as np

from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.data.batches import batches_of
from keras_kd._src.cache.data.batches import count_of
from keras_kd._src.cache.data.batches import is_arrays
from keras_kd._src.cache.data.batches import of_keys
from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.remote import absolute
from keras_kd._src.cache.writer import RecordingTeacher
from keras_kd._src.cache.writer import comes_again
from keras_kd._src.cache.writer import stored_outputs

MOST_BYTES = 2**27  # Of the predictions, which are held in memory.
INDEX_ENTRY = 16  # Bytes: a key, and its row.
# A container's memory limit and use, in versions 2 and 1 of cgroups.
CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
    ),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A teacher's predictions for a part of the data, and the time taken."""

    outputs: dict  # Tap text -> float32 array `(probed, ...)`.
    seconds: float  # For each sample.
    probed: int
    samples: int | None  # In all of the data; None where that is not known.
    index_bytes: float  # Bytes of the cache's index for each prediction.


def measured(teacher, dataset, taps, batch_size, most, views):
    """Runs a teacher on `most` samples at most, as `write` does."""
    # `views` is how many augmented views of each sample the data may have.
    batches = iter(_spread(dataset, batch_size, most))
    first = next(batches, None)
    if first is None:
        raise ValueError(
            "There is nothing to run the teacher on. Received: a dataset "
            "without samples."
        )
    exact = dict.fromkeys(taps, Dense("float32"))
    stored = stored_outputs(teacher, exact, first.inputs)
    recording = RecordingTeacher(teacher, stored)
    recording.record(first.inputs, first.labels)  # Compiles, and is not timed.
    predictions, seconds, keys = [], [], []
    for batch in itertools.chain([first], batches):
        begin = time.perf_counter()
        predictions.append(recording.record(batch.inputs, batch.labels))
        # A batch of another size would be compiled while it is timed.
        if len(batch.keys) == len(first.keys):
            seconds.append((time.perf_counter() - begin) / len(batch.keys))
        keys.extend(batch.keys)
        if len(keys) >= most or _too_large(predictions):
            break
    return Measured(
        {output.tap: _joined(predictions, output.name) for output in stored},
        float(np.median(seconds)),
        len(keys),
        *_extent(dataset, np.array(keys), batches, views),
    )


def _spread(dataset, batch_size, most):
    """Batches spread over the data, where it has random access."""
    if isinstance(dataset, AugmentedViews):
        count = len(dataset)
    elif is_arrays(dataset):
        count = count_of(dataset)
    else:
        yield from batches_of(dataset, batch_size)
        return
    size = min(batch_size, count, most)
    if size:
        wanted = min(count, most) // size * size
        keys = np.linspace(0, count - 1, wanted).astype("int64")
        for part in keys.reshape(-1, size):
            yield of_keys(dataset, part)


def _too_large(predictions):
    held = sum(each.nbytes for each in keras.tree.flatten(predictions))
    return held >= MOST_BYTES


def _joined(predictions, name):
    output = np.concatenate([each[name]["values"] for each in predictions])
    if not np.isfinite(output).all():
        raise ValueError(
            "The teacher's predictions must be finite. Received: NaN or "
            f"infinity at {name!r}. Look at its weights and its input scaling."
        )
    return output


def _extent(dataset, keys, batches, views):
    """How many samples there are, and bytes of index for each prediction."""
    if isinstance(dataset, AugmentedViews):
        return dataset.samples, 0.0
    if is_arrays(dataset):
        return count_of(dataset), 0.0
    distinct, counts = np.unique(keys, return_counts=True)
    if views == 1 and (counts > 1).any():
        raise ValueError(comes_again(distinct[counts > 1][0]))
    ended = next(batches, None) is None
    # The index has an entry wherever a key is not the next one.
    breaks = (np.diff(keys) != 1).mean() if len(keys) > 1 else 0.0
    return len(distinct) if ended else None, INDEX_ENTRY * float(breaks)


def free_disk(path):
    """Free bytes on the disk of a folder, which need not exist yet."""
    folder = absolute(path)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def free_memory():
    """Bytes of memory that may still be taken; 0 where it isn't known."""
    free = [_numbers("/proc/meminfo").get("MemAvailable:", 0) * 1024]
    for folder, *files in CONTAINERS:
        limit, used = (_numbers(f"{folder}/{name}") for name in files)
        if limit and used:  # "max" is no number, and no limit.
            # The system keeps files in memory until it is needed.
            dropped = _numbers(f"{folder}/memory.stat").get("inactive_file", 0)
            free.append(limit[""] - used[""] + dropped)
    return max(0, min(free))


def _numbers(path):
    """The first numbers of a file's lines, by the word before (or `""`)."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    found = re.findall(r"^(?:(\S+)[ \t]+)?(\d+)\b", text, re.MULTILINE)
    return {name: int(number) for name, number in found}
