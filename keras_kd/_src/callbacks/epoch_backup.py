"""EpochBackup: resumes a run of `fit` that was killed, with equal results."""

import contextlib
import pathlib
import time

import keras

from keras_kd._src import keras_compat
from keras_kd._src.backend import process_number
from keras_kd._src.callbacks import callback_state
from keras_kd._src.callbacks import encoding
from keras_kd._src.callbacks import model_state
from keras_kd._src.callbacks import random_state
from keras_kd._src.callbacks import state_file
from keras_kd._src.callbacks.callback_group import CallbackGroup
from keras_kd._src.distribution.processes import is_writer
from keras_kd._src.distribution.processes import together
from keras_kd._src.folder_lock import FolderLock


class EpochBackup(CallbackGroup):
    """Backs up a run of `fit` after each epoch; it may be killed at any moment.

    For any Keras model. Run the same program again, and it continues after the
    last finished epoch:

        backup = keras_kd.callbacks.EpochBackup(
            "runs/first/backup", [early_stopping, reduce_rate]
        )
        model.fit(x, y, epochs=30, callbacks=[backup])

    Weights, optimizer, history and metrics are then bit for bit those of a run
    that was not killed, provided that the program is deterministic: set
    `keras.utils.set_random_seed`, and on a GPU, or where TensorFlow uses
    several threads, the backend's settings for determinism. The backup holds

    - all variables of the model and its optimizers, what its layers save in a
      `save_own_variables` of their own, and the states of random layers; for a
      `Distiller`'s teacher the fingerprint, unless it follows the student;
    - the state of the callbacks given here: `EarlyStopping` with its best
      weights, `ReduceLROnPlateau`, `ModelCheckpoint`, and of others all
      attributes that are numbers, texts, arrays, variables, random generators,
      or lists, tuples and dicts of these;
    - the logs of all epochs, which become the history that `fit` returns;
    - the states of the random generators of Python, NumPy, Keras and PyTorch,
      and of `generators`: they draw the order of arrays (`shuffle=True`), of a
      `PyDataset` and of a `DataLoader`.

    It calls the other callbacks itself, so that it comes last in each epoch.
    Callbacks that are given to `fit` beside it are not restored.

    It can't know the position of an iterator over the data, unless that is
    created again from random generators in each epoch. These need care:

    - a `tf.data.Dataset` that shuffles: let it read the epoch, which a
      `LambdaCallback` assigns, `on_epoch_begin=lambda number, logs:
      epoch.assign(number)`:

          epoch = tf.Variable(0, dtype="int64")
          data = tf.data.Dataset.range(1).flat_map(
              lambda _: samples.shuffle(
                  1000, seed=epoch, reshuffle_each_iteration=False
              )
          )
          count = tf.data.experimental.assert_cardinality(len(samples))
          data = data.apply(count).batch(32)

    - `steps_per_epoch`: in the next epoch Keras continues with the rest of the
      data, but a resumed run starts at its beginning;
    - Python generators: start them at `backup.initial_epoch`;
    - workers: a `PyDataset` with several workers that Keras shuffles, or a
      `DataLoader` with `persistent_workers`;
    - TensorFlow's `tf.random` operations without a generator.

    Keras' `BackupAndRestore` overwrites the last good file, and then writes the
    epoch's number into a second one: if a run is killed in between, it repeats
    an epoch or can't be resumed. Here each epoch is one new file, which gets
    its name when it is complete; then the previous one is removed. If saving
    fails, for example on a full disk, the previous one remains.

    Args:
        folder: path of a folder for this run alone. It is created if it is
            missing, and locked while `fit` runs. Remove it to start a new run.
        callbacks: list of the other callbacks of the run.
        generators: list of your own random generators that draw the data, such
            as a `DataLoader`'s: `random.Random`, `numpy.random.Generator`,
            `torch.Generator`, `tf.random.Generator`,
            `keras.random.SeedGenerator`.

    Raises:
        ValueError: an argument is of the wrong kind. In `fit`: the backup is
            of another model, optimizer or backend; its file is damaged;
            another process uses the folder; the model is not built.

    Example:
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.ones((8, 2))
    >>> def train(epochs):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    ...     model.compile("sgd", "mse")
    ...     backup = EpochBackup(folder)
    ...     start = backup.initial_epoch
    ...     history = model.fit(
    ...         x, y, epochs=epochs, verbose=0, callbacks=[backup]
    ...     )
    ...     return start, len(history.history["loss"])
    >>> train(epochs=2)
    (0, 2)
    >>> train(epochs=3)
    (2, 3)
    """

    def __init__(self, folder, callbacks=(), *, generators=()):
        super().__init__(callbacks)
        _check_callbacks(self.callbacks)
        self.folder = pathlib.Path(folder)
        self.generators = random_state.checked(generators)
        self._folder_lock = FolderLock(self.folder)
        self._epochs = []

    @property
    def initial_epoch(self):
        """The epoch to continue with, counted from 0; 0 in a new run."""
        return max(self._files(), default=0)

    @property
    def history(self):
        """The logs of all epochs, also of those before an interruption.

        Returns:
            Dict, key -> list of one value for each epoch; None where an epoch
            did not log it.
        """
        keys = {key: None for epoch in self._epochs for key in epoch["logs"]}
        return {
            key: [epoch["logs"].get(key) for epoch in self._epochs]
            for key in keys
        }

    @property
    def seconds(self):
        """Seconds that all epochs took, also those before an interruption."""
        return sum(epoch["seconds"] for epoch in self._epochs)

    def on_train_begin(self, logs=None):
        _check_built(self.model)
        self._writes = is_writer() and process_number() == 0
        if self._writes:
            self._folder_lock.take()
        super().on_train_begin(logs)
        self._epochs, self._resumed = [], False
        self._callbacks_before = callback_state.checksums(self.callbacks)
        self._configs_before = model_state.configs(self.model)
        finished, processes = self.initial_epoch, together()
        if processes is not None:
            finished = processes.from_first(finished)
        # Only now, as the preparations of `fit` draw random numbers, too.
        if finished:
            file = state_file.StateFile(self._file(finished))
            with contextlib.closing(file):
                self._restore(file)

    def on_epoch_begin(self, epoch, logs=None):
        self._restore_history()
        super().on_epoch_begin(epoch, logs)
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._epochs.append(
            {
                "epoch": epoch,
                "seconds": time.perf_counter() - self._began,
                "logs": {k: float(v) for k, v in (logs or {}).items()},
            }
        )
        if self._writes:
            self._save(epoch + 1)

    def on_train_end(self, logs=None):
        self._restore_history()
        super().on_train_end(logs)
        self._folder_lock.release()

    def _save(self, finished):
        """Writes the run's state, then removes the earlier file."""
        own_states = model_state.own_states(self.model)
        all_generators = random_state.global_generators()
        state = {
            "finished": finished,
            "stopped": bool(self.model.stop_training),
            "epochs": self._epochs,
            "description": model_state.description(self.model),
            "configs_before": self._configs_before,
            "configs": model_state.configs(self.model),
            "callbacks": callback_state.states_of(
                self.callbacks, self._callbacks_before
            ),
            "random": random_state.states_of(all_generators),
            "generators": random_state.states_of(self.generators),
            "own_states": encoding.encode(own_states),
        }
        older = self._files().values()
        state_file.write(
            self._file(finished),
            state,
            _variables_of(self.model),
        )
        for path in older:
            path.unlink()

    def _restore(self, file):
        """Restores a run to the end of its last finished epoch."""
        state, model = file.state, self.model
        self._check_same(state)
        own = encoding.decode(state["own_states"], file.numbered)
        # This comes first, as it refuses another teacher.
        model_state.set_own_states(model, own)
        for number, variable in enumerate(model_state.variables(model)):
            dtype = keras.backend.standardize_dtype(variable.dtype)
            variable.assign(file.array(f"variable_{number}", dtype))
        callback_state.set_states(
            self.callbacks, state["callbacks"], file.numbered
        )
        random_state.set_states(
            self.generators, state["generators"], file.numbered
        )
        random_state.set_states(
            random_state.global_generators(), state["random"], file.numbered
        )
        self._epochs, self._resumed = state["epochs"], True
        self._configs_before = state["configs_before"]
        begin, epochs = state["finished"], self.params["epochs"]
        if state["stopped"]:
            begin = max(begin, epochs)
        if begin >= epochs and self.params.get("verbose"):
            print(
                f"The run in {str(self.folder)!r} is finished: "
                f"{state['finished']} epochs, and `fit` has no more to train."
            )
        keras_compat.begin_with_epoch(model, begin)

    def _check_same(self, state):
        """Raises if the backup is of another model or optimizer."""
        model = self.model
        for optimizer in model_state.optimizers(model).values():
            if optimizer is model.optimizer and not optimizer.built:
                optimizer.build(model.trainable_variables)
        lines = model_state.differences(
            state["description"], model_state.description(model)
        ) + model_state.config_differences(
            state["configs_before"], state["configs"], self._configs_before
        )
        if lines:
            text = "\n".join(f"- {line}" for line in lines)
            raise ValueError(
                f"The backup in {str(self.folder)!r} is of another run. "
                f"Received: what differs.\n{text}\nRestore the earlier values, "
                "or give this run a folder of its own."
            )

    def _restore_history(self):
        """Adds the earlier epochs to Keras' history, once in a run."""
        if not self._resumed:
            return
        self._resumed = False
        keras_compat.begin_with_epoch(self.model, None)
        history = getattr(self.model, "history", None)
        if history is not None:
            history.epoch = [epoch["epoch"] for epoch in self._epochs]
            history.history = {
                key: [value for value in values if value is not None]
                for key, values in self.history.items()
            }

    def _file(self, finished):
        return self.folder / f"epoch_{finished}.npz"

    def _files(self):
        """Dict, number of finished epochs -> file."""
        return {
            int(path.stem.removeprefix("epoch_")): path
            for path in self.folder.glob("epoch_*.npz")
        }


def _check_callbacks(callbacks):
    for each in callbacks:
        if isinstance(each, (keras.callbacks.BackupAndRestore, EpochBackup)):
            raise ValueError(
                "A run has one backup. Received: a "
                f"{type(each).__name__} among the callbacks of an EpochBackup, "
                "which does the same. Leave it out."
            )


def _check_built(model):
    if not model.built:
        raise ValueError(
            "A model to back up must have its variables when `fit` begins. "
            f"Received: {model.name!r}, which is not built. Call it on a batch "
            "first, or `model.build(...)`."
        )


def _variables_of(model):
    return [
        (
            f"variable_{number}",
            lambda each=each: keras.ops.convert_to_numpy(each),
        )
        for number, each in enumerate(model_state.variables(model))
    ]
