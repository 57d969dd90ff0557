"""TeacherCache: cached predictions, used in place of a teacher."""

import keras
import numpy as np

from keras_kd._src.arguments import one_of
from keras_kd._src.cache.data.batches import rows_at
from keras_kd._src.cache.data.batches import texts_as_array
from keras_kd._src.cache.data.join import join
from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.encodings import TopK
from keras_kd._src.cache.format import Manifest
from keras_kd._src.cache.input_checksums import InputChecksums
from keras_kd._src.cache.reader import StoredRecords
from keras_kd._src.cache.remote import storage_at
from keras_kd._src.cache.stored_logits import StoredLogits
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.distillation.teacher import as_teacher


def open(
    path,
    *,
    teacher=None,
    metadata=None,
    verify="auto",
    memory=False,
    check_inputs=True,
    cache_dir=None,
):
    """Opens cached predictions, to train a student on them.

    `TeacherCache` shows how they are used.

    Args:
        path: the cache's folder, or a url of object storage that `fsspec`
            supports, such as `"s3://bucket/cache"`. Remote files are copied to
            this machine when they are first used.
        teacher: the live teacher, to check that the predictions are its own;
            None skips that check. Weights are compared. Layers without
            weights, such as `Rescaling`, and Python functions without a
            version are not: describe them in `metadata`.
        metadata: dict of metadata that the cache must have been written with.
            Keys that are left out are not compared.
        verify: `"full"` compares all checksums; `"auto"` those of about 256 MB
            of shards, spread over the cache (or none of a remote cache, as
            each file is checked whole when it is fetched); `"sizes"` none. The
            manifest, all file sizes, and an index of up to 256 MB are always
            checked. The attribute `verified` has the share that was compared;
            `cache.verify` checks everything.
        memory: whether to read all records into memory now, which makes
            training faster where they fit. Otherwise each batch is read from
            the files, and the system keeps in memory what it can.
        check_inputs: whether `join` compares some inputs of each shard, by
            checksum, with those that the teacher was run on. False where the
            student's inputs are meant to differ, for example in size.
        cache_dir: folder for copies of remote files; by default `keras_kd` in
            `$XDG_CACHE_HOME`, else `~/.cache/keras_kd`. Copies of caches that
            are no longer used may be deleted, as may files whose names begin
            with `unfinished_` while no process is running.

    Returns:
        A `TeacherCache`.

    Raises:
        ValueError: there is no complete cache; a file is missing or damaged;
            the cache was written with another teacher or other metadata; an
            argument is out of range.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, keras.ops.ones((8, 4)), folder, verbose=0)
    >>> kd.cache.open(folder, teacher=teacher, verify="full")
    <TeacherCache of 8 samples: output (3,) dense>
    """
    one_of(verify, "verify", ("full", "auto", "sizes"))
    if teacher is not None:
        teacher = as_teacher(teacher)
    cache = TeacherCache(storage_at(path, cache_dir), check_inputs)
    cache.manifest.check_metadata(cache.name, metadata)
    if teacher is not None:
        cache.manifest.check_teacher(cache.name, teacher)
    cache.stored.verify(verify)
    if memory:
        cache.stored.load()
    return cache


