"""The data of a comparison: training data for `fit`, and test data."""

import keras
import numpy as np

from keras_kd._src.cache.data.batches import count_of
from keras_kd._src.cache.data.batches import rows_at
from keras_kd._src.cache.to_numpy import to_numpy
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import hexadecimal


def checked_data(data, argument):
    """Data that can be read more than once; else a `ValueError`."""
    if hasattr(data, "__next__"):
        raise ValueError(
            f"Argument `{argument}` is read once for each run. Received: a "
            "generator, which is empty after the first one. Pass arrays "
            "`(x, y)`, a `tf.data.Dataset`, a `keras.utils.PyDataset`, a "
            "`DataLoader`, or a function of the seed that returns new data."
        )
    return data


def data_of_seed(data, seed):
    """The training data of a run, as it is or as its function makes it."""
    return data(seed) if callable(data) else data


def fit_arguments(data, batch_size):
    """Training data as arguments of `fit`."""
    if not isinstance(data, (tuple, list)):
        # A data set has its own order, and Keras warns that it can't shuffle.
        batches = isinstance(data, keras.utils.PyDataset)
        return {"x": data} if batches else {"x": data, "shuffle": False}
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    return {"x": x, "y": y, "batch_size": batch_size, **weights}


def description(data):
    """A text that shows whether training data has changed, where possible.

    It covers all values of arrays; for other data only type and length, which
    are known without reading it.
    """
    if isinstance(data, (tuple, list)):
        return _digest(data)
    count = len(data) if hasattr(data, "__len__") else "unknown"
    spec = getattr(data, "element_spec", "")
    return f"{type(data).__name__} of length {count} {spec}".strip()


def _digest(data):
    arrays = map(to_numpy, keras.tree.flatten(data))
    arrays = [each for each in arrays if each is not None]
    texts = [
        repr(each.tolist()).encode() for each in arrays if each.dtype == object
    ]
    rest = [each for each in arrays if each.dtype != object]
    return hexadecimal(digest(texts, rest))


class HeldOut:
    """The test data in batches, with its labels and a digest of all of it.

    Args:
        data: pair of inputs and labels, or a data set of such batches that
            has the same order each time.
        batch_size: the size of batches of arrays.

    Raises:
        ValueError: there are no labels, or there are sample weights.
    """

    def __init__(self, data, batch_size):
        self.data = checked_data(data, "test_data")
        self.batch_size = batch_size
        labels, digests = [], []
        for x, y in self._pairs():
            labels.append(y)
            digests.append(_digest([x, y]))
        if not labels:
            raise ValueError(
                "Argument `test_data` must hold samples. Received: a data set "
                "without any."
            )
        self.labels = np.concatenate(labels)
        self.digest = hexadecimal(digest(map(str.encode, digests), []))
        self.first = _checked_inputs(next(self.batches()))

    def batches(self):
        """Yields the inputs of each batch, as NumPy arrays."""
        start = 0
        for x, y in self._pairs():
            expected = self.labels[start : start + len(y)]
            if not np.array_equal(y, expected):
                raise ValueError(
                    "The test data must come in the same order each time, so "
                    "that models are compared sample by sample. Received: "
                    f"from sample {start} on, other labels than at first. "
                    "Leave out the shuffling."
                )
            start += len(y)
            yield x

    def _pairs(self):
        if isinstance(self.data, (tuple, list)):
            x, y = _checked_pair(self.data)
            for start in range(0, count_of((x, y)), self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield rows_at(x, rows), to_numpy(y[rows])
            return
        batches = self.data
        if isinstance(batches, keras.utils.PyDataset):
            batches = map(batches.__getitem__, range(len(batches)))
        for batch in batches:
            x, y = _checked_pair(batch)
            yield keras.tree.map_structure(to_numpy, x), to_numpy(y)


def _checked_inputs(inputs):
    kinds = {np.asarray(each).dtype.kind for each in keras.tree.flatten(inputs)}
    if kinds & set("OSU"):
        raise ValueError(
            "Models are compared on preprocessed inputs. Received: "
            "`test_data` of texts or objects. Preprocess training and test "
            "data first, for example by `model.preprocessor(x, y)` of a "
            "KerasHub task."
        )
    return inputs


def _checked_pair(data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if sample_weight is not None:
        raise ValueError(
            "Each test sample counts equally. Received: `test_data` with "
            "sample weights. Leave them out, or pass a function as `metric` "
            "that applies them."
        )
    if y is None or isinstance(y, (dict, list, tuple)) and not len(y):
        raise ValueError(
            "Argument `test_data` must hold inputs and labels. Received: "
            "only inputs. Pass `(x, y)`, or a data set of such batches."
        )
    if isinstance(y, (dict, tuple)):
        raise ValueError(
            "Models with a single output are compared. Received: labels in a "
            f"{type(y).__name__}, for several. Compare one output at a time, "
            "with models that return only that one."
        )
    return x, np.asarray(y) if isinstance(y, list) else y
