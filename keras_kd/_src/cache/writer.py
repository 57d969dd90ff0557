"""write: asks a teacher about each sample once, and stores its answers."""

import keras
import numpy as np

from keras_kd._src.cache.asking import AskedTeacher
from keras_kd._src.cache.asking import encodings_by_tap
from keras_kd._src.cache.asking import stored_outputs
from keras_kd._src.cache.batches import batches_of
from keras_kd._src.cache.batches import calibration_batches
from keras_kd._src.cache.batches import check_list
from keras_kd._src.cache.batches import count_of
from keras_kd._src.cache.batches import is_arrays
from keras_kd._src.cache.manifest import check_same
from keras_kd._src.cache.manifest import describe
from keras_kd._src.cache.merging import merge
from keras_kd._src.cache.numbering import Numbering
from keras_kd._src.cache.part import PartWriter
from keras_kd._src.cache.part import checked_name
from keras_kd._src.cache.part import read_description
from keras_kd._src.cache.paths import local_path
from keras_kd._src.cache.paths import part_folders
from keras_kd._src.cache.records import record_type
from keras_kd._src.cache.views import Views
from keras_kd._src.cache.whole_numbers import check_whole
from keras_kd._src.cache.writing import Writing
from keras_kd._src.cache.writing import check_finite
from keras_kd._src.specs import check_teacher

CALIBRATION_SAMPLES = 512  # From which scales are learnt.


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
    class_names=None,
    preprocessing=None,
    dataset_id=None,
    shard_samples=None,
    check_inputs=True,
    verbose=1,
):
    """Asks a teacher about each sample once, and stores what it answers.

    A distiller that is given the stored answers in the place of the teacher
    trains at the student's own speed. A call that was interrupted, even
    killed, is made again as it was: it goes on where it ended, and asks about
    no sample twice. A reader sees the cache when it is whole.

    Where the images are augmented at random, the answers belong to views that
    never come again: write `Views` of them.

    Args:
        teacher: a built Keras model, or any that teaches: an `Ensemble`, a
            `FunctionTeacher`.
        dataset: an array, whose rows are the samples 0, 1, 2..., or a dict or
            list of them for several inputs; `Views`; or batches
            `(x, {"labels": y, "sample_index": i})` in any form that `fit`
            takes, with whole numbers from 0 as `i` and labels only for a
            teacher that is shown them (an `Ensemble` weighted by confidence
            needs them). It must end.
        path: the cache's folder, local.
        outputs: how the teacher's output is stored: `Dense`, `TopK` or `Int8`
            (default: `Dense("float16")`); or a dict, tap text -> one of them,
            for several places in the teacher (`""` is the output).
        part: None for the only writer. Of several writers, each names its
            own part; `merge` then makes one cache of all.
        batch_size: samples that the teacher is asked about at once, where the
            data is no batches. With that of the training, JAX and TensorFlow
            round the answers as a live teacher's.
        samples: how many there are, for the bar where the data does not tell,
            and for the check that none is missing.
        views: the `Views` that the batches are of, with `"view"` in `y`, where
            several writers share them.
        class_names: list of the names of the teacher's classes, one for each.
        preprocessing: what was done to the inputs: text, anything else that
            JSON can hold, or a Keras layer.
        dataset_id: text that names the data and its version.
        shard_samples: samples in a shard, at most; about 16 MB by default. A
            kill costs one shard, and 30 seconds at most.
        check_inputs: whether a call that goes on compares some inputs with
            those of then, by checksum. False where they round otherwise.
        verbose: 1 for a progress bar, 0 for silence.

    Raises:
        ValueError: an argument is none of these; the teacher can't be asked,
            or not without labels; a tap or an encoding doesn't fit; a sample
            has no index or comes twice; the teacher's answer is not finite;
            the folder holds other answers.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> x = np.ones((8, 4), "float32")
    >>> write(teacher, x, folder, outputs=kd.cache.TopK(2), verbose=0)
    >>> kd.cache.open(folder).views([3])["output"].shape
    (1, 3)
    """
    check_teacher(teacher)
    check_list(dataset, teacher)
    check_whole("batch_size", batch_size)
    outputs = encodings_by_tap(outputs)
    path = local_path(path)
    replayed = dataset if isinstance(dataset, Views) else views
    settings_of_views = replayed.settings() if replayed else None
    numbering = Numbering(settings_of_views)
    batches = batches_of(dataset, batch_size, numbering)
    # The first batches tell shapes and scales.
    first, batches = calibration_batches(
        dataset, batches, batch_size, _wanted(outputs)
    )
    outputs = stored_outputs(teacher, outputs, first[0].inputs)
    asked = AskedTeacher(teacher, outputs)
    for batch in first:
        asked.check_labels(batch.labels)
    settings = describe(
        teacher,
        outputs,
        views=settings_of_views,
        class_names=class_names,
        preprocessing=preprocessing,
        dataset_id=dataset_id,
    )
    folder = path / "parts" / checked_name("0" if part is None else part)
    _check_neighbours(path, settings)
    with PartWriter(folder, record_type(outputs), shard_samples) as writer:
        begun = writer.begin(lambda: _begun(settings, asked, first))
        check_same(path, begun["settings"], settings)
        total = _total(dataset, None if part else samples, numbering.count)
        constants = begun["constants"]
        about = asked, constants, total, numbering, verbose, check_inputs
        Writing(*about).run(batches, writer)
    if part is None:
        merge(path, samples=samples)


def _wanted(outputs):
    scaled = any(encoding.needs_samples for encoding in outputs.values())
    return CALIBRATION_SAMPLES if scaled else 1  # One batch tells shapes.


def _total(dataset, samples, count):
    if isinstance(dataset, Views):
        return len(dataset)
    if is_arrays(dataset):
        return count_of(dataset)
    return None if samples is None else samples * count


def _check_neighbours(path, settings):
    for folder in part_folders(path):
        if (folder / "part.json").exists():  # Or it is just begun.
            check_same(path, read_description(folder)["settings"], settings)


def _begun(settings, asked, first):
    constants = {output.name: {} for output in asked.stored}
    scaled = [out for out in asked.stored if out.encoding.needs_samples]
    if scaled:
        asked_first = [asked.ask(each.inputs, each.labels) for each in first]
        prepared = keras.tree.map_structure(
            lambda *parts: np.concatenate(parts), *asked_first
        )
        keys = np.concatenate([each.keys for each in first])
        for output in scaled:
            values = prepared[output.name]
            check_finite(output.name, values, keys)
            constants[output.name] = output.encoding.calibrate(values)
    return {
        "settings": settings,
        "constants": constants,
        "written_with": {
            "keras_kd": _version(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "teacher": asked.teacher.name,
        },
    }


def _version():
    import keras_kd

    return keras_kd.__version__
