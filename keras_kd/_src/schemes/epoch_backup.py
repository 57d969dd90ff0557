"""Keeps the training state of the last epoch, so that a run can go on."""

import json
import shutil
import time

import keras

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.atomic_write import write_json


class EpochBackup(keras.callbacks.Callback):
    """Backs a stage up after each epoch, with its logs and its seconds.

    What Keras' `BackupAndRestore` keeps, but safe from a kill at any moment:
    Keras writes over the last good file, and then the number of the epoch
    into a second one. Here the number is part of the name of the new file,
    which is moved to its place when it is complete.

    `fit` must be told `initial_epoch=backup.done`. The callback goes last of
    all: what the others do at the end of an epoch, such as lowering the
    learning rate, is then in the file.

    Args:
        folder: a `pathlib.Path`, of this stage alone.

    Example:
    >>> import pathlib, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model.compile("sgd", "mse")
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.ones((8, 2))
    >>> backup = EpochBackup(folder)
    >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[backup])
    >>> backup = EpochBackup(folder)
    >>> backup.done
    2
    >>> _ = model.fit(
    ...     x,
    ...     y,
    ...     epochs=3,
    ...     initial_epoch=backup.done,
    ...     verbose=0,
    ...     callbacks=[backup],
    ... )
    >>> len(backup.history["loss"])
    3
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.epochs = []

    @property
    def seconds(self):
        """How long the epochs took, over all interruptions."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def history(self):
        """Dict, key of the logs -> one value an epoch (None for none)."""
        keys = {key: None for epoch in self.epochs for key in epoch["logs"]}
        return {
            key: [epoch["logs"].get(key) for epoch in self.epochs]
            for key in keys
        }

    @property
    def done(self):
        """How many epochs the newest state has behind it."""
        return max(self._files(), default=0)

    def delete(self):
        """Removes the folder, when all that is wanted is in another place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def on_train_begin(self, logs=None):
        # Not before `fit`, whose preparations draw random numbers, too.
        if not self.done:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(self._files()[self.done])
        # The logs are written first: there may be those of an epoch more.
        epochs = json.loads((self.folder / "epochs.json").read_text())
        self.epochs = epochs[: self.done]

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {key: float(value) for key, value in (logs or {}).items()}
        seconds = time.perf_counter() - self._began
        self.epochs.append({"seconds": seconds, "logs": logs})
        write_json(self.folder / "epochs.json", self.epochs)
        older = self._files().values()
        newest = self.folder / f"epoch_{epoch + 1}.weights.h5"
        atomic_write(newest, self.model.save_weights)
        for path in older:
            path.unlink()

    def _files(self):
        """Dict, number of epochs -> file."""
        return {
            int(path.name.removeprefix("epoch_").split(".")[0]): path
            for path in self.folder.glob("epoch_*.weights.h5")
        }
