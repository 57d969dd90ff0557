"""Writing: one pass of a teacher over batches, into a part."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_kd._src.cache.data.keys import KeySet
from keras_kd._src.cache.probes import Probes
from keras_kd._src.cache.probes import probes_of
from keras_kd._src.cache.records import SAMPLE_INDEX


class Writing:
    """One pass of a teacher over batches, into a part.

    Args:
        asked: the `AskedTeacher`.
        constants: what each output's encoding is calibrated to, by name.
        total: number of samples, or None, for the bar.
        numbering: of samples, or of their views.
        verbose: 1 for a progress bar, 0 for silence.
        check_inputs: whether what was asked about before is looked at again.

    Example:
    >>> import pathlib, tempfile
    >>> from keras_kd._src.cache.asking import AskedTeacher, stored_outputs
    >>> from keras_kd._src.cache.data.batches import batches_of
    >>> from keras_kd._src.cache.data.keys import Numbering
    >>> from keras_kd._src.cache.part import PartWriter
    >>> from keras_kd._src.cache.records import record_type
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

    def __init__(
        self, asked, constants, total, numbering, verbose, check_inputs=True
    ):
        self.asked = asked
        self.constants = constants
        self.numbering = numbering
        self.total = total
        self.verbose = verbose
        self.check_inputs = check_inputs

    def run(self, batches, part):
        """Asks about what the part does not hold yet, and appends it."""
        stored, seen = (KeySet(self.total or 1024) for _ in range(2))
        keys, done = part.stored_keys(), 0
        probes = Probes(part.journal.shards if self.check_inputs else [])
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
                self._check_same(batch, probes, part)
                seen.add(batch.keys)
                missing = ~stored.has(batch.keys)
                if missing.any():
                    prepared = self.asked.ask(batch.inputs, batch.labels)
                    # Now: what makes batches may use its arrays again.
                    probes_here = probes_of(batch.inputs, batch.keys)
                    if storing:
                        storing.result()
                    # While the teacher is asked about the next batch.
                    told = batch.keys, prepared, missing, probes_here
                    storing = beside.submit(self._store, part, *told)
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
            raise ValueError(comes_again(self.numbering.sample(twice[0])))

    def _check_same(self, batch, probes, part):
        key = probes.differing(batch.inputs, batch.keys)
        if key is not None:
            raise ValueError(
                f"The part {part.folder.name!r} was begun with other data. "
                f"Received: for sample {self.numbering.sample(key)} another "
                "input than the teacher was asked about then; its values, "
                "order, type or shape differ. Go on with the data of then, or "
                "write to another folder. If it only rounds otherwise: "
                "`cache.write(..., check_inputs=False)`."
            )

    def _store(self, part, keys, prepared, missing, probes):
        records = np.empty(len(keys), part.dtype)
        records[SAMPLE_INDEX] = keys
        for output in self.asked.stored:
            values = prepared[output.name]
            check_finite(output.name, values, keys)
            constants = self.constants[output.name]
            output.put(records, output.encoding.pack(values, constants))
        part.append(records[missing], probes)


def comes_again(sample):
    """What to say of a sample that is in the data twice.

    Example:
    >>> "sample 7 again" in comes_again(7)
    True
    """
    return (
        "Samples come more than once in the data, and are asked about once. "
        f"Received: sample {sample} again. Write the data without `repeat`, "
        "in one pass; views of samples as `cache.AugmentedViews`."
    )


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
