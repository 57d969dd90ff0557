"""Preprocesses data for tasks with a preprocessor, such as KerasHub's.

Such a model has `preprocess_samples(x, y, sample_weight)`, which its own `fit`,
`evaluate` and `predict` call on each batch.
"""

import keras
import numpy as np

from keras_kd._src.distillation.batch import PairedInputs
from keras_kd._src.mapped_dataset import MappedDataset
from keras_kd._src.specs import graph_inputs

TEXT = ("U", "S", "O")  # NumPy's kinds of arrays.


def has_preprocessor(model):
    """Whether a model preprocesses the data of its `fit`."""
    return (
        hasattr(model, "preprocess_samples")
        and getattr(model, "preprocessor", None) is not None
    )


class Preprocessing:
    """Turns the data into each model's inputs by its own preprocessor.

    A student without a preprocessor takes the data as it is; a teacher without
    one takes the student's inputs. Inputs with the names of the model's own
    are preprocessed already.

    Args:
        student: the student.
        teacher: the teacher as the user gave it; None if it is not run.
    """

    def __init__(self, student, teacher=None):
        self.student = student if has_preprocessor(student) else None
        self.teacher = teacher if has_preprocessor(teacher) else None
        both = self.student and self.teacher
        if both and student.preprocessor is teacher.preprocessor:
            self.teacher = None  # It takes the student's inputs.

    @property
    def needed(self):
        """Whether any of the models has a preprocessor."""
        return bool(self.student or self.teacher)

    def batch(self, x, y=None, sample_weight=None):
        """A preprocessed batch: `(x, y, sample_weight)`, or fewer of them."""
        if isinstance(x, PairedInputs):  # From `keras_kd.text.PairedTexts`.
            return x, y, sample_weight
        index = isinstance(y, dict) and "sample_index" in y
        labels = y.get("labels") if index else y
        teacher_x = None
        if self.teacher and not _is_ready(self.teacher, x):
            teacher_x, _, _ = _preprocessed(self.teacher, x, labels, None)
        if self.student and not _is_ready(self.student, x):
            x, labels, sample_weight = _preprocessed(
                self.student, x, labels, sample_weight
            )
        y = {**y, "labels": labels} if index else labels
        if index and labels is None:
            y.pop("labels")
        x = x if teacher_x is None else PairedInputs(x, teacher_x)
        parts = (x, y, sample_weight)
        # A `tf.data.Dataset` made from a generator can't hold None.
        given = 1 + max(n for n in range(3) if n == 0 or parts[n] is not None)
        return parts[:given]

    def _of_batch(self, batch):
        return self.batch(*_whole(batch))

    def data(self, x, y=None, sample_weight=None, batch_size=None, **settings):
        """The data in a form that `fit` takes, with preprocessed batches."""
        if isinstance(x, keras.utils.PyDataset):
            return MappedDataset(x, self._of_batch)
        if hasattr(x, "element_spec"):  # A `tf.data.Dataset`.
            return x.map(self.batch)
        if hasattr(x, "__next__"):
            return map(self._of_batch, x)
        if not _is_data(x):
            raise ValueError(
                "Data for a task with a preprocessor must be texts or arrays, "
                "a `keras.utils.PyDataset`, a `tf.data.Dataset` or a "
                f"generator. Received: x of type {type(x).__name__}. Give one "
                "of these, or preprocess the data yourself and set "
                "`task.preprocessor = None`."
            )
        return _OfArrays(self, (x, y, sample_weight), batch_size, **settings)


def preprocessed_inputs(teacher, inputs):
    """A teacher's inputs, from its preprocessor where it has one."""
    preprocessing = Preprocessing(teacher.wrapped)
    if preprocessing.needed:
        return preprocessing.batch(inputs)[0]
    # A model or function of another kind may take texts.
    is_task = hasattr(teacher.wrapped, "preprocess_samples")
    if is_task and any(map(_is_text, keras.tree.flatten(inputs))):
        raise ValueError(
            "Texts need the preprocessor of a task. Received: texts, and a "
            f"teacher {teacher.name!r} without `preprocessor`. Give the task "
            "a preprocessor, or give the inputs that the model takes."
        )
    return inputs


