"""AugmentedViews: random views of samples that can be made again exactly."""

import copy
import functools
import hashlib
import operator

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import received
from keras_kd._src.cache.data.random_streams import RandomStreams


class AugmentedViews:
    """Random augmented views of each sample (multi-view), the same each time.

    Distillation works best when teacher and student get the same input: the
    same crop, flip and mixup, over many epochs. With cached predictions this
    needs no stored pixels, if each augmented view can be made again:

        view = augment(sample, numbers(seed, sample_index, view number))

    The numbers depend on nothing else: not on order, batches, process,
    machine or backend. There are two kinds of `numbers`:

        draws=None  `augment(element, generator)` makes one augmented view,
                    with a `numpy.random.Generator` of that view's own.
                    Grain's `random_map` has the same form.
        draws=4     `augment(elements, uniforms)` makes a batch of augmented
                    views, with numbers in [0, 1) of shape `(batch, 4)`, one row
                    for each view. Several times faster for small samples. Each
                    view must depend on its own row only.

    An element is a sample of `x`, or `(x, labels)` where `y` is given.
    `augment` returns the same structure, and may change its argument in place.
    To mix samples, let `augment` hold the data, and draw the other sample's
    index.

    It is a random-access source, for Grain (`MapDataset.source(views)`),
    PyTorch's `DataLoader`, `keras_kd.cache.write` and `TeacherCache.join`. An
    augmented view's position is `view * number of samples + sample_index`.

    A `Generator`'s methods other than `random` (such as `normal`) may give
    other numbers in another version of NumPy, and floats may be rounded
    differently on another machine. `checksum` shows whether that has happened.

    Args:
        x: array, a tuple or dict of arrays, or anything with `__len__` and
            `__getitem__` (memory map, list, Grain source), with one entry for
            each sample, of any shape.
        y: labels, in any of these forms; None for no labels.
        augment: function as above.
        count: integer, augmented views of each sample. The authors of FKD
            provide 500 for each ImageNet image; TinyViT has one for each epoch.
        seed: integer from 0 to 2**64 - 1.
        draws: None, or integer, how many random numbers each augmented view
            needs.

    Raises:
        ValueError: the data has no random access, or its parts differ in
            length; an argument is out of range; `augment` returns another
            structure, or several shapes in one batch.

    Example:
    >>> def flip(element, generator):
    ...     image, label = element
    ...     return image[:, :: generator.choice([1, -1])], label
    >>> images = np.arange(12).reshape(3, 2, 2)
    >>> views = AugmentedViews(images, [0, 1, 0], augment=flip, count=4)
    >>> len(views)
    12
    >>> x, y = views.batch(sample_index=[2, 0], view=1)
    >>> x.tolist()
    [[[8, 9], [10, 11]], [[1, 0], [3, 2]]]
    >>> y["labels"].tolist(), y["sample_index"].tolist(), y["view"].tolist()
    ([0, 0], [2, 0], [1, 1])

    References: Beyer et al., 2021, "Knowledge distillation: A good teacher is
    patient and consistent", arXiv 2106.05237. Shen and Xing, 2021, "A Fast
    Knowledge Distillation Framework for Visual Recognition", arXiv
    2112.01528, which stores crops and flips. Wu et al., 2022, "TinyViT: Fast
    Pretraining Distillation for Small Vision Transformers", arXiv 2207.10666,
    which stores a seed for each view.
    """

    def __init__(self, x, y=None, *, augment, count, seed=0, draws=None):
        if not callable(augment):
            raise ValueError(
                "Argument `augment` must be a function of an element and its "
                f"random numbers. {received('augment', augment)}"
            )
        self._data, self.samples = _samples_of((x,) if y is None else (x, y))
        self.augment = augment
        self.count = integer(count, "count")
        self.seed = integer(seed, "seed", least=0, most=2**64 - 1)
        self.draws = None if draws is None else integer(draws, "draws")
        self._streams = RandomStreams(self.seed)

    def __len__(self):
        return self.samples * self.count

    def __getitem__(self, position):
        # A range raises the IndexError that ends an iteration.
        position = range(len(self))[operator.index(position)]
        view, sample = divmod(position, self.samples)
        batch = self._batch(*np.array([[sample], [view]], "int64"))
        return keras.tree.map_structure(operator.itemgetter(0), batch)

    def batch(self, sample_index, view):
        """Several augmented views, stacked.

        Args:
            sample_index: integers of shape `(batch,)`.
            view: integers of shape `(batch,)`, or one integer for all: the
                number of each sample's augmented view.

        Returns:
            `(x, y)`: `x` of shape `(batch, ...)`; `y` a dict of `"labels"` (if
            any), `"sample_index"` and `"view"`, the last two int64 `(batch,)`.

        Raises:
            ValueError: there is no such sample or augmented view.
        """
        sample_index = _indices(sample_index, self.samples, "sample_index")
        view = _indices(view, self.count, "view")
        if sample_index.ndim != 1 or view.shape not in ((), sample_index.shape):
            raise ValueError(
                "`sample_index` must be a list of indices, and `view` a list "
                "of the same length or one number. Received: shapes "
                f"{sample_index.shape} and {view.shape}."
            )
        view = np.broadcast_to(view, sample_index.shape).copy()
        return self._batch(sample_index, view)

    def _batch(self, sample_index, view):
        make = self._one_by_one if self.draws is None else self._at_once
        x, *labels = make(sample_index, view)
        y = {"sample_index": sample_index, "view": view}
        return x, ({"labels": labels[0], **y} if labels else y)

    def _one_by_one(self, sample_index, view):
        made = []
        for index, number in zip(sample_index.tolist(), view.tolist()):
            element = self._element(operator.methodcaller("one", index))
            generator = self._streams.generator(index, number)
            result = self.augment(element, generator)
            if not made or type(result) is not type(made[0]):
                _check_structure(result, element)
            made.append(result)
        # Part by part, as mapping over a tree of many samples is slow.
        parts = zip(*made, strict=True) if len(self._data) > 1 else [made]
        return [_stacked(part) for part in parts]

    def _at_once(self, sample_index, view):
        several = operator.methodcaller("several", sample_index)
        elements = self._element(several)
        uniforms = self._streams.uniforms(sample_index, view, self.draws)
        result = self.augment(elements, uniforms)
        _check_structure(result, elements)
        result = _checked_batch(result, len(sample_index))
        return result if len(self._data) > 1 else [result]

    def _element(self, read):
        parts = tuple(
            keras.tree.map_structure(read, part)
            if isinstance(part, (dict, tuple))
            else read(part)
            for part in self._data
        )
        return parts if len(parts) > 1 else parts[0]

    def settings(self):
        """The settings of the augmented views, as a dict that JSON can hold.

        `augment` is recorded by its name: only `checksum` shows a change in
        its code, or in the data that it holds.

        Returns:
            A dict of `"samples"`, `"count"`, `"seed"`, `"draws"`, `"augment"`.
        """
        return {
            "samples": self.samples,
            "count": self.count,
            "seed": self.seed,
            "draws": self.draws,
            "augment": _name_of(self.augment),
        }

    def checksum(self):
        """SHA-256 of 16 augmented views, spread over the samples.

        It shows whether another process, machine or version makes the same
        views.

        Returns:
            Text of 64 hexadecimal digits.
        """
        last = self.samples - 1
        sample_index = np.unique(np.linspace(0, last, 16).astype(int))
        view = np.arange(len(sample_index)) % self.count
        digest = hashlib.sha256()
        for part in keras.tree.flatten(self.batch(sample_index, view)):
            digest.update(f"{part.shape} {part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def _indices(values, number, name):
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer) or not values.size:
        raise ValueError(
            f"Argument `{name}` must be integers, one or more. "
            f"Received: {name} of shape {values.shape} and type {values.dtype}."
        )
    if values.min() < 0 or values.max() >= number:
        raise ValueError(
            f"Argument `{name}` must be from 0 to {number - 1}. Received: "
            f"{values.min()} to {values.max()}."
        )
    return values.astype("int64")


