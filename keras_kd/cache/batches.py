"""A data set as batches of inputs, labels and sample indices."""

import itertools
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_kd.cache.views import Views
from keras_kd.steps import split_targets

CALIBRATION_SAMPLES = 512


class Batch(NamedTuple):
    """What a teacher is asked about: inputs, labels if any, keys.

    Example:
    >>> Batch(np.ones((2, 4)), None, np.array([0, 1])).keys.tolist()
    [0, 1]
    """

    inputs: Any
    labels: Any
    keys: np.ndarray


def batches_of(dataset, batch_size, views=1):
    """The batches of a data set, in its order.

    Args:
        dataset: what `write` takes.
        batch_size: samples in a batch, of arrays.
        views: how many views of each sample there are.

    Yields:
        `Batch`es of NumPy arrays.

    Example:
    >>> [len(batch.keys) for batch in batches_of(np.ones((5, 4)), 2)]
    [2, 2, 1]
    """
    if is_arrays(dataset):
        for start in range(0, count_of(dataset), batch_size):
            keys = np.arange(start, min(start + batch_size, count_of(dataset)))
            yield of_arrays(dataset, keys)
        return
    if isinstance(dataset, Views):
        for start in range(0, len(dataset), batch_size):
            position = np.arange(start, min(start + batch_size, len(dataset)))
            view, sample = np.divmod(position, dataset.samples)
            yield of_batch(dataset.batch(sample, view), views)
        return
    if isinstance(dataset, keras.utils.PyDataset):
        # It may go on for ever.
        dataset = (dataset[number] for number in range(len(dataset)))
    for batch in dataset:
        yield of_batch(batch, views)


def of_batch(batch, views):
    """What a batch of a data set holds, as NumPy arrays.

    Example:
    >>> of_batch((np.ones((2, 4)), {"sample_index": [4, 7]}), 1).keys.tolist()
    [4, 7]
    """
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    labels, _, _ = split_targets(y)
    keys = keys_of(y, views)
    x, labels = keras.tree.map_structure(to_numpy, (x, labels))
    if any(len(array) != len(keys) for array in keras.tree.flatten(x)):
        shapes = keras.tree.map_structure(lambda array: array.shape, x)
        raise ValueError(
            "Each sample needs an index of its own. Received: inputs of "
            f"shape {shapes}, and {len(keys)} indices."
        )
    return Batch(x, labels, keys)


def keys_of(targets, views):
    """The keys of a batch's samples: one for each view of each sample.

    Raises:
        ValueError: samples or views are not told apart.

    Example:
    >>> keys_of({"sample_index": [4, 7], "view": [0, 1]}, 2).tolist()
    [8, 15]
    """
    if not (isinstance(targets, dict) and "sample_index" in targets):
        raise ValueError(
            "Each sample needs its index in the data, by which its answer is "
            "found again. Received: a batch without one. Expected: batches "
            '`(x, {"labels": y, "sample_index": i})`, with whole numbers from '
            "0 (labels may be left out)."
        )
    sample_index = to_numpy(targets["sample_index"])
    if sample_index.dtype.kind not in "iu" or sample_index.ndim != 1:
        raise ValueError(
            "A sample's index is a whole number, and a batch has one for each "
            f"sample. Received: sample_index of type {sample_index.dtype} and "
            f"shape {sample_index.shape}."
        )
    keys = sample_index.astype("int64") * views
    if views > 1:
        if "view" not in targets:
            raise ValueError(
                f"The cache holds {views} views of each sample, and a batch "
                'does not say which it has. Expected: "view" beside '
                '"sample_index" in `y`, as `cache.Views` gives it. Received: '
                f"{sorted(targets)}."
            )
        view = to_numpy(targets["view"]).astype("int64")
        if len(view) and not 0 <= view.min() <= view.max() < views:
            raise ValueError(
                f"The cache holds the views 0 to {views - 1} of each sample. "
                f"Received: view {int(view.max())} or {int(view.min())}."
            )
        keys = keys + view
    return keys


def is_arrays(dataset):
    """Whether a data set is arrays, one row a sample.

    Example:
    >>> is_arrays({"image": np.ones((2, 4))}), is_arrays([np.ones((2, 4))])
    (True, False)
    """
    if isinstance(dataset, dict):
        return all(is_arrays(value) for value in dataset.values())
    return hasattr(dataset, "shape") and hasattr(dataset, "__getitem__")


def count_of(arrays):
    """How many samples arrays hold.

    Example:
    >>> count_of({"image": np.ones((2, 4))})
    2
    """
    return len(keras.tree.flatten(arrays)[0])


def of_arrays(arrays, keys):
    """Some samples of arrays, as a batch."""
    inputs = keras.tree.map_structure(lambda a: rows_at(a, keys), arrays)
    return Batch(inputs, None, keys)


def calibration_batches(dataset, batches, batch_size):
    """Some batches to learn shapes and scales from, and all batches.

    Spread over the data where it is arrays; else the first ones.

    Returns:
        `(some, batches)`.
    """
    if is_arrays(dataset) and count_of(dataset):
        count = count_of(dataset)
        keys = np.arange(0, count, -(-count // CALIBRATION_SAMPLES))
        parts = np.split(keys, range(batch_size, len(keys), batch_size))
        return [of_arrays(dataset, part) for part in parts], batches
    wanted = max(1, CALIBRATION_SAMPLES // batch_size)
    some = list(itertools.islice(batches, wanted))
    if not some:
        raise ValueError("There is nothing to ask about: no batches received.")
    return some, itertools.chain(some, batches)


def to_numpy(value):
    """A tensor of any library as a NumPy array.

    Example:
    >>> to_numpy([1, 2]).tolist()
    [1, 2]
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def rows_at(array, rows):
    """Some rows of an array of any library, as a NumPy array.

    Example:
    >>> rows_at(np.arange(4), [3, 1]).tolist()
    [3, 1]
    """
    if hasattr(array, "numpy"):  # TensorFlow's take no lists of rows.
        array = to_numpy(array)
    return to_numpy(array[rows])
