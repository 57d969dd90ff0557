"""Monitor: the checks and logs of `fit` between its steps."""

import keras

from keras_kd._src.diagnosis.setup import texts_of_student
from keras_kd._src.distillation import checks
from keras_kd._src.distribution import runs
from keras_kd._src.mapped_dataset import epoch_logs


class Monitor(keras.callbacks.Callback):
    """Reads what the steps counted; logs the hyperparameters that change.

    The `Distiller` adds it to each `fit`. It reads the counts after the first
    batch and after each epoch, not after each batch: on JAX each reading copies
    the whole training state back to the model.

    Data with a `set_epoch` gets the number of the epoch, so that a resumed run
    has the same order and the same augmented views as one that was not
    interrupted. Where `steps_per_epoch` is less than all of the data, Keras
    continues in the next epoch with the rest, so that one epoch of the data
    takes several of `fit`. What the data logs for an epoch (`epoch_logs`) is
    added to the logs.
    """

    def __init__(self, data=None, steps_per_epoch=None):
        super().__init__()
        self.data, self.steps_per_epoch = data, steps_per_epoch

    def on_train_begin(self, logs=None):
        self._first_batch_seen = False
        if self.model.check_probabilities:
            checks.warn_of(texts_of_student(self.model, self.data))

    def on_epoch_begin(self, epoch, logs=None):
        runs.begin_epoch(epoch)
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch // self._epochs_of_all_data())
        self.model.reset_inspections()

    def _epochs_of_all_data(self):
        batches = getattr(self.data, "num_batches", None)
        # With several workers, each epoch starts at the first batch.
        restarts = getattr(self.data, "workers", 1) > 1
        if restarts or not (self.steps_per_epoch and batches):
            return 1
        at_once = self.model.steps_per_execution
        steps = -(-self.steps_per_epoch // at_once) * at_once
        return -(-batches // steps)

    def on_train_batch_begin(self, batch, logs=None):
        if batch > 0 and not self._first_batch_seen:
            self._check_first_batch()

    def on_epoch_end(self, epoch, logs=None):
        runs.end_epoch()
        if not self._first_batch_seen:
            self._check_first_batch()
        self.model.check_finite()
        self.model.end_first_epoch(logs or {})
        # So that a backup holds the same variables in a resumed run.
        self.model.reset_inspections()
        if logs is None:
            return
        logs.update(runs.common_logs(logs))
        logs.update(epoch_logs(self.data))
        for key, hyperparameter in self.model.hyperparameters().items():
            if hyperparameter.moves:
                logs[key] = hyperparameter.number

    def _check_first_batch(self):
        self._first_batch_seen = True
        self.model.check_finite()
        self.model.end_first_batch()
