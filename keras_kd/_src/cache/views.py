"""Views: the same random views of each sample for teacher and student."""

import functools
import hashlib
import operator

import keras
import numpy as np

from keras_kd._src.cache.samples import check_structure
from keras_kd._src.cache.samples import checked_batch
from keras_kd._src.cache.samples import samples_of
from keras_kd._src.cache.samples import stacked
from keras_kd._src.cache.streams import Streams


class Views:
    """`count` random views of each sample, the same ones whenever asked.

    A student learns most from a teacher that sees what it sees: the same
    crop, flip and mixture, over many epochs. A cache of a teacher's answers
    can keep to that without storing a pixel, if each view can be made again:

        view = augment(sample, numbers(seed, sample_index, view))

    The numbers depend on nothing else: not on order, batches, process,
    machine or backend. Of `numbers` there are two kinds:

        draws=None  `augment(element, generator)` makes one view, with a
                    `numpy.random.Generator` of that very view. Grain's
                    `random_map` has the same form.
        draws=4     `augment(elements, uniforms)` makes a batch of views, with
                    numbers in [0, 1) of shape `(batch, 4)`, a row for each
                    view. Several times faster for small samples. Each view
                    must depend on its own row alone.

    An element is a sample of `x`, or `(x, labels)` where `y` is given; what
    comes back has the same structure. It may be written to. To mix samples,
    let `augment` hold the data, and draw the partner's index.

    Views are a random-access source: of Grain (`MapDataset.source(views)`),
    of PyTorch's `DataLoader`, or of `cache.write` and `answers.join`. The
    position of a view in it is `view * number of samples + sample_index`.

    The numbers of a `Generator` other than `random` (such as `normal`) may
    change with NumPy's version, and rounding of floats with the machine.
    `checksum` tells whether they have.

    Args:
        x: array, a tuple or dict of arrays, or anything with `__len__` and
            `__getitem__` (memory map, list, Grain source): one entry a
            sample.
        y: labels, in any of these forms; None without labels.
        augment: function as above.
        count: number of views of each sample. FKD's authors offer 500 for
            ImageNet's images; TinyViT has one for each epoch.
        seed: whole number from 0 to 2**64 - 1.
        draws: None, or how many numbers a view needs.

    Raises:
        ValueError: the data has no random access or not one length; an
            argument is out of range; `augment` returns another structure, or
            views of several shapes in one batch.

    Example:
    >>> def flip(element, generator):
    ...     image, label = element
    ...     return image[:, :: generator.choice([1, -1])], label
    >>> images = np.arange(12).reshape(3, 2, 2)
    >>> views = Views(images, [0, 1, 0], augment=flip, count=4)
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
                f"random numbers. Received: augment={augment!r}."
            )
        self._data, self.samples = samples_of((x,) if y is None else (x, y))
        self.augment = augment
        self.count = _whole(count, "count", 1)
        self.seed = _whole(seed, "seed", 0)
        self.draws = None if draws is None else _whole(draws, "draws", 1)
        self._streams = Streams(self.seed)

    def __len__(self):
        return self.samples * self.count

    def __getitem__(self, position):
        # A range raises the IndexError that ends an iteration.
        position = range(len(self))[operator.index(position)]
        view, sample = divmod(position, self.samples)
        batch = self._batch(*np.array([[sample], [view]], "int64"))
        return keras.tree.map_structure(operator.itemgetter(0), batch)

    def batch(self, sample_index, view):
        """Several views, stacked.

        Args:
            sample_index: whole numbers of shape `(batch,)`.
            view: whole numbers of shape `(batch,)`, or one for all.

        Returns:
            `(x, y)`: `x` of shape `(batch, ...)`; `y` a dict of `"labels"` (if
            any), `"sample_index"` and `"view"`, the last two int64 `(batch,)`.

        Raises:
            ValueError: there is no such sample or view.
        """
        sample_index = _indices(sample_index, self.samples, "sample_index")
        view = _indices(view, self.count, "view")
        if sample_index.ndim != 1 or view.shape not in ((), sample_index.shape):
            raise ValueError(
                "`sample_index` must be a list of indices, and `view` as long "
                "a list or one number. Received: shapes "
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
                check_structure(result, element)
            made.append(result)
        # Part by part: a tree of many samples is slow to walk.
        parts = zip(*made, strict=True) if len(self._data) > 1 else [made]
        return [stacked(part) for part in parts]

    def _at_once(self, sample_index, view):
        several = operator.methodcaller("several", sample_index)
        elements = self._element(several)
        uniforms = self._streams.uniforms(sample_index, view, self.draws)
        result = self.augment(elements, uniforms)
        check_structure(result, elements)
        result = checked_batch(result, len(sample_index))
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
        """What identifies the views, as a dict that JSON can hold.

        Of `augment` that is the name: a change in its code, or in what it
        holds, is seen in the `checksum` alone.
        """
        return {
            "samples": self.samples,
            "count": self.count,
            "seed": self.seed,
            "draws": self.draws,
            "augment": _name_of(self.augment),
        }

    def checksum(self):
        """SHA-256 of 16 views, of samples from the first to the last, in hex.

        It tells whether another process, machine or version makes the views
        of this one.
        """
        last = self.samples - 1
        sample_index = np.unique(np.linspace(0, last, 16).astype(int))
        view = np.arange(len(sample_index)) % self.count
        digest = hashlib.sha256()
        for part in keras.tree.flatten(self.batch(sample_index, view)):
            digest.update(f"{part.shape} {part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def _whole(value, name, least):
    is_whole = isinstance(value, (int, np.integer))
    if is_whole and least <= value < 2**64 and not isinstance(value, bool):
        return int(value)
    raise ValueError(
        f"Argument `{name}` must be a whole number from {least} to 2**64 - 1. "
        f"Received: {name}={value!r}."
    )


def _indices(values, number, name):
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer) or not values.size:
        raise ValueError(
            f"Argument `{name}` must have whole numbers, one or more. "
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
