"""Writing: one pass of a teacher over batches, into a part."""

import keras
import numpy as np

from keras_kd.cache.probes import checksum_of_input
from keras_kd.cache.records import SAMPLE_INDEX

MOST_KEYS = 2**36  # A byte each is held while writing.


class Writing:
    """One pass of a teacher over batches, into a part.

    Args:
        asked: the `AskedTeacher`.
        constants: what each output's encoding is calibrated to, by name.
        total: number of samples, or None, for the bar.
        views: views of each sample.
        verbose: 1 for a progress bar, 0 for silence.
    """

    def __init__(self, asked, constants, total, views, verbose):
        self.asked = asked
        self.constants = constants
        self.views = views
        self.bar = keras.utils.Progbar(
            total, verbose=verbose, unit_name="sample"
        )
        self.seen = np.zeros(total or 1024, bool)
        self.done = 0

    def run(self, batches, writer):
        stored = self._grown(writer.stored_keys())
        before = np.zeros_like(self.seen)
        before[stored] = True
        for batch in batches:
            keys = self._checked(batch.keys)
            before = np.pad(before, (0, len(self.seen) - len(before)))
            new = ~before[keys]
            if new.any():
                records = self._records(batch, writer.dtype)
                writer.append(records[new], _probe(batch))
            self.done += len(keys)
            self.bar.update(self.done)
        writer.finish()
        self.bar.update(self.done, finalize=True)

    def _grown(self, keys):
        """The keys, once there is room for them."""
        lowest, highest = (
            (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
        )
        if lowest < 0 or highest >= MOST_KEYS:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                "A sample's index is its place in the data, a whole number "
                f"from 0. Received: {wrong // self.views}."
            )
        missing = highest + 1 - len(self.seen)
        self.seen = np.pad(self.seen, (0, max(0, 2 * missing)))
        return keys

    def _checked(self, keys):
        keys = self._grown(keys)
        distinct, counts = np.unique(keys, return_counts=True)
        twice = distinct[self.seen[distinct] | (counts > 1)]
        if len(twice):
            raise ValueError(
                "Samples come more than once in the data, and are asked about "
                f"once. Received: sample {int(twice[0]) // self.views} again. "
                "Write the data without `repeat`, in one pass; views of "
                "samples as `cache.Views`."
            )
        self.seen[keys] = True
        return keys

    def _records(self, batch, dtype):
        prepared = self.asked.ask(batch.inputs, batch.labels)
        records = np.empty(len(batch.keys), dtype)
        records[SAMPLE_INDEX] = batch.keys
        for output in self.asked.stored:
            values = prepared[output.name]
            check_finite(output.name, values, batch.keys)
            constants = self.constants[output.name]
            output.put(records, output.encoding.pack(values, constants))
        return records


def check_finite(name, prepared, keys):
    """Raises a `ValueError` if what is prepared of a view isn't finite."""
    for values in prepared.values():
        if np.isfinite(values.sum(dtype="float64")):
            continue
        bad = ~np.isfinite(values.reshape(len(keys), -1)).all(axis=1)
        if bad.any():
            raise ValueError(
                "The teacher answered with values that are not finite. "
                f"Received: NaN or infinity at {name!r} for the "
                f"samples {keys[bad][:5].tolist()}. Look at its weights and "
                "its input scaling; what was stored before is kept."
            )


def _probe(batch):
    """The key and a checksum of the first sample's input."""
    return int(batch.keys[0]), checksum_of_input(batch.inputs, 0)
