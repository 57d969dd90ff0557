"""write: runs a teacher on each sample once, and stores its predictions."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import shared_out
from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.data.batches import batches_of
from keras_kd._src.cache.data.batches import calibration_batches
from keras_kd._src.cache.data.batches import check_list
from keras_kd._src.cache.data.batches import count_of
from keras_kd._src.cache.data.batches import is_arrays
from keras_kd._src.cache.data.batches import texts_as_array
from keras_kd._src.cache.data.keys import KeySet
from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.encodings import KINDS
from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.format import check_same
from keras_kd._src.cache.format import part_folders
from keras_kd._src.cache.format import read_part
from keras_kd._src.cache.format import settings_of
from keras_kd._src.cache.input_checksums import InputChecksums
from keras_kd._src.cache.input_checksums import checksums_of_batch
from keras_kd._src.cache.merge import merge
from keras_kd._src.cache.part import Part
from keras_kd._src.cache.part import checked_name
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.cache.records import record_type
from keras_kd._src.cache.remote import local_path
from keras_kd._src.distillation.batch import Batch
from keras_kd._src.distillation.preprocessing import preprocessed_inputs
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import sizes_known

CALIBRATION_SAMPLES = 512  # On which the scales of int8 are measured.


def write(
    teacher,
    dataset,
    path,
    *,
    outputs=None,
    part=None,
    batch_size=256,
    samples=None,
    views=None,
    metadata=None,
    shard_samples=None,
    check_inputs=True,
    verbose=1,
):
    """Runs a teacher on each sample once, and stores its predictions.

    This is logit caching (offline distillation): a `Distiller` that gets the
    cached predictions in place of the teacher trains at the student's own
    speed. If a call was interrupted or killed, make the same call again: it
    continues where it stopped, and skips the samples that are stored. The
    cache can be opened once it is complete.

    With random augmentation, plain predictions would belong to images that
    never occur again: write `AugmentedViews` instead.

    A language model with a preprocessor takes the texts themselves. So does
    `join`, where the student's preprocessor makes tokens and weights of them:

        outputs = kd.cache.TopK(32, temperature=1.0)
        kd.cache.write(causal_lm, texts, "predictions", outputs=outputs)
        cache = kd.cache.open("predictions")
        distiller = kd.Distiller(cache, student, kd.losses.TopKTargets(32))
        distiller.fit(cache.join(texts, batch_size=8))

    All samples are stored at one length, and a padded token takes as many
    bytes as any other: pack texts into full sequences, or shorten the length.
    A stream of batches, `(texts, {"sample_index": i})`, need not fit into
    memory.

    Args:
        teacher: a built Keras model, or any other teacher: an `Ensemble`, an
            `OnnxModel`, a `keras_kd.teachers.Teacher` of your own, or a
            `FunctionTeacher` (give it a version that changes with its
            function, as its fingerprint doesn't cover the function).
        dataset: one of: an array, whose rows are the samples 0, 1, 2..., or a
            dict or list of arrays for several inputs; a list of texts, for a
            teacher with a preprocessor; `AugmentedViews`; or batches
            `(x, {"labels": y, "sample_index": i})` in any form that `fit`
            takes, where `i` are integers from 0, and labels are given only for
            a teacher that uses them (an `Ensemble` weighted by confidence
            needs them). It must be finite.
        path: the cache's folder, which must be local.
        outputs: how the teacher's output is stored: `Dense`, `TopK` or `Int8`
            (default: `Dense("float16")`); or a dict, tap text -> one of them,
            to store several layers' outputs (`""` is the model's output).
        part: None for a single writer. With several writers, each gives a
            name of its own here, and `merge` then makes one cache of all.
        batch_size: integer, samples that the teacher runs on at once, where
            the data is not batched already. With the batch size of the
            training to come, JAX and TensorFlow round the predictions as they
            would a live teacher's.
        samples: integer, how many samples there are: for the progress bar
            where the data has no length, and to check that none is missing.
        views: the `AugmentedViews` that the batches are from, where several
            writers share them; each batch then has `"view"` in `y`.
        metadata: dict that describes the data, such as `{"preprocessing":
            "x / 255", "dataset_id": "mnist 3.0.1"}`. Keys are of your choice;
            values are text, anything else that JSON can hold, or Keras layers.
            `"class_names"` must be a list of one name for each class. All
            writers must pass the same, and `open` compares it.
        shard_samples: integer, samples of a shard (or up to one batch more);
            about 128 MB by default. If the writer is killed, the shard that is
            being written is lost: at most 30 seconds of work, or 1/64 of the
            time so far if that is longer.
        check_inputs: whether a call that continues an earlier one compares
            some inputs with the earlier ones, by checksum. False where they
            differ by rounding.
        verbose: 1 for a progress bar, 0 for none.

    Raises:
        ValueError: an argument is out of range; the teacher can't be run, or
            needs labels that are not given; a tap does not exist, or its
            encoding doesn't fit; a sample has no index or occurs twice; a
            prediction is not finite; the folder holds other predictions.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> x = np.ones((8, 4), "float32")
    >>> write(teacher, x, folder, outputs=kd.cache.TopK(2), verbose=0)
    >>> kd.cache.open(folder).predictions_of([3])["output"].shape
    (1, 3)
    """
    teacher = as_teacher(teacher)
    dataset = texts_as_array(dataset)
    check_list(dataset, teacher)
    batch_size = integer(batch_size, "batch_size")
    outputs = encodings_by_tap(outputs)
    path = local_path(path)
    replayed = dataset if isinstance(dataset, AugmentedViews) else views
    settings_of_views = replayed.settings() if replayed else None
    numbering = Numbering(settings_of_views)
    batches = batches_of(dataset, batch_size, numbering)
    # Shapes and scales are those of the first batches.
    first, batches = calibration_batches(
        dataset, batches, batch_size, _wanted(outputs)
    )
    outputs = stored_outputs(teacher, outputs, first[0].inputs)
    recorder = RecordingTeacher(teacher, outputs)
    for batch in first:
        recorder.check_labels(batch.labels)
    settings = settings_of(teacher, outputs, settings_of_views, metadata)
    folder = path / "parts" / checked_name("0" if part is None else part)
    _check_neighbors(path, settings)
    with Part(folder, record_type(outputs), shard_samples) as opened:
        begun = opened.begin(lambda: _begun(settings, recorder, first))
        check_same(path, begun["settings"], settings)
        total = _total(dataset, None if part else samples, numbering.count)
        writing = Writing(recorder, opened, numbering, check_inputs)
        writing.run(batches, total, verbose)
    if part is None:
        merge(path, samples=samples)


def _wanted(outputs):
    scaled = any(encoding.needs_samples for encoding in outputs.values())
    return CALIBRATION_SAMPLES if scaled else 1  # One shows the shapes.


def _total(dataset, samples, count):
    if isinstance(dataset, AugmentedViews):
        return len(dataset)
    if is_arrays(dataset):
        return count_of(dataset)
    return None if samples is None else samples * count


def _check_neighbors(path, settings):
    for folder in part_folders(path):
        if (folder / "part.json").exists():  # Else its writer has just begun.
            check_same(path, read_part(folder)["settings"], settings)


def _begun(settings, recorder, first):
    """The description of a part, which its first writer stores."""
    constants = {output.name: {} for output in recorder.stored}
    scaled = [out for out in recorder.stored if out.encoding.needs_samples]
    if scaled:
        recorded = [recorder.record(each.inputs, each.labels) for each in first]
        prepared = keras.tree.map_structure(
            lambda *parts: np.concatenate(parts), *recorded
        )
        keys = np.concatenate([each.keys for each in first])
        for output in scaled:
            values = prepared[output.name]
            _check_finite(output.name, values, keys)
            constants[output.name] = output.encoding.calibrate(values)
    return {
        "settings": settings,
        "constants": constants,
        "written_with": {
            "keras_kd": _version(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "teacher": recorder.teacher.name,
        },
    }


def _version():
    import keras_kd

    return keras_kd.__version__


# --- the teacher -------------------------------------------------------------


def encodings_by_tap(outputs):
    """The argument `outputs` of `write` as a dict: tap text -> encoding."""
    if outputs is None:
        outputs = Dense("float16")
    by_tap = outputs if isinstance(outputs, dict) else {"": outputs}
    known = tuple(KINDS.values())
    if not by_tap or not all(isinstance(e, known) for e in by_tap.values()):
        raise ValueError(
            "Argument `outputs` must be a way to store the teacher's output, "
            '`cache.Dense("float16")`, `cache.TopK(32)` or `cache.Int8()`, or '
            "a dict, tap text -> one of them, such as "
            '`{"": cache.Dense("float16"), "stage3": cache.Int8()}`. Received: '
            f"outputs={outputs!r}."
        )
    return by_tap


def stored_outputs(teacher, outputs, inputs):
    """A list of `StoredOutput`, with the shapes of the teacher's outputs.

    Args:
        teacher: a `Teacher`.
        outputs: as `write` takes them.
        inputs: a batch of inputs, for a teacher whose input sizes are open.
    """
    outputs = encodings_by_tap(outputs)
    taps = [Tap(text) for text in outputs]
    teacher.check_taps(taps)
    spec = teacher.input_spec()
    if spec is None or not sizes_known(spec):
        spec = data_spec(preprocessed_inputs(teacher, inputs))
    features = teacher.feature_specs(taps, spec)
    return [
        StoredOutput(tap.text, _shape_of(tap, features[tap.text]), encoding)
        for tap, encoding in zip(taps, outputs.values())
    ]


def _shape_of(tap, feature):
    nested = keras.tree.is_nested(feature)
    shape = None if nested else tuple(feature.shape[1:])
    if shape is None or None in shape:
        shapes = keras.tree.map_structure(lambda part: part.shape, feature)
        raise ValueError(
            "Each output that is stored must be one tensor of a known shape. "
            f"Received: {shape or shapes} at tap {tap.text or 'output'!r}. "
            "Name one entry of it, as in '[logits]'."
        )
    return shape


class RecordingTeacher:
    """Runs a teacher, and prepares its predictions for storing."""

    def __init__(self, teacher, outputs):
        self.teacher = teacher
        self.stored = outputs
        self.taps = [Tap(output.tap) for output in outputs]
        self._shapes = None  # Of the first batch's predictions.
        live = isinstance(teacher.wrapped, keras.layers.Layer)
        self._run = _CompiledPass(self).run if live else self._eager_pass

    def check_labels(self, labels):
        """Raises a `ValueError` if the teacher needs labels that are None."""
        needs = getattr(self.teacher.wrapped, "needs_labels", False)
        if labels is None and needs:
            raise ValueError(
                f"The predictions of the teacher {self.teacher.name!r} depend "
                "on the labels, so without them others would be stored. "
                "Received: a batch without labels; arrays bring none. Give "
                'batches `(x, {"labels": y, "sample_index": i})` or '
                "`cache.AugmentedViews(x, y, ...)`, or take a teacher that "
                'needs none: an Ensemble with `weights="entropy"`, or with '
                "equal ones."
            )

    def prepared(self, features):
        """Features as the encodings prepare them, on the teacher's device."""
        return {
            output.name: output.encoding.prepare(features[output.tap])
            for output in self.stored
        }

    def record(self, inputs, labels=None):
        """The prepared predictions for a batch, as NumPy arrays."""
        self.check_labels(labels)
        inputs = preprocessed_inputs(self.teacher, inputs)
        recorded = self._run(inputs, labels)
        shapes = [each.shape[1:] for each in keras.tree.flatten(recorded)]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            sizes = keras.tree.map_structure(np.shape, inputs)
            raise ValueError(
                "A cache holds predictions of one shape, that of the first "
                f"batch. Received: inputs of shape {sizes}, whose "
                "predictions have another. Bring all samples to one size, for "
                "example by padding, or store an output whose shape does not "
                "depend on it."
            )
        return recorded

    def _eager_pass(self, inputs, labels):
        """Runs a teacher that is no Keras model, without compiling here."""
        to_tensor = keras.ops.convert_to_tensor
        inputs = keras.tree.map_structure(to_tensor, inputs)
        if labels is not None:
            labels = keras.tree.map_structure(to_tensor, labels)
        with no_gradient():
            batch = Batch(inputs, labels)
            features = self.teacher.predictions(batch, self.taps).features
            prepared = self.prepared(features)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, prepared)


