"""join: adds cached predictions to a data set, by sample index."""

import operator
import sys

import keras
import numpy as np

from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.data.batches import count_of
from keras_kd._src.cache.data.batches import is_arrays
from keras_kd._src.cache.data.batches import rows_at
from keras_kd._src.cache.data.batches import texts_as_array
from keras_kd._src.cache.data.keys import check_indexed
from keras_kd._src.cache.to_numpy import to_numpy
from keras_kd._src.mapped_dataset import MappedDataset


def join(
    cache,
    x,
    y=None,
    sample_weight=None,
    *,
    batch_size=None,
    seed=None,
    sample_index=None,
    **kwargs,
):
    """A data set whose batches carry the teacher's predictions.

    Each batch gets its predictions under `"predictions"` in `y`, for training
    a student without running the teacher. A data set of batches with
    `"sample_index"` in `y` (`tf.data`, `PyDataset`, Grain, PyTorch's
    `DataLoader`) becomes one of the same kind, in the same order. For any
    other, call `add_to` on each batch. The result is for `fit`, also as
    `validation_data`, and for `evaluate`.

    Args:
        cache: the `TeacherCache`.
        x: such a data set; or `keras_kd.cache.AugmentedViews`; or arrays of
            shape `(samples, ...)`; or a list of texts.
        y: labels, an array or a dict or tuple of arrays; only with arrays.
        sample_weight: array of shape `(samples,)`; only with arrays.
        batch_size: integer, for arrays and `AugmentedViews`; 32 by default.
        seed: integer, the seed that shuffles arrays and `AugmentedViews` anew
            in each epoch; None keeps their order.
        sample_index: integers of shape `(samples,)`, the rows' indices in the
            cache; 0, 1, 2... by default. Needed where a host has a part of the
            data.
        kwargs: arguments of `keras.utils.PyDataset`, such as `workers`.

    Returns:
        A data set; for arrays and `AugmentedViews` a `JoinedArrays`, which is
        a `keras.utils.PyDataset`.

    Raises:
        ValueError: the data set is of no known kind, or not the one that the
            cache was written for.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, folder = keras.ops.ones((8, 4)), tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> data = kd.cache.open(folder).join(x, batch_size=4, seed=0)
    >>> sorted(data[0][1])
    ['predictions', 'sample_index']
    """
    x = texts_as_array(x)
    if isinstance(x, AugmentedViews) or is_arrays(x):
        return JoinedArrays(
            cache, x, y, sample_weight, batch_size, seed, sample_index, **kwargs
        )
    given = dict(y=y, sample_weight=sample_weight, batch_size=batch_size)
    given |= dict(seed=seed, sample_index=sample_index, **kwargs)
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise ValueError(
            f"Arguments {unused} are for arrays and `cache.AugmentedViews`; a "
            "data set of batches has its own. Received: x of type "
            f"{type(x).__name__}. Leave them out."
        )
    for kind, joined in _KINDS.items():
        package, _, name = kind.partition(".")
        # If its package was never imported, `x` can't be of that kind.
        imported = sys.modules.get(package)
        if imported and isinstance(x, operator.attrgetter(name)(imported)):
            return joined(cache, x)
    raise ValueError(
        "A cache joins arrays, `cache.AugmentedViews` and data sets of "
        f"batches: {', '.join(_KINDS)}. Received: {type(x).__name__}. Call "
        "`TeacherCache.add_to(batch)` on each of its batches; of a "
        "`grain.DataLoader`, let the last of its operations do it."
    )


