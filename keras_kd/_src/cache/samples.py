"""Data as samples that are read one by one, or several at once."""

import copy

import keras
import numpy as np


class ArraySamples:
    """The samples of an array, copied when read.

    Args:
        array: NumPy array of shape `(samples, ...)`, or a memory map.

    Example:
    >>> samples = ArraySamples(np.array([3, 4, 5]))
    >>> int(samples.one(2)), samples.several(np.array([2, 0])).tolist()
    (5, [5, 3])
    """

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def one(self, index):
        return self.array[index].copy()

    def several(self, sample_index):
        return self.array[sample_index]


class SourceSamples:
    """The samples of what has `__len__` and `__getitem__`, copied when read.

    Args:
        source: a list, or a source of Grain or PyTorch; its samples may be
            tuples or dicts.

    Example:
    >>> samples = SourceSamples([{"ids": np.arange(2)}, {"ids": np.ones(2)}])
    >>> samples.several(np.array([1, 0]))["ids"].tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def one(self, index):
        sample = self.source[index]
        # A list of numbers is one sample, not a structure of many.
        is_list = isinstance(sample, list)
        return np.array(sample) if is_list else copy.deepcopy(sample)

    def several(self, sample_index):
        return stacked([self.one(index) for index in sample_index.tolist()])


def samples_of(data):
    """Makes of each array or source in a structure something to read from.

    Args:
        data: array or source, or tuples and dicts of them.

    Returns:
        The structure with `ArraySamples` and `SourceSamples` in their place,
        and the number of samples, an integer.

    Raises:
        ValueError: something can't be read at random, has no samples, or has
            another number of them.

    Example:
    >>> data, number = samples_of({"image": np.ones((3, 2)), "id": [7, 8, 9]})
    >>> type(data["id"]).__name__, number
    ('SourceSamples', 3)
    """
    data = keras.tree.traverse(_readable, data)
    lengths = {len(part) for part in keras.tree.flatten(data)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            "`x` and `y` must have the same number of samples, one or more. "
            f"Received: {sorted(lengths)} samples. Several inputs go into a "
            "tuple or dict; a list is taken for a list of samples."
        )
    return data, lengths.pop()


def _readable(part):
    """What reads the part's samples; None where there are parts in it."""
    if isinstance(part, (dict, tuple)):
        return None
    if hasattr(part, "to_numpy"):
        part = part.to_numpy()  # pandas: [i] would look for a label.
    elif keras.ops.is_tensor(part):
        part = keras.ops.convert_to_numpy(part)
    if isinstance(part, np.ndarray) and part.ndim:
        return ArraySamples(np.asarray(part))
    at_random = hasattr(part, "__len__") and hasattr(part, "__getitem__")
    gives_batches = isinstance(part, keras.utils.PyDataset)
    if not at_random or gives_batches or isinstance(part, np.ndarray):
        raise ValueError(
            "Views are made of data that gives any sample by its index: "
            "arrays, or a source with `__len__` and `__getitem__`. Received: "
            f"{part!r} of type {type(part).__name__}. Give the data as it is "
            "before it is batched and shuffled."
        )
    return SourceSamples(part)


def stacked(samples):
    """Stacks samples into a batch.

    Args:
        samples: list of arrays, or of tuples and dicts of arrays.

    Returns:
        Arrays `(batch, ...)` in the samples' structure.

    Raises:
        ValueError: the samples differ in structure or shape.

    Example:
    >>> stacked([np.zeros(2), np.ones(2)]).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    try:
        if not keras.tree.is_nested(samples[0]):
            return np.stack(samples)
        return keras.tree.map_structure(lambda *each: np.stack(each), *samples)
    except (TypeError, ValueError) as error:
        shapes = {
            tuple(np.shape(part) for part in keras.tree.flatten(sample))
            for sample in samples
        }
        raise ValueError(
            "Samples of a batch must have one structure and shape. Received: "
            f"shapes {sorted(shapes)[:4]}. Crop, resize or pad them in "
            "`augment`; where `draws` is given, before."
        ) from error


def check_structure(result, element):
    """Refuses what `augment` made, if it is not in the element's structure.

    Example:
    >>> check_structure((np.ones(2), 1), (np.zeros(4), 0))
    """
    try:
        keras.tree.assert_same_structure(element, result)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`augment` must return what it is given, in the same structure. "
            f"It was given {_form(element)}. Received: {_form(result)}. With "
            "labels that is `(x, labels)`."
        ) from error


def _form(structure):
    return keras.tree.map_structure(
        lambda part: f"{type(part).__name__} of shape {np.shape(part)}",
        structure,
    )


def checked_batch(result, batch_size):
    """The views that `augment` made at once, as arrays `(batch, ...)`.

    Example:
    >>> checked_batch(np.ones((2, 3)), batch_size=2).shape
    (2, 3)
    """
    result = keras.tree.map_structure(np.asarray, result)
    for part in keras.tree.flatten(result):
        if part.shape[:1] != (batch_size,):
            raise ValueError(
                "With `draws`, `augment` makes a batch of views at once. It "
                f"was given {batch_size} elements. Received: shape "
                f"{part.shape}."
            )
    return result
