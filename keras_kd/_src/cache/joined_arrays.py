"""JoinedArrays: arrays or views, with a teacher's answers."""

import keras
import numpy as np

from keras_kd._src.cache.batches import count_of
from keras_kd._src.cache.batches import rows_at
from keras_kd._src.cache.to_numpy import to_numpy
from keras_kd._src.cache.views import Views


class JoinedArrays(keras.utils.PyDataset):
    """Batches of arrays or `Views`, each with the teacher's answers.

    The order depends on seed and epoch alone. Epoch e has each sample's view
    `e % count`. `Distiller.fit` tells it the epoch, so that a resumed run goes
    on where it was; another model's `fit` does with
    `keras.callbacks.LambdaCallback(on_epoch_begin=data.set_epoch)`. Nothing
    else moves it: `evaluate` and `predict` find the same each time, and so
    does validation; without that callback, each epoch of another model's `fit`
    has view 0. With `steps_per_epoch` an epoch is one of all the data, however
    many of `fit` it takes. (Not with several `workers`, which Keras starts anew
    in each of them, and whose batches may be of the epoch before.)

    Of several calls of `fit` each begins with epoch 0, so view 0, unless it is
    given an `initial_epoch`. `fit` shuffles the batches once more unless it is
    given `shuffle=False`.

    Args:
        cache, x, y, sample_weight, batch_size, seed, sample_index, kwargs: as
            in `TeacherCache.join`.

    Raises:
        ValueError: arrays of different lengths; `y` beside `Views`; the data
            is not the one that the cache was written about.

    Example:
    >>> import tempfile, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, folder = np.ones((8, 4)), tempfile.mkdtemp()
    >>> kd.cache.write(teacher, x, folder, verbose=0)
    >>> len(JoinedArrays(kd.cache.open(folder), x, batch_size=3))
    3
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
        of_views = isinstance(x, Views)
        self.samples = x.samples if of_views else count_of(x)
        if sample_index is None:
            sample_index = np.arange(self.samples)
        self.sample_index = to_numpy(sample_index)
        self._check(of_views)
        self.set_epoch(0)

    def _check(self, of_views):
        x, y, sample_weight = self.data
        lengths = {
            name: [len(leaf) for leaf in keras.tree.flatten(value)]
            for name, value in (("y", y), ("sample_weight", sample_weight))
            if value is not None
        }
        lengths["sample_index"] = [len(self.sample_index)]
        if of_views:
            self._check_views(x, lengths)
        elif any(n != self.samples for each in lengths.values() for n in each):
            raise ValueError(
                f"All arrays must have one row a sample. Received: x of "
                f"{self.samples} rows, and {lengths}."
            )
        elif self.cache.views_per_sample > 1:
            raise ValueError(
                f"The cache {self.cache.name!r} holds answers about views. "
                "Received: arrays, which are none. Join the `cache.Views` "
                "that it was written about."
            )
        else:
            self.cache.check_arrays(x, self.sample_index)

    def _check_views(self, views, lengths):
        if "y" in lengths or "sample_weight" in lengths:
            raise ValueError(
                "`cache.Views` have their labels already, and no weights. "
                f"Received: {sorted(lengths)} beside them. Make the views "
                "with `cache.Views(x, y, ...)`."
            )
        stored = self.cache.manifest.views or {}
        # The function may have been imported under another name.
        for key in ("samples", "count", "seed", "draws"):
            if stored.get(key) != views.settings()[key]:
                raise ValueError(
                    f"The cache {self.cache.name!r} was written about other "
                    f"views. Received: {views.settings()}; in the cache: "
                    f"{stored}. Make the views as they were made then."
                )

    def __len__(self):
        return -(-len(self.sample_index) // self.batch_size)

    def __getitem__(self, number):
        start = number * self.batch_size
        rows = self.order[start : start + self.batch_size]
        x = self.data[0]
        if isinstance(x, Views):
            sample_index = self.sample_index[rows]
            view = self.epoch % x.count
            return self.cache.add_to(x.batch(sample_index, view))
        x, y, sample_weight = rows_at(self.data, rows)
        targets = {} if y is None else {"labels": y}
        targets["sample_index"] = self.sample_index[rows]
        weights = () if sample_weight is None else (sample_weight,)
        return self.cache.add_to((x, targets, *weights))

    def set_epoch(self, epoch, logs=None):
        """Sets which epoch comes next; fits `LambdaCallback`."""
        self.epoch = epoch
        self.order = np.arange(len(self.sample_index))
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, epoch])
            self.order = generator.permutation(self.order)
