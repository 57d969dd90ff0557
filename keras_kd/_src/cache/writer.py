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
from keras_kd._src.distillation.preprocessing import as_taken
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import sizes_known

CALIBRATION_SAMPLES = 512  # From which scales are learned.


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

    A distiller that is given the cached predictions in the place of the
    teacher trains at the student's own speed. A call that was interrupted,
    even killed, is made again as it was: it goes on where it ended, and runs
    the teacher on no sample twice. A reader sees the cache when it is whole.

    Of a language model the texts themselves may be given, where it brings a
    preprocessor; `join` takes them likewise, and the student's preprocessor
    makes tokens and weights of them:

        outputs = kd.cache.TopK(32, temperature=1.0)
        kd.cache.write(causal_lm, texts, "predictions", outputs=outputs)
        cache = kd.cache.open("predictions")
        distiller = kd.Distiller(cache, student, kd.losses.TopKTargets(32))
        distiller.fit(cache.join(texts, batch_size=8))

    All samples are stored at one length, and a padded token takes what any
    other does: pack texts into full sequences, or cut the length. Batches of
    a stream, `(texts, {"sample_index": i})`, need not fit into memory.

    Where the images are augmented at random, the predictions belong to images
    that never come again: write `AugmentedViews` of them.

    Args:
        teacher: a built Keras model, or any that teaches: an `Ensemble`, an
            `OnnxModel`, a `keras_kd.teachers.Teacher` of your own, a
            `FunctionTeacher` (whose function is not in the fingerprint: state a
            version that changes with it).
        dataset: an array, whose rows are the samples 0, 1, 2..., or a dict or
            list of them for several inputs; a list of texts, for a teacher
            that brings a preprocessor; `AugmentedViews`; or batches
            `(x, {"labels": y, "sample_index": i})` in any form that `fit`
            takes, with integers from 0 as `i` and labels only for a teacher
            that uses them (an `Ensemble` weighted by confidence needs them).
            It must end.
        path: the cache's folder, local.
        outputs: how the teacher's output is stored: `Dense`, `TopK` or `Int8`
            (default: `Dense("float16")`); or a dict, tap text -> one of them,
            for several places in the teacher (`""` is the output).
        part: None for the only writer. Of several writers, each names its
            own part; `merge` then makes one cache of all.
        batch_size: samples that the teacher is run on at once, where the data
            is no batches. With that of the training, JAX and TensorFlow
            round the predictions as a live teacher's.
        samples: how many there are, for the bar where the data has no length,
            and for the check that none is missing.
        views: the `AugmentedViews` that the batches are of, with `"view"` in
            `y`, where several writers share them.
        metadata: dict of what the predictions belong to, each by a name of
            your choice: text, anything else that JSON can hold, or a Keras
            layer, such as `{"preprocessing": "x / 255", "dataset_id": "mnist
            3.0.1"}`. `"class_names"` is a list, one for each class. All
            writers must pass the same, and `open` compares.
        shard_samples: samples after which a shard is complete (or up to one
            batch more); about 128 MB by default. A kill costs the shard that
            is being written, and 30 seconds at most, or a sixty-fourth of the
            time so far.
        check_inputs: whether a call that goes on compares some inputs with
            those of then, by checksum. False where they round otherwise.
        verbose: 1 for a progress bar, 0 for silence.

    Raises:
        ValueError: an argument is none of these; the teacher can't be run,
            or not without labels; a tap or an encoding doesn't fit; a sample
            has no index or comes twice; a prediction is not finite; the
            folder holds other predictions.

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
    return CALIBRATION_SAMPLES if scaled else 1  # One has the shapes.


def _total(dataset, samples, count):
    if isinstance(dataset, AugmentedViews):
        return len(dataset)
    if is_arrays(dataset):
        return count_of(dataset)
    return None if samples is None else samples * count


def _check_neighbors(path, settings):
    for folder in part_folders(path):
        if (folder / "part.json").exists():  # Or it is just begun.
            check_same(path, read_part(folder)["settings"], settings)


def _begun(settings, recorder, first):
    """What a part's first writer writes down about it."""
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
    """What `write` takes as `outputs`, as a dict: tap text -> encoding."""
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
    """A list of `StoredOutput`, with the shapes that a batch of inputs gives.

    Args:
        teacher: a `Teacher`.
        outputs: as `write` takes them.
        inputs: a batch, for a teacher that leaves sizes open.
    """
    outputs = encodings_by_tap(outputs)
    taps = [Tap(text) for text in outputs]
    teacher.check_taps(taps)
    spec = teacher.input_spec()
    if spec is None or not sizes_known(spec):
        spec = data_spec(as_taken(teacher, inputs))
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
    """A teacher, and what is stored of its predictions."""

    def __init__(self, teacher, outputs):
        self.teacher = teacher
        self.stored = outputs
        self.taps = [Tap(output.tap) for output in outputs]
        self._shapes = None  # Of what the first batch gave.
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
        """What the encodings make of a batch on the teacher's device."""
        return {
            output.name: output.encoding.prepare(features[output.tap])
            for output in self.stored
        }

    def record(self, inputs, labels=None):
        """What is prepared of a batch, as NumPy arrays."""
        self.check_labels(labels)
        inputs = as_taken(self.teacher, inputs)
        recorded = self._run(inputs, labels)
        shapes = [each.shape[1:] for each in keras.tree.flatten(recorded)]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            sizes = keras.tree.map_structure(np.shape, inputs)
            raise ValueError(
                "A cache holds predictions of one shape, that of the first "
                f"batch's. Received: inputs of shape {sizes}, whose "
                "predictions have another. Bring all samples to one size, as "
                "by padding, or store an output that all sizes share."
            )
        return recorded

    def _eager_pass(self, inputs, labels):
        """For a teacher that is no Keras model, and compiles what it can."""
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
    """A Keras model whose output is what is stored of it.

    Run by `predict_on_batch`: compiled, in inference mode. What the encodings
    can do there is done there, so that less leaves the device.
    """

    def __init__(self, recorder):
        # TensorFlow takes no name that begins as this class's does.
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
        """What is prepared of a batch, as NumPy arrays."""
        labels = [labels] if self.takes_labels else []
        return self.predict_on_batch(shared_out([inputs, *labels]))


# --- the pass over the data --------------------------------------------------


class Writing:
    """One pass of a teacher over batches, into a part."""

    def __init__(self, recorder, part, numbering, check_inputs):
        self.recorder = recorder
        self.part = part
        self.numbering = numbering
        self.check_inputs = check_inputs

    def run(self, batches, total, verbose):
        """Runs the teacher on what the part does not hold yet."""
        stored, seen = (KeySet(total or 1024) for _ in range(2))
        keys, done = self.part.stored_keys(), 0
        shards = self.part.shards if self.check_inputs else []
        checksums = InputChecksums(shards)
        stored.add(keys)
        # Of what is left: the time for it is estimated from what is done now.
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
                    # Now: what makes batches may use its arrays again.
                    of_inputs = checksums_of_batch(batch.inputs, batch.keys)
                    if storing:
                        storing.result()
                    # While the teacher runs on the next batch.
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
                "type or shape differ. Go on with the data of then, or write "
                "to another folder. If it only rounds otherwise: "
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
        "Samples come more than once in the data; each is stored once. "
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