def with_validation_data(arguments):
    """Arguments of `fit`, with the last samples held out for validation."""
    share = arguments.get("validation_split")
    if not share or arguments.get("validation_data") is not None:
        return dict(arguments)
    names = "x", "y", "sample_weight"
    data = tuple(arguments.get(name) for name in names)
    columns = _map_columns(_column, data)
    sizes = []
    _map_columns(lambda column: sizes.append(len(column)), columns)
    first = int(sizes[0] * (1.0 - share))
    train = _map_columns(lambda column: column[:first], columns)
    held_out = _map_columns(lambda column: column[first:], columns)
    more = {"validation_data": held_out, "validation_split": 0.0}
    return {**arguments, **dict(zip(names, train)), **more}


def _preprocessed(model, x, y, sample_weight):
    data = model.preprocess_samples(_texts(x), y, sample_weight)
    data = keras.utils.unpack_x_y_sample_weight(data)
    return keras.tree.map_structure(_as_numpy, data)


def _as_numpy(value):
    """The NumPy array of a tensor, unless it is a symbolic one."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    symbolic = hasattr(value, "graph") and not hasattr(value, "numpy")
    return value if value is None or symbolic else np.asarray(value)


def _is_ready(model, x):
    """Whether inputs are a dict with all inputs of the model itself."""
    taken = graph_inputs(model)
    named = isinstance(x, dict) and isinstance(taken, dict)
    return named and taken.keys() <= x.keys()


def _texts(x):
    """Arrays of texts as lists, as tokenizers take them."""
    if isinstance(x, dict):
        return {name: _texts(value) for name, value in x.items()}
    if isinstance(x, tuple):
        return tuple(_texts(value) for value in x)
    return [_decoded(each) for each in x.tolist()] if _is_text(x) else x


def _is_text(array):
    return isinstance(array, np.ndarray) and array.dtype.kind in TEXT


def _decoded(text):
    return text.decode() if isinstance(text, bytes) else text


def _is_data(x):
    if isinstance(x, dict):
        return all(map(_is_data, x.values()))
    return isinstance(x, (list, tuple)) or hasattr(x, "shape")


def _whole(batch):
    return keras.utils.unpack_x_y_sample_weight(batch)


class _OfArrays(keras.utils.PyDataset):
    """Texts or arrays in preprocessed batches.

    Each epoch has its own order, drawn from NumPy's global seed and the number
    of the epoch, so that a resumed run has the same orders.
    """

    def __init__(self, preprocessing, data, batch_size, shuffle=False):
        super().__init__()
        self.preprocessing = preprocessing
        self.arrays = _map_columns(_column, data)
        self.batch_size = batch_size or 32
        columns = []
        _map_columns(columns.append, self.arrays)
        self.samples = len(columns[0])
        self.seed = np.random.randint(2**31) if shuffle else None
        self.set_epoch(0)

    def set_epoch(self, epoch):
        """Draws the order of an epoch; the monitor of `fit` calls it."""
        self.order = np.arange(self.samples)
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(self.order)

    @property
    def num_batches(self):
        return -(-self.samples // self.batch_size)

    def __getitem__(self, index):
        begin = index * self.batch_size
        rows = self.order[begin : begin + self.batch_size]
        return self.preprocessing.batch(
            *_map_columns(lambda column: column[rows], self.arrays)
        )


def _map_columns(function, data):
    """Applies a function to arrays in tuples and dicts; a list is one array."""
    if isinstance(data, tuple):
        return tuple(_map_columns(function, each) for each in data)
    if isinstance(data, dict):
        return {key: _map_columns(function, each) for key, each in data.items()}
    return None if data is None else function(data)


def _column(values):
    texts = isinstance(values, list) and isinstance(values[0], (str, bytes))
    if texts:
        return np.array(values, dtype=object)
    return keras.ops.convert_to_numpy(values)