class JoinedArrays(keras.utils.PyDataset):
    """Batches of arrays or `AugmentedViews`, with the teacher's predictions.

    The order depends only on seed and epoch. Epoch e has the augmented view
    `e % count` of each sample.

    `Distiller.fit` sets the epoch, so a resumed run continues where it
    stopped. For another model's `fit`, pass the callback
    `keras.callbacks.LambdaCallback(on_epoch_begin=data.set_epoch)`; without
    it, each epoch has augmented view 0. Nothing else changes the epoch:
    validation, `evaluate` and `predict` get the same batches each time. With
    `steps_per_epoch`, an epoch here is one pass over all the data, however many
    epochs of `fit` that takes. (With several `workers` it isn't: Keras restarts
    them in each epoch of `fit`, and their first batches may be of the epoch
    before.)

    Each call of `fit` begins with epoch 0, and so with augmented view 0, unless
    it is given an `initial_epoch`. `fit` also shuffles the batches unless it
    is given `shuffle=False`.

    Args:
        cache, x, y, sample_weight, batch_size, seed, sample_index, kwargs: as
            in `TeacherCache.join`, which makes it.

    Raises:
        ValueError: arrays differ in length; `y` is given with
            `AugmentedViews`; the data is not the one that the cache was
            written for.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, folder = np.ones((8, 4)), tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> data = kd.cache.open(folder).join(x, batch_size=3, seed=0)
    >>> data.set_epoch(5)
    >>> len(data), data.epoch
    (3, 5)
    """

    def __init__(
        self,
        cache,
        x,
        y=None,
        sample_weight=None,
        batch_size=None,
        seed=None,
        sample_index=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cache = cache
        self.data = x, y, sample_weight
        self.batch_size = 32 if batch_size is None else batch_size
        self.seed = seed
        augmented = isinstance(x, AugmentedViews)
        self.samples = x.samples if augmented else count_of(x)
        if sample_index is None:
            sample_index = np.arange(self.samples)
        self.sample_index = to_numpy(sample_index)
        check = self._check_views if augmented else self._check_arrays
        check(x, self._lengths())
        self.set_epoch(0)

    def _lengths(self):
        _, y, sample_weight = self.data
        lengths = {
            name: [len(leaf) for leaf in keras.tree.flatten(value)]
            for name, value in (("y", y), ("sample_weight", sample_weight))
            if value is not None
        }
        return {**lengths, "sample_index": [len(self.sample_index)]}

    def _check_arrays(self, arrays, lengths):
        if any(n != self.samples for each in lengths.values() for n in each):
            raise ValueError(
                f"All arrays must have one row for each sample. Received: x of "
                f"{self.samples} rows, and {lengths}."
            )
        if self.cache.views_per_sample > 1:
            raise ValueError(
                f"The cache {self.cache.name!r} holds predictions for "
                "augmented views. Received: arrays, which have none. Join the "
                "`cache.AugmentedViews` that it was written for."
            )
        self.cache.check_arrays(arrays, self.sample_index)

    def _check_views(self, views, lengths):
        if "y" in lengths or "sample_weight" in lengths:
            raise ValueError(
                "`cache.AugmentedViews` have their labels already, and no "
                f"weights. Received: {sorted(lengths)} beside them. Give the "
                "labels to `cache.AugmentedViews(x, y, ...)`."
            )
        stored = self.cache.manifest.views or {}
        # The function may have been imported under another name.
        for key in ("samples", "count", "seed", "draws"):
            if stored.get(key) != views.settings()[key]:
                raise ValueError(
                    f"The cache {self.cache.name!r} was written for other "
                    f"augmented views. Received: {views.settings()}; in the "
                    f"cache: {stored}. Give them the cache's settings."
                )

    def __len__(self):
        return -(-len(self.sample_index) // self.batch_size)

    def __getitem__(self, number):
        start = number * self.batch_size
        rows = self.order[start : start + self.batch_size]
        sample_index = self.sample_index[rows]
        x = self.data[0]
        if isinstance(x, AugmentedViews):
            view = self.epoch % x.count
            return self.cache.add_to(x.batch(sample_index, view))
        x, y, sample_weight = rows_at(self.data, rows)
        targets = {} if y is None else {"labels": y}
        targets["sample_index"] = sample_index
        weights = () if sample_weight is None else (sample_weight,)
        return self.cache.add_to((x, targets, *weights))

    def set_epoch(self, epoch, logs=None):
        """Sets which epoch comes next; fits `LambdaCallback`.

        Args:
            epoch: integer from 0.
            logs: not used.
        """
        self.epoch = epoch
        self.order = np.arange(len(self.sample_index))
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, epoch])
            self.order = generator.permutation(self.order)


def _joined_dataset(cache, dataset):
    return MappedDataset(dataset, cache.add_to)


def _joined_tf(cache, dataset):
    """A `tf.data` data set; Python looks up the predictions."""
    import tensorflow as tf

    carried = cache.carried_spec()
    types = [spec.dtype for spec in keras.tree.flatten(carried)]

    def added(*batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        check_indexed(y)

        def look_up(*flat):
            x_and_y = keras.tree.pack_sequence_as((x, y), flat)
            return keras.tree.flatten(cache.add_to(x_and_y)[1]["predictions"])

        flat = keras.tree.flatten((x, y))
        found = tf.numpy_function(look_up, flat, types, stateful=False)
        for value, spec in zip(found, keras.tree.flatten(carried)):
            value.set_shape(spec.shape)
        kept = {key: value for key, value in y.items() if key != "view"}
        predictions = keras.tree.pack_sequence_as(carried, found)
        weights = () if sample_weight is None else (sample_weight,)
        return x, {**kept, "predictions": predictions}, *weights

    return dataset.map(added, num_parallel_calls=tf.data.AUTOTUNE)


def _joined_grain(cache, dataset):
    return dataset.map(cache.add_to)


def _joined_loader(cache, loader):
    """The same loader, whose workers add the predictions."""
    from torch.utils.data import DataLoader
    from torch.utils.data import IterableDataset

    copied = "num_workers pin_memory timeout worker_init_fn generator"
    copied += " multiprocessing_context prefetch_factor persistent_workers"
    arguments = {name: getattr(loader, name) for name in copied.split()}
    if isinstance(loader.dataset, IterableDataset):  # It has no sampler.
        arguments["batch_size"] = loader.batch_size
        arguments["drop_last"] = loader.drop_last
    elif loader.batch_sampler is None:
        arguments["batch_size"] = None
    else:
        arguments["batch_sampler"] = loader.batch_sampler
    collate = _Collate(cache, loader.collate_fn)
    return DataLoader(loader.dataset, collate_fn=collate, **arguments)


class _Collate:
    """A `collate_fn` that adds the predictions, and can be pickled."""

    def __init__(self, cache, collate):
        self.cache, self.collate = cache, collate

    def __call__(self, samples):
        x, y, *sample_weight = self.cache.add_to(self.collate(samples))
        predictions = keras.tree.map_structure(_tensor, y["predictions"])
        return x, {**y, "predictions": predictions}, *sample_weight


def _tensor(array):
    """A PyTorch tensor: on any backend, Keras needs one from a `DataLoader`."""
    import torch

    # PyTorch has hardly any operations on these unsigned integers.
    wider = {"uint16": "int32", "uint32": "int64"}.get(array.dtype.name)
    return torch.from_numpy(array.astype(wider) if wider else array)


_KINDS = {
    "keras.utils.PyDataset": _joined_dataset,
    "tensorflow.data.Dataset": _joined_tf,
    "torch.utils.data.DataLoader": _joined_loader,
    "grain.MapDataset": _joined_grain,
    "grain.IterDataset": _joined_grain,
}
