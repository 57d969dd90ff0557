"""Writing: one pass of a teacher over batches, into a part."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_kd.cache.key_set import KeySet
from keras_kd.cache.probes import checksum_of_input
from keras_kd.cache.records import SAMPLE_INDEX


class Writing:
    """One pass of a teacher over batches, into a part.

    Args:
        asked: the `AskedTeacher`.
        constants: what each output's encoding is calibrated to, by name.
        total: number of samples, or None, for the bar.
        numbering: of samples, or of their views.
        verbose: 1 for a progress bar, 0 for silence.

    Example:
    >>> import pathlib, tempfile
    >>> from keras_kd.cache.asking import AskedTeacher, stored_outputs
    >>> from keras_kd.cache.batches import batches_of
    >>> from keras_kd.cache.numbering import Numbering
    >>> from keras_kd.cache.part import PartWriter
    >>> from keras_kd.cache.records import record_type
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> outputs = stored_outputs(teacher, None, None)
    >>> asked = AskedTeacher(teacher, outputs)
    >>> writing = Writing(asked, {"output": {}}, 5, Numbering(), verbose=0)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with PartWriter(folder, record_type(outputs)) as part:
    ...     writing.run(batches_of(np.ones((5, 4)), 2), part)
    ...     part.journal.samples
    5
    """

    def __init__(self, asked, constants, total, numbering, verbose):
        self.asked = asked
        self.constants = constants
        self.numbering = numbering
        self.total = total
        self.verbose = verbose

    def run(self, batches, part):
        """Asks about what the part does not hold yet, and appends it."""
        stored, seen = (KeySet(self.total or 1024) for _ in range(2))
        keys, done = part.stored_keys(), 0
        stored.add(keys)
        # Of what is left: the time for it is told by what was asked now.
        left = self.total and max(0, self.total - len(keys))
        bar = keras.utils.Progbar(
            left, verbose=self.verbose, unit_name="sample"
        )
        storing = None
        with ThreadPoolExecutor(max_workers=1) as beside:
            for batch in batches:
                self._check_new(batch.keys, seen)
                seen.add(batch.keys)
                missing = ~stored.has(batch.keys)
                if missing.any():
                    prepared = self.asked.ask(batch.inputs, batch.labels)
                    # Now: what makes batches may use its arrays again.
                    probe = _probe(batch)
                    if storing:
                        storing.result()
                    # While the teacher is asked about the next batch.
                    storing = beside.submit(
                        self._store, part, batch.keys, prepared, missing, probe
                    )
                    done += int(missing.sum())
                    bar.update(done)
        if storing:
            storing.result()
        part.finish()
        bar.update(done, finalize=True)

    def _check_new(self, keys, seen):
        distinct, counts = np.unique(keys, return_counts=True)
        twice = distinct[seen.has(distinct) | (counts > 1)]
        if len(twice):
            sample = self.numbering.sample(twice[0])
            raise ValueError(
                "Samples come more than once in the data, and are asked about "
                f"once. Received: sample {sample} again. Write the data "
                "without `repeat`, in one pass; views of samples as "
                "`cache.Views`."
            )

    def _store(self, part, keys, prepared, missing, probe):
        records = np.empty(len(keys), part.dtype)
        records[SAMPLE_INDEX] = keys
        for output in self.asked.stored:
            values = prepared[output.name]
            check_finite(output.name, values, keys)
            constants = self.constants[output.name]
            output.put(records, output.encoding.pack(values, constants))
        part.append(records[missing], probe)


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