class _CompiledPass(keras.Model):
    """A Keras model whose outputs are the teacher's, prepared for storing.

    `predict_on_batch` runs it compiled, in inference mode. The encodings
    prepare the outputs on the device, so that less is copied from it.
    """

    def __init__(self, recorder):
        # TensorFlow refuses names that begin with an underscore.
        super().__init__(name="recorder", dtype="float32", autocast=False)
        self.model = recorder.teacher.wrapped
        self.takes_labels = recorder.teacher.takes_labels
        self._get_recorder = lambda: recorder
        self.built = True

    def call(self, batch):
        recorder = self._get_recorder()
        inputs, *labels = batch
        arguments = {"labels": labels[0]} if self.takes_labels else {}
        inputs = inputs_for("teacher", self.model, inputs)
        _, features = run_tapped(
            self.model, inputs, recorder.taps, training=False, **arguments
        )
        return recorder.prepared(features)

    def run(self, inputs, labels):
        """The prepared predictions for a batch, as NumPy arrays."""
        labels = [labels] if self.takes_labels else []
        return self.predict_on_batch(shared_out([inputs, *labels]))


# --- the pass over the data --------------------------------------------------


class Writing:
    """One pass of a teacher over batches, stored in a part."""

    def __init__(self, recorder, part, numbering, check_inputs):
        self.recorder = recorder
        self.part = part
        self.numbering = numbering
        self.check_inputs = check_inputs

    def run(self, batches, total, verbose):
        """Runs the teacher on the samples that the part doesn't hold yet."""
        stored, seen = (KeySet(total or 1024) for _ in range(2))
        keys, done = self.part.stored_keys(), 0
        shards = self.part.shards if self.check_inputs else []
        checksums = InputChecksums(shards)
        stored.add(keys)
        # The bar counts what is left, so that its time estimate is right.
        left = total and max(0, total - len(keys))
        bar = keras.utils.Progbar(left, verbose=verbose, unit_name="sample")
        storing = None
        with ThreadPoolExecutor(max_workers=1) as beside:
            for batch in batches:
                self._check_new(batch.keys, seen)
                self._check_inputs(batch, checksums)
                seen.add(batch.keys)
                missing = ~stored.has(batch.keys)
                if missing.any():
                    prepared = self.recorder.record(batch.inputs, batch.labels)
                    # Now, as the data set may reuse the batch's arrays.
                    of_inputs = checksums_of_batch(batch.inputs, batch.keys)
                    if storing:
                        storing.result()
                    # It is stored while the teacher runs on the next batch.
                    recorded = batch.keys, prepared, missing, of_inputs
                    storing = beside.submit(self._store, *recorded)
                    done += int(missing.sum())
                    bar.update(done)
        if storing:
            storing.result()
        self.part.finish()
        bar.update(done, finalize=True)

    def _check_new(self, keys, seen):
        distinct, counts = np.unique(keys, return_counts=True)
        twice = distinct[seen.has(distinct) | (counts > 1)]
        if len(twice):
            raise ValueError(comes_again(self.numbering.sample(twice[0])))

    def _check_inputs(self, batch, checksums):
        key = checksums.differing(batch.inputs, batch.keys)
        if key is not None:
            raise ValueError(
                f"The part {self.part.folder.name!r} was begun with other "
                f"data. Received: for sample {self.numbering.sample(key)} "
                "another input than the teacher had then; its values, order, "
                "type or shape differ. Continue with the same data, or write "
                "to another folder. If the inputs differ only by rounding: "
                "`cache.write(..., check_inputs=False)`."
            )

    def _store(self, keys, prepared, missing, of_inputs):
        records = np.empty(len(keys), self.part.dtype)
        records[SAMPLE_INDEX] = keys
        constants = self.part.description["constants"]
        for output in self.recorder.stored:
            values, name = prepared[output.name], output.name
            _check_finite(name, values, keys)
            output.put(records, output.encoding.pack(values, constants[name]))
        self.part.append(records[missing], of_inputs)


def comes_again(sample):
    """The error about a sample that is in the data twice."""
    return (
        "Samples occur more than once in the data; each is stored once. "
        f"Received: sample {sample} again. Write the data without `repeat`, "
        "in one pass; augmented views of samples as `cache.AugmentedViews`."
    )


def _check_finite(name, prepared, keys):
    for values in prepared.values():
        if np.isfinite(values.sum(dtype="float64")):
            continue
        bad = ~np.isfinite(values.reshape(len(keys), -1)).all(axis=1)
        if bad.any():
            raise ValueError(
                "The teacher's predictions are not finite. "
                f"Received: NaN or infinity at {name!r} for the "
                f"samples {keys[bad][:5].tolist()}. Look at its weights and "
                "its input scaling; what was stored before is kept."
            )