class TeacherCache(Teacher):
    """Cached predictions of a teacher, which a `Distiller` takes as a teacher.

    Made by `keras_kd.cache.open`. It holds memory maps and no weights.
    Training then costs no more than the student's own step and reading the
    predictions.

    Each batch must carry its predictions. `join` adds them to a data set, in
    any order and batch size, as they are looked up by sample index. `evaluate`
    also takes batches without predictions, and then reports the student's own
    loss and metrics.

    `verified` is the share of the cache's bytes whose checksums were compared
    when it was opened, from 0.0 to 1.0; the `repr` shows it if it is below 1.0.
    The other files have the right size, and each record that is read is
    checked to be of the right sample.

    Args:
        storage: the cache's files.
        check_inputs: as in `keras_kd.cache.open`.

    Raises:
        ValueError: the manifest or the index is missing or damaged.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.models.clone_model(teacher)
    >>> x, y = np.ones((8, 4)), np.zeros(8)
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> cached = kd.cache.open(folder)
    >>> distiller = kd.Distiller(cached, student)
    >>> distiller.compile(
    ...     "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ... )
    >>> history = distiller.fit(cached.join(x, y, batch_size=4), verbose=0)
    >>> sorted(distiller.evaluate(x, y, verbose=0, return_dict=True))
    ['hard_loss', 'student_losses']
    """

    join = join

    def __init__(self, storage, check_inputs=True):
        self.storage = storage
        self.name = storage.name
        self.check_inputs = check_inputs
        file = storage.local("manifest.json")
        self.manifest = Manifest.read(file, self.name)
        self.outputs = {
            output.tap: output.encoding for output in self.manifest.outputs
        }
        self.shapes = {
            output.tap: output.shape for output in self.manifest.outputs
        }
        self.numbering = Numbering(self.manifest.views)
        self.stored = StoredRecords(storage, self.manifest)
        self.tag = self.manifest.tag
        self._few_positions = False  # Whether logits are restored as needed.
        self._input_checksums = InputChecksums(
            [shard for part in self.manifest.parts for shard in part["shards"]]
        )

    # --- what a distiller needs of a teacher --------------------------------

    def describe(self):
        """The line for the teacher in `Distiller.summary`."""
        return f"{self.name} (TeacherCache of {len(self):,} samples)"

    def fingerprint(self):
        """The fingerprint of the teacher that was cached."""
        return self.manifest.fingerprint

    def predictions(self, batch, taps, state_mapping=None, training=True):
        """The teacher's predictions that a batch carries.

        Raises:
            ValueError: a batch in training carries none, or a batch carries
                those of another cache.
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
        carried = batch.cached[self.tag]
        features = self.restore(carried)
        for output in filter(self._is_chunked, self.manifest.outputs):
            stored = carried[output.name], output.encoding, output.shape
            features[output.tap] = StoredLogits(*stored)
        return Predictions(features.get(""), features)

    def leave_out_head(self, inputs, chunk_size):
        self._few_positions = chunk_size is not None

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

    def check_taps(self, taps):
        """Raises a `ValueError` if a tap is not in the cache."""
        for tap in taps:
            if tap.text not in self.shapes:
                raise ValueError(
                    f"The cache {self.name!r} has nothing of tap "
                    f"{tap.text or 'output'!r}. Received: a transfer that "
                    "reads the teacher there; the cache holds "
                    f"{[text or 'output' for text in self.shapes]}. Write it "
                    "anew, with `outputs={...}` that name all taps."
                )

    def feature_specs(self, taps, inputs):
        """The shapes of the features at some taps, as `KerasTensor`s."""
        return {
            text: keras.KerasTensor((None, *shape))
            for text, shape in self.shapes.items()
        }

    # --- predictions ---------------------------------------------------------

    def __len__(self):
        return self.manifest.samples

    def __repr__(self):
        outputs = ", ".join(
            f"{output.name} {output.shape} {output.encoding.kind}"
            for output in self.manifest.outputs
        )
        share = self.verified
        verified = "" if share == 1.0 else f", {share:.1%} verified"
        return f"<TeacherCache of {len(self)} samples: {outputs}{verified}>"

    @property
    def verified(self):
        """The share of all bytes whose checksums were compared (0.0 to 1.0)."""
        return self.stored.verified

    @property
    def views_per_sample(self):
        """How many augmented views of each sample the cache holds."""
        return self.numbering.count

    @property
    def metadata(self):
        """The metadata that `write` was given, a dict."""
        return dict(self.manifest.metadata)

    def predictions_of(self, sample_index, view=None):
        """The teacher's predictions for some samples, restored to full shape.

        Args:
            sample_index: integers of shape `(batch,)`.
            view: integer or integers `(batch,)`: the number of each sample's
                augmented view, if the cache holds several.

        Returns:
            Dict, name of the output -> float32 NumPy array `(batch, ...)`.

        Raises:
            ValueError: the cache has no predictions for a sample.
        """
        carried = self.read(sample_index, view)
        return keras.tree.map_structure(
            keras.ops.convert_to_numpy, self.restore(carried, by="name")
        )

    def read(self, sample_index, view=None):
        """The stored predictions for some samples, still encoded.

        Args:
            sample_index: integers of shape `(batch,)`.
            view: integer or integers `(batch,)`: the number of each sample's
                augmented view, if the cache holds several.

        Returns:
            Dict, name of the output -> dict of NumPy arrays, as its encoding
            stores them.

        Raises:
            ValueError: the cache has no predictions for a sample.
        """
        targets = {"sample_index": sample_index}
        if view is not None:
            targets["view"] = np.broadcast_to(view, np.shape(sample_index))
        return self._read(self.numbering.keys(targets))

    def add_to(self, batch):
        """Adds the predictions for its samples to a batch.

        Args:
            batch: `(x, y)` or `(x, y, sample_weight)`, where `y` is a dict
                with `"sample_index"`, and `"view"` if the cache holds several
                augmented views.

        Returns:
            The batch with `"predictions"` in `y`: what `read` returns, under
            the cache's `tag`, which identifies a cache.

        Raises:
            ValueError: a sample has no index or no predictions, or its input
                differs from the one that the teacher was run on.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        keys = self.numbering.keys(y)
        self.check_batch(x, keys)
        y = {key: value for key, value in y.items() if key != "view"}
        predictions = {self.tag: self._read(keys)}
        weights = () if sample_weight is None else (sample_weight,)
        return x, {**y, "predictions": predictions}, *weights

    def _read(self, keys):
        return self._carried(*self.stored.records(keys))

    def _carried(self, records, parts):
        constants = [part["constants"] for part in self.manifest.parts]
        return {
            output.name: output.carried(records, parts, constants)
            for output in self.manifest.outputs
        }

    def restore(self, carried, by="tap"):
        """Restores the outputs from what a batch carries.

        It runs in the student's training step.

        Args:
            carried: what `read` returns, as tensors.
            by: `"tap"` or `"name"`, the keys of the result.

        Returns:
            Dict, tap or name -> tensor `(batch, ...)`.
        """
        return {
            getattr(output, by): output.encoding.restore(
                carried[output.name], output.shape
            )
            for output in self.manifest.outputs
            if not (by == "tap" and self._is_chunked(output))
        }

    def _is_chunked(self, output):
        """Whether an output is restored a few positions at a time."""
        of_tokens = isinstance(output.encoding, TopK) and len(output.shape) == 2
        return self._few_positions and of_tokens and output.tap == ""

    def carried_spec(self):
        """The structure that `add_to` adds, as `KerasTensor`s."""
        empty = np.zeros(0, self.manifest.dtype)
        carried = {self.tag: self._carried(empty, np.zeros(0, int))}
        return keras.tree.map_structure(
            lambda a: keras.KerasTensor((None, *a.shape[1:]), str(a.dtype)),
            carried,
        )

    def check_arrays(self, arrays, sample_index):
        """Raises a `ValueError` if rows differ from the teacher's inputs."""
        places = self._input_checksums.places(sample_index)
        if self.check_inputs and len(places):
            self.check_batch(rows_at(arrays, places), sample_index[places])

    def check_batch(self, inputs, keys):
        """Raises a `ValueError` if inputs differ from the teacher's inputs."""
        if not self.check_inputs:
            return
        inputs = texts_as_array(inputs)
        key = self._input_checksums.differing(inputs, keys)
        if key is not None:
            raise ValueError(
                f"Sample {self.numbering.sample(key)} is not what the teacher "
                f"of the cache {self.name!r} was run on. Received: an input "
                "of other values, order, type or shape. Use the data and "
                "preprocessing that the cache was written with; with random "
                "augmentation, write and join `cache.AugmentedViews`. If only "
                "size or type are meant to differ: "
                "`cache.open(path, check_inputs=False)`."
            )
