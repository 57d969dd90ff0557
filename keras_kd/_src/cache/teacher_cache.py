"""TeacherCache: stored answers, in the place of a teacher."""

import keras
import numpy as np

from keras_kd._src.cache.batches import rows_at
from keras_kd._src.cache.joining import join
from keras_kd._src.cache.manifest import Manifest
from keras_kd._src.cache.numbering import Numbering
from keras_kd._src.cache.probes import Probes
from keras_kd._src.cache.stored_records import StoredRecords
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.teacher import Teacher


class TeacherCache(Teacher):
    """What a teacher answered, by sample; a teacher itself to a `Distiller`.

    Made by `keras_kd.cache.open`. It holds a memory map and no weights. Each
    batch must bring its answers along: `join` adds them to a data set, in any
    order and any batches, as each sample says which it is. Batches without
    answers are evaluated on the student's own loss and metrics.

    Args:
        storage: the cache's files.
        check_inputs: see `open`.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.models.clone_model(teacher)
    >>> x, y = np.ones((8, 4)), np.zeros(8)
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> answers = kd.cache.open(folder)
    >>> distiller = kd.Distiller(answers, student)
    >>> distiller.compile(
    ...     "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ... )
    >>> history = distiller.fit(answers.join(x, y, batch_size=4), verbose=0)
    >>> sorted(distiller.evaluate(x, y, verbose=0, return_dict=True))
    ['hard_loss', 'loss', 'student_losses']
    """

    join = join

    def __init__(self, storage, check_inputs=True):
        self.storage = storage
        self.name = storage.name
        self.check_inputs = check_inputs
        data = storage.local("manifest.json").read_bytes()
        self.manifest = Manifest.parse(data, self.name)
        self.outputs = {
            output.tap: output.encoding for output in self.manifest.outputs
        }
        self.shapes = {
            output.tap: output.shape for output in self.manifest.outputs
        }
        self.numbering = Numbering(self.manifest.views)
        self.stored = StoredRecords(storage, self.manifest)
        self.tag = self.manifest.tag
        self._probes = Probes(
            [shard for part in self.manifest.parts for shard in part["shards"]]
        )

    # --- what a distiller asks of a teacher ---------------------------------

    def describe(self):
        """How `Distiller.summary` names it."""
        return f"{self.name} (TeacherCache of {len(self):,} samples)"

    def fingerprint(self):
        """The fingerprint of the teacher that was cached."""
        return self.manifest.fingerprint

    def predictions(self, batch, taps, state_mapping=None, training=True):
        """The teacher's predictions, from those that a batch brings along.

        Raises:
            ValueError: it brings none, in training, or another cache's.
        """
        if batch.cached is None:
            if not training:
                return None
            raise ValueError(
                "The teacher is a cache, and can't predict: each batch must "
                "bring its predictions along. Received: a batch without. Fit "
                "on `cache.join(x, y, batch_size=...)`, or "
                "`cache.join(dataset)`."
            )
        if self.tag not in batch.cached:
            raise ValueError(
                "The batch brings predictions of another cache than "
                f"{self.name!r}. Received: predictions of "
                f"{', '.join(batch.cached)}; expected: of {self.tag}. Join the "
                "data with this cache, or with one of the same teacher and "
                "`outputs`; or make a Distiller of the other one."
            )
        features = self.restore(batch.cached[self.tag])
        return Predictions(features.get(""), features)

    def check_output(self, metrics):
        """Raises a `ValueError` if metrics need an output that isn't cached."""
        if metrics and "" not in self.shapes:
            raise ValueError(
                f"The cache {self.name!r} does not hold the teacher's output. "
                "Received: metrics of it, "
                f"{[metric.name for metric in metrics]}; the cache holds "
                f"{list(self.shapes)}. Compile without them, or write the "
                'cache with `outputs={"": ..., ...}`.'
            )

    def feature_specs(self, taps, inputs):
        """What its features at some taps are, as `KerasTensor`s.

        Raises:
            ValueError: a tap is not in the cache.
        """
        for tap in taps:
            if tap.text not in self.shapes:
                raise ValueError(
                    f"The cache {self.name!r} has nothing of tap "
                    f"{tap.text or 'output'!r}. Received: a transfer that "
                    "reads the teacher there; the cache holds "
                    f"{[text or 'output' for text in self.shapes]}. Write it "
                    "anew, with `outputs={...}` that name all taps."
                )
        return {
            text: keras.KerasTensor((None, *shape))
            for text, shape in self.shapes.items()
        }

    # --- answers ------------------------------------------------------------

    def __len__(self):
        return self.manifest.samples

    def __repr__(self):
        outputs = ", ".join(
            f"{output.name} {output.shape} {output.encoding.kind}"
            for output in self.manifest.outputs
        )
        return f"<TeacherCache of {len(self)} samples: {outputs}>"

    @property
    def views_per_sample(self):
        """How many views of each sample the teacher was asked about."""
        return self.numbering.count

    def read(self, sample_index, view=None):
        """What a batch carries of the answers about some samples.

        Args:
            sample_index: whole numbers of shape `(batch,)`.
            view: which view of each, if the cache holds several.

        Returns:
            Dict, name of the output -> dict of NumPy arrays, as the encoding
            has them.

        Raises:
            ValueError: the cache has no answer about a sample.
        """
        targets = {"sample_index": sample_index}
        if view is not None:
            targets["view"] = np.broadcast_to(view, np.shape(sample_index))
        return self._read(self.numbering.keys(targets))

    def _read(self, keys):
        return self._carried(*self.stored.records(keys))

    def _carried(self, records, parts):
        constants = [part["constants"] for part in self.manifest.parts]
        return {
            output.name: output.carried(records, parts, constants)
            for output in self.manifest.outputs
        }

    def views(self, sample_index, view=None):
        """The teacher's views of some samples, as a student is told them.

        Args:
            sample_index: whole numbers of shape `(batch,)`.
            view: which view of each, if the cache holds several.

        Returns:
            Dict, name of the output -> float32 NumPy array.
        """
        carried = self.read(sample_index, view)
        return keras.tree.map_structure(
            keras.ops.convert_to_numpy, self.restore(carried, by="name")
        )

    def restore(self, carried, by="tap"):
        """The views, from what a batch carries; in the student's step."""
        return {
            getattr(output, by): output.encoding.restore(
                carried[output.name], output.shape
            )
            for output in self.manifest.outputs
        }

    def add_to(self, batch):
        """A batch, with the answers to its samples.

        Args:
            batch: `(x, y)` or `(x, y, sample_weight)`, with `"sample_index"`
                (and `"view"`) in `y`.

        Returns:
            The same, with `"answers"` in `y`: what `read` returns, under the
            cache's `tag`, so that no other cache's are taken for its own.

        Raises:
            ValueError: a sample has no index or no answer, or isn't the one
                that the teacher was asked about.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        keys = self.numbering.keys(y)
        self.check_batch(x, keys)
        y = {key: value for key, value in y.items() if key != "view"}
        answers = {self.tag: self._read(keys)}
        weights = () if sample_weight is None else (sample_weight,)
        return x, {**y, "answers": answers}, *weights

    def carried_spec(self):
        """What `add_to` adds, as `KerasTensor`s of any batch size."""
        empty = np.zeros(0, self.manifest.dtype)
        carried = {self.tag: self._carried(empty, np.zeros(0, int))}
        return keras.tree.map_structure(
            lambda a: keras.KerasTensor((None, *a.shape[1:]), str(a.dtype)),
            carried,
        )

    def check_arrays(self, arrays, sample_index):
        """Raises a `ValueError` if rows aren't what the teacher saw."""
        places = self._probes.places(sample_index)
        if self.check_inputs and len(places):
            self.check_batch(rows_at(arrays, places), sample_index[places])

    def check_batch(self, inputs, keys):
        """Raises a `ValueError` if inputs aren't what the teacher saw."""
        if not self.check_inputs:
            return
        key = self._probes.differing(inputs, keys)
        if key is not None:
            raise ValueError(
                f"Sample {self.numbering.sample(key)} is not what the teacher "
                f"of the cache {self.name!r} was asked about: its values, "
                "order, type or shape differ. Use the data and preprocessing "
                "that the cache was written with; with random augmentation, "
                "write and join `cache.Views`. If only size or type are meant "
                "to differ: `cache.open(path, check_inputs=False)`."
            )
