"""A data set as batches of inputs, labels and keys."""

import itertools
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.to_numpy import to_numpy
from keras_kd._src.distillation.batch import split_batch
from keras_kd._src.specs import graph_inputs


class Batch(NamedTuple):
    """What a teacher is run on: inputs, labels (or None) and keys."""

    inputs: Any
    labels: Any
    keys: np.ndarray


def batches_of(dataset, batch_size, numbering=None):
    """Yields the `Batch`es of a data set that `write` takes, in its order."""
    if is_arrays(dataset):
        for start in range(0, count_of(dataset), batch_size):
            end = min(start + batch_size, count_of(dataset))
            # A slice, as indexing by row numbers would copy.
            inputs = rows_at(dataset, slice(start, end))
            yield Batch(inputs, None, np.arange(start, end))
        return
    if isinstance(dataset, AugmentedViews):
        for start in range(0, len(dataset), batch_size):
            keys = np.arange(start, min(start + batch_size, len(dataset)))
            yield of_keys(dataset, keys)
        return
    if isinstance(dataset, keras.utils.PyDataset):
        # Iterating over it might never end.
        dataset = map(dataset.__getitem__, range(len(dataset)))
    for batch in dataset:
        yield of_batch(batch, numbering)


def of_batch(batch, numbering=None):
    """A data set's batch as a `Batch` of NumPy arrays."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    x = texts_as_array(x)
    labels = split_batch((x, y)).labels
    keys = (numbering or Numbering()).keys(y)
    x, labels = keras.tree.map_structure(to_numpy, (x, labels))
    if any(len(array) != len(keys) for array in keras.tree.flatten(x)):
        shapes = keras.tree.map_structure(lambda array: array.shape, x)
        raise ValueError(
            "Each sample needs an index of its own. Received: inputs of "
            f"shape {shapes}, and {len(keys)} indices."
        )
    return Batch(x, labels, keys)


def of_keys(dataset, keys):
    """Some rows of arrays, or some augmented views, as a `Batch`."""
    if not isinstance(dataset, AugmentedViews):
        return Batch(rows_at(dataset, keys), None, keys)
    view, sample_index = np.divmod(keys, dataset.samples)
    x, y = dataset.batch(sample_index, view)
    return Batch(x, y.get("labels"), keys)


def texts_as_array(data):
    """A list of texts as an array; anything else unchanged."""
    texts = isinstance(data, list) and data
    if not texts or not all(isinstance(each, (str, bytes)) for each in data):
        return data
    return np.array(data, dtype=object)


def is_arrays(dataset):
    """Whether a data set is arrays, one row a sample."""
    if isinstance(dataset, dict):
        return all(is_arrays(value) for value in dataset.values())
    # No batch is an array alone, so a list of arrays is a list of inputs.
    return _is_array(dataset) or (_is_list(dataset) and len(dataset) > 1)


def _is_array(value):
    return hasattr(value, "shape") and hasattr(value, "__getitem__")


def _is_list(value):
    listed = isinstance(value, (list, tuple))
    return listed and bool(value) and all(map(_is_array, value))


def check_list(dataset, teacher):
    """Raises a `ValueError` for a list that the teacher can't take."""
    if not _is_list(dataset):
        return
    taken = teacher.input_spec()
    if taken is None:  # For example where a size is open.
        taken = graph_inputs(teacher.wrapped)
    several = isinstance(taken, (list, tuple)) and len(dataset) > 1
    if not several or len(taken) != len(dataset):
        shapes = keras.tree.map_structure(
            lambda spec: getattr(spec, "shape", "inputs not known"), taken
        )
        raise ValueError(
            "A list of two or more arrays is for a teacher with the same "
            "number of inputs. Received: arrays of shapes "
            f"{[tuple(array.shape) for array in dataset]}, and a teacher "
            f"{teacher.name!r} that takes {shapes}. "
            "Give an array or a dict of arrays, as the teacher takes them, or "
            'batches `(x, {"labels": y, "sample_index": i})`.'
        )


def count_of(arrays):
    """How many samples the arrays hold; a `ValueError` if they differ."""
    counts = [len(array) for array in keras.tree.flatten(arrays)]
    if len(set(counts)) > 1:
        raise ValueError(
            "All inputs must have one row for each sample. Received: arrays of "
            f"{counts} rows. Give arrays of one length."
        )
    return counts[0]


def calibration_batches(dataset, batches, batch_size, samples):
    """`(some, batches)`: some to measure shapes and scales on, and all."""
    # `some` holds `samples` samples or slightly more: spread over arrays, or
    # the first ones of other data.
    if is_arrays(dataset) and count_of(dataset):
        count = count_of(dataset)
        keys = np.arange(0, count, -(-count // samples))
        parts = np.split(keys, range(batch_size, len(keys), batch_size))
        return [of_keys(dataset, part) for part in parts], batches
    some = []
    for batch in batches:
        some.append(batch)
        samples -= len(batch.keys)
        if samples <= 0:
            break
    if not some:
        raise ValueError(
            "There is nothing to run the teacher on. Received: a dataset "
            "without samples."
        )
    return some, itertools.chain(some, batches)


def rows_at(arrays, rows):
    """Some rows of arrays of any library or file, as NumPy arrays."""
    return keras.tree.map_structure(lambda array: _rows(array, rows), arrays)


def _rows(array, rows):
    if array is None:  # Such as labels, where there are none.
        return None
    if hasattr(array, "numpy"):  # TensorFlow can't index by a list of rows.
        array = to_numpy(array)
    elif hasattr(array, "to_numpy"):  # In pandas [i] looks for a label.
        array = array.to_numpy()
    if isinstance(array, np.ndarray) or isinstance(rows, slice):
        return to_numpy(array[rows])
    # h5py takes increasing row numbers, each once.
    rising, places = np.unique(rows, return_inverse=True)
    return to_numpy(array[rising])[places]
