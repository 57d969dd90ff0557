"""Measures the teacher's time, and from when on a cache saves time."""

import tempfile
import time

import keras
import numpy as np

from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.teacher_cache import open as open_cache
from keras_kd._src.cache.writer import write
from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.teacher import Teacher

# Limit for the predictions of a batch, which are kept in memory.
MOST_BYTES = 2**24
# How many batches, and at most how many bytes, are written for a measurement.
BATCHES, MOST_WRITTEN = 32, 2**26


class RecordedTeacher(Teacher):
    """Replays a teacher's predictions, to write a cache without running it.

    Args:
        features: list of dicts, tap text -> array, one per batch.
    """

    name = "recorded"

    def __init__(self, features):
        self.batches, self.next = features, 0

    def feature_specs(self, taps, inputs):
        return {
            tap.text: keras.KerasTensor(
                (None, *self.batches[0][tap.text].shape[1:])
            )
            for tap in taps
        }

    def predictions(self, batch, taps, state_mapping=None, training=True):
        features = self.batches[self.next]
        self.next += 1
        features = keras.tree.map_structure(
            keras.ops.convert_to_tensor, features
        )
        return Predictions(None, features)


def can_be_cached(features):
    """Whether features are finite tensors, one per tap, and not too large."""
    flat = [each for batch in features for each in batch.values()]
    if not flat or any(keras.tree.is_nested(each) for each in flat):
        return False
    shapes = [[each.shape[1:] for each in batch.values()] for batch in features]
    alike = all(each == shapes[0] for each in shapes)
    small = sum(each.nbytes for each in flat) <= MOST_BYTES * len(features)
    return alike and small and all(np.isfinite(each).all() for each in flat)


def measured_cache(features):
    """Seconds per batch to write and to read predictions, bytes per sample.

    Args:
        features: list of dicts, tap text -> array, one per batch.
    """
    # Repeated, so that opening and closing the cache counts little.
    held = sum(each.nbytes for each in keras.tree.flatten(features))
    times = min(BATCHES // len(features), MOST_WRITTEN // max(held, 1))
    features = features * max(times, 1)
    sizes = [len(next(iter(batch.values()))) for batch in features]
    ends = np.cumsum(sizes)
    keys = [np.arange(end - size, end) for end, size in zip(ends, sizes)]
    # A cache does not store the inputs: one number per sample will do.
    data = [(key.astype("float32"), {"sample_index": key}) for key in keys]
    outputs = {tap: Dense("float32") for tap in features[0]}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        write(
            RecordedTeacher(features), data, folder, outputs=outputs, verbose=0
        )
        written = time.perf_counter() - begin
        cache, times = open_cache(folder, verify="sizes"), []
        for key in keys:
            begin = time.perf_counter()
            restored = cache.restore(cache.read(key))
            keras.tree.map_structure(keras.ops.convert_to_numpy, restored)
            times.append(time.perf_counter() - begin)
        bytes_per_sample = cache.manifest.dtype.itemsize
    return written / len(keys), float(np.median(times)), bytes_per_sample


def pays_from(teacher, writing, reading):
    """The first epoch after which a cache has saved time in total, or None.

    A live teacher takes `e * teacher` in e epochs; a cache takes `teacher +
    writing + e * reading`, all for the same samples.
    """
    if teacher <= reading:
        return None
    return int((teacher + writing) / (teacher - reading)) + 1


def judge_cost(seconds, samples, cached):
    """The finding about the teacher's time.

    Args:
        seconds: the teacher's time for a batch.
        samples: the number of samples in a batch.
        cached: the result of `measured_cache`; None if it can't be cached.
    """
    figures = {"seconds": seconds, "samples": samples}
    seen = f"The teacher takes {1e3 * seconds:.3g} ms a batch of {samples}"
    if cached is None:
        return Finding("teacher cost", "fine", f"{seen}.", figures=figures)
    writing, reading, size = cached
    epoch = pays_from(seconds, writing, reading)
    figures |= {
        "writing": writing,
        "reading": reading,
        "bytes_per_sample": size,
        "pays_from_epoch": epoch,
    }
    seen += (
        f"; to write its predictions to a cache {1e3 * writing:.3g} ms, to "
        f"read them {1e3 * reading:.3g} ms ({size:,} bytes a sample)"
    )
    if epoch is None:
        text = "A cache does not pay: reading takes as long."
        return Finding(
            "teacher cost", "fine", f"{seen}. {text}", figures=figures
        )
    return Finding(
        "teacher cost",
        "fine",
        f"{seen}. A cache pays from epoch {epoch}.",
        "`keras_kd.cache.write` makes one, `keras_kd.cache.plan` says more; "
        "with random augmentation it needs `AugmentedViews`.",
        figures,
    )