def _name_of(function):
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"


# --- data, read sample by sample or several samples at once ------------------


class _ArraySamples:
    """The samples of an array or a memory map, copied when read."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def one(self, index):
        return self.array[index].copy()

    def several(self, sample_index):
        return self.array[sample_index]


class _SourceSamples:
    """The samples of a list, or of Grain's or PyTorch's source; copied."""

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
        return _stacked([self.one(index) for index in sample_index.tolist()])


def _samples_of(data):
    """The data with a reader for each array or source, and its length."""
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
    """A reader of the part's samples; None for a dict or tuple of parts."""
    if isinstance(part, (dict, tuple)):
        return None
    if hasattr(part, "to_numpy"):
        part = part.to_numpy()  # In pandas [i] would look for a label.
    elif keras.ops.is_tensor(part):
        part = keras.ops.convert_to_numpy(part)
    if isinstance(part, np.ndarray) and part.ndim:
        return _ArraySamples(np.asarray(part))
    at_random = hasattr(part, "__len__") and hasattr(part, "__getitem__")
    gives_batches = isinstance(part, keras.utils.PyDataset)
    if not at_random or gives_batches or isinstance(part, np.ndarray):
        raise ValueError(
            "Augmented views are made of data that gives any sample by its "
            "index: arrays, or a source with `__len__` and `__getitem__`. "
            f"Received: {part!r} of type {type(part).__name__}. Give the data "
            "as it is before it is batched and shuffled."
        )
    return _SourceSamples(part)


# --- what `augment` returns --------------------------------------------------


def _stacked(samples):
    """A batch of samples, of which each may be a tuple or dict of arrays."""
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
            "`augment`; or before it, if `draws` is given."
        ) from error


def _check_structure(result, element):
    """Raises a `ValueError` if `augment` returned another structure."""
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


def _checked_batch(result, batch_size):
    """What `augment` returned for a batch, as arrays `(batch, ...)`."""
    result = keras.tree.map_structure(np.asarray, result)
    for part in keras.tree.flatten(result):
        if part.shape[:1] != (batch_size,):
            raise ValueError(
                "With `draws`, `augment` must return a batch of augmented "
                f"views. It was given {batch_size} elements. Received: shape "
                f"{part.shape}."
            )
    return result
