"""join: brings a data set and a teacher's answers together, by sample."""

import operator
import sys

import keras

from keras_kd._src.cache.batches import is_arrays
from keras_kd._src.cache.joined_arrays import JoinedArrays
from keras_kd._src.cache.numbering import check_indexed
from keras_kd._src.cache.views import Views


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
    """A data set whose batches bring the teacher's answers along.

    Of a data set of batches with `"sample_index"` in `y` comes one of the same
    kind, in the same order: `tf.data`, `PyDataset`, Grain, PyTorch's
    `DataLoader`. For anything else, `add_to` does it batch by batch.

    Args:
        cache: the `TeacherCache`.
        x: such a data set; `Views`; or arrays, one row a sample.
        y: labels, an array or a dict or tuple of them; of arrays only.
        sample_weight: array of shape `(samples,)`, of arrays only.
        batch_size: of arrays and `Views`; 32 by default.
        seed: of the order in each epoch, of arrays and `Views`; None leaves
            the samples in theirs.
        sample_index: numbers that the rows of arrays have in the cache;
            0, 1, 2... by default. For a host's share of the data.
        kwargs: arguments of `keras.utils.PyDataset`, such as `workers`.

    Returns:
        A data set for `fit`. Of arrays and `Views` a `JoinedArrays`.

    Raises:
        ValueError: the data set is of no known kind, or not the one that the
            cache was written about.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, folder = keras.ops.ones((8, 4)), tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> data = kd.cache.open(folder).join(x, batch_size=4, seed=0)
    >>> sorted(data[0][1])
    ['answers', 'sample_index']
    """
    if isinstance(x, Views) or is_arrays(x):
        return JoinedArrays(
            cache, x, y, sample_weight, batch_size, seed, sample_index, **kwargs
        )
    given = dict(y=y, sample_weight=sample_weight, batch_size=batch_size)
    given |= dict(seed=seed, sample_index=sample_index, **kwargs)
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise ValueError(
            f"Arguments {unused} are for arrays and `cache.Views`; a data set "
            f"of batches brings all that. Received: x of type "
            f"{type(x).__name__}. Leave them out."
        )
    for kind, joined in _KINDS.items():
        package, _, name = kind.partition(".")
        # What was never imported is not what we were given.
        imported = sys.modules.get(package)
        if imported and isinstance(x, operator.attrgetter(name)(imported)):
            return joined(cache, x)
    raise ValueError(
        "A cache joins arrays, `cache.Views` and data sets of batches: "
        f"{', '.join(_KINDS)}. Received: {type(x).__name__}. Call "
        "`answers.add_to(batch)` on each of its batches; of a "
        "`grain.DataLoader`, let the last of its operations do it."
    )


class JoinedDataset(keras.utils.PyDataset):
    """Another `PyDataset`, with the teacher's answers.

    Args:
        cache: the `TeacherCache`.
        dataset: a `PyDataset` whose batches have `"sample_index"` in `y`.

    Example:
    >>> issubclass(JoinedDataset, keras.utils.PyDataset)
    True
    """

    def __init__(self, cache, dataset):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.cache, self.dataset = cache, dataset

    def __len__(self):
        return len(self.dataset)

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, number):
        return self.cache.add_to(self.dataset[number])

    def set_epoch(self, epoch, logs=None):
        """Tells the other one its epoch, if it listens."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def _joined_tf(cache, dataset):
    """Its batches stay tensors; the answers are looked up by Python."""
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
        answers = keras.tree.pack_sequence_as(carried, found)
        weights = () if sample_weight is None else (sample_weight,)
        return x, {**kept, "predictions": answers}, *weights

    return dataset.map(added, num_parallel_calls=tf.data.AUTOTUNE)


def _joined_grain(cache, dataset):
    return dataset.map(cache.add_to)


def _joined_loader(cache, loader):
    """The same loader, whose workers add the answers."""
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
    collate = Collated(cache, loader.collate_fn)
    return DataLoader(loader.dataset, collate_fn=collate, **arguments)


class Collated:
    """A `collate_fn` of PyTorch's `DataLoader` that adds the answers.

    Example:
    >>> import tempfile, numpy as np, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, np.ones((8, 4)), folder, verbose=0)
    >>> answers = kd.cache.open(folder)
    >>> batch = np.ones((1, 4)), {"sample_index": np.array([3])}
    >>> _, y = Collated(answers, lambda samples: samples[0])([batch])
    >>> tuple(answers.answer(y)[""].shape)
    (1, 3)
    """

    def __init__(self, cache, collate):
        self.cache, self.collate = cache, collate

    def __call__(self, samples):
        x, y, *sample_weight = self.cache.add_to(self.collate(samples))
        answers = keras.tree.map_structure(_tensor, y["predictions"])
        return x, {**y, "predictions": answers}, *sample_weight


def _tensor(array):
    """Of PyTorch: Keras takes no other from a `DataLoader`, on any backend."""
    import torch

    # Of other unsigned integers PyTorch knows little more than the names.
    wider = {"uint16": "int32", "uint32": "int64"}.get(array.dtype.name)
    return torch.from_numpy(array.astype(wider) if wider else array)


_KINDS = {
    "keras.utils.PyDataset": JoinedDataset,
    "tensorflow.data.Dataset": _joined_tf,
    "torch.utils.data.DataLoader": _joined_loader,
    "grain.MapDataset": _joined_grain,
    "grain.IterDataset": _joined_grain,
}
