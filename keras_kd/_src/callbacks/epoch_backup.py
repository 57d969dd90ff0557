"""EpochBackup: a run of `fit` that was killed goes on, and ends the same."""

import json
import pathlib
import time

import keras
import numpy as np

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.atomic_write import write_json


class EpochBackup(keras.callbacks.Callback):
    """Backs a run up after each epoch, so that it can be killed at any moment.

    Run the same program again, and it goes on after the last epoch that was
    finished:

        backup = keras_kd.callbacks.EpochBackup("runs/first/backup")
        distiller.fit(
            x,
            y,
            epochs=30,
            initial_epoch=backup.initial_epoch,
            callbacks=[*other_callbacks, backup],
        )

    A distiller over the same data ends up bit for bit as if nothing had
    happened (as far as the backend's own arithmetic repeats itself): student,
    adapters, optimizer, schedules and random states are in the backup, NumPy's
    too, by which JAX shuffles arrays. With a plain Keras model, random states
    other than NumPy's begin anew. So do, for all models, the counts that
    callbacks keep, such as the patience of `EarlyStopping`.

    Keras' `BackupAndRestore` writes over the last good file, and then the
    number of the epoch into a second one: killed in between, a run repeats an
    epoch or can't be resumed. Here the number is part of the name of a new
    file, which gets that name when it is complete.

    Give the callback last of all: what the others do at the end of an epoch,
    such as lowering the learning rate, is then in the backup.

    Args:
        folder: path of a folder for this run alone; it is made where it is
            missing. Remove it to begin a new run.

    Raises:
        ValueError: `fit` begins with another epoch than the backup is of.

    Example:
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.ones((8, 2))
    >>> def train(epochs):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    ...     model.compile("sgd", "mse")
    ...     backup = EpochBackup(folder)
    ...     start = backup.initial_epoch
    ...     _ = model.fit(
    ...         x,
    ...         y,
    ...         epochs=epochs,
    ...         initial_epoch=start,
    ...         verbose=0,
    ...         callbacks=[backup],
    ...     )
    ...     return start, len(backup.history["loss"])
    >>> train(epochs=2)
    (0, 2)
    >>> train(epochs=3)
    (2, 3)
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self._epochs = []

    @property
    def initial_epoch(self):
        """The epoch to go on with, counted from 0: how many are finished."""
        return max(self._files(), default=0)

    @property
    def history(self):
        """The logs of all epochs, also of those before an interruption.

        Returns:
            Dict, key -> list of one value an epoch; None where an epoch did
            not log it.
        """
        keys = {key: None for epoch in self._epochs for key in epoch["logs"]}
        return {
            key: [epoch["logs"].get(key) for epoch in self._epochs]
            for key in keys
        }

    @property
    def seconds(self):
        """How long all epochs took, also those before an interruption."""
        return sum(epoch["seconds"] for epoch in self._epochs)

    def on_train_begin(self, logs=None):
        # Not before `fit`, whose preparations draw random numbers, too.
        newest = self.initial_epoch
        if not newest:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(self._files()[newest])
        # The logs are written first: there may be those of an epoch more.
        epochs = json.loads((self.folder / "epochs.json").read_text())
        self._epochs = [each for each in epochs if each["epoch"] < newest]
        name, keys, *rest = self._epochs[-1]["numpy_random_state"]
        np.random.set_state((name, np.array(keys, "uint32"), *rest))

    def on_epoch_begin(self, epoch, logs=None):
        if self._files() and epoch != self.initial_epoch:
            raise ValueError(
                f"The backup in {str(self.folder)!r} goes on with epoch "
                f"{self.initial_epoch}. Received: a `fit` that begins with "
                f"epoch {epoch}. Pass `initial_epoch=backup.initial_epoch` to "
                "`fit`, or remove the folder to begin a new run."
            )
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {key: float(value) for key, value in (logs or {}).items()}
        self._epochs.append(
            {
                "epoch": epoch,
                "seconds": time.perf_counter() - self._began,
                "logs": logs,
                "numpy_random_state": _numpy_random_state(),
            }
        )
        # That of the epoch before is needed until the weights are written.
        for earlier in self._epochs[:-2]:
            earlier.pop("numpy_random_state", None)
        write_json(self.folder / "epochs.json", self._epochs)
        older = self._files().values()
        newest = self.folder / f"epoch_{epoch + 1}.weights.h5"
        atomic_write(newest, self.model.save_weights)
        for path in older:
            path.unlink()

    def _files(self):
        """Dict, number of finished epochs -> file."""
        return {
            int(path.name.removeprefix("epoch_").split(".")[0]): path
            for path in self.folder.glob("epoch_*.weights.h5")
        }


def _numpy_random_state():
    """The state of NumPy's global generator, for JSON."""
    name, keys, *rest = np.random.get_state()
    return [name, keys.tolist(), *rest]
