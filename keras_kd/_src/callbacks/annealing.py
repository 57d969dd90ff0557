"""What the annealing callbacks share."""

import keras

from keras_kd._src.schedules import Annealing


class AnnealingCallback(keras.callbacks.Callback):
    """Moves hyperparameters of a `Distiller` along a curve.

    Per epoch, it sets the value as the epoch begins. Per step, it hands the
    step a schedule before the first one is compiled: setting a value in each
    step would bring JAX' whole training state back to the model each time.

    Args:
        start: value in the first epoch (or step).
        end: value in the last of the `epochs`, and from then on.
        epochs: over how many epochs the value moves; counted from epoch 0.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)`, progress from 0 to 1; of `keras.ops` if
            `per="step"`.
        per: `"epoch"` or `"step"`.
        transfer: name of the transfer.

    Example:
    >>> import keras_kd as kd
    >>> annealing = kd.callbacks.TemperatureAnnealing(8.0, 2.0, epochs=4)
    >>> isinstance(annealing, AnnealingCallback), annealing.epochs
    (True, 4)
    """

    # Names of the hyperparameters that it moves; set by the subclasses.
    hyperparameter = None

    def __init__(
        self, start, end, *, epochs, curve="linear", per="epoch", transfer=None
    ):
        super().__init__()
        if per not in ("epoch", "step"):
            raise ValueError(
                'Argument `per` must be "epoch" or "step". Received: '
                f"per={per!r}."
            )
        # Of the epochs 0 to epochs - 1, the last has the end value.
        self.annealing = Annealing(
            start, end, steps=max(epochs - 1, 1), curve=curve
        )
        self.epochs = epochs
        self.per = per
        self.transfer = transfer

    def on_train_begin(self, logs=None):
        self._targets = self.select(self.model)
        for hyperparameter in self._targets:
            hyperparameter.moves = True
        self._schedule = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.per == "epoch":
            value = float(self.annealing(epoch))
            for hyperparameter in self._targets:
                hyperparameter.assign(value)
        elif self._schedule is None:
            self._schedule = self._per_step(epoch)
            for hyperparameter in self._targets:
                hyperparameter.schedule = self._schedule
            self.model.make_train_function(force=True)

    def on_train_end(self, logs=None):
        if self._schedule is not None:
            for hyperparameter in self._targets:
                hyperparameter.schedule = None
            self.model.train_function = None

    def _per_step(self, epoch):
        # Counted from the step at which epoch 0 began, also in a resumed run.
        steps_per_epoch = self.params.get("steps")
        if not steps_per_epoch:
            raise ValueError(
                f"{type(self).__name__}(per='step') needs to know the number "
                "of steps in an epoch. Received a dataset of unknown length. "
                "Pass `steps_per_epoch` to `fit`, or use `per='epoch'`."
            )
        return Annealing(
            self.annealing.start,
            self.annealing.end,
            steps=max(self.epochs * steps_per_epoch - 1, 1),
            curve=self.annealing.curve,
            offset=self.model.training_step - epoch * steps_per_epoch,
        )

    def select(self, distiller):
        """The hyperparameters of the distiller that this callback moves."""
        wanted = {
            key: hyperparameter
            for key, hyperparameter in distiller.hyperparameters().items()
            if self.wants(key, hyperparameter)
        }
        if not wanted:
            raise ValueError(
                f"{type(self).__name__} found nothing to move. Received: "
                f"transfer={self.transfer!r}; this distiller has "
                f"{sorted(distiller.hyperparameters())}."
            )
        return list(wanted.values())

    def wants(self, key, hyperparameter):
        """Whether to move the hyperparameter that has this key in the logs."""
        if hyperparameter.name != self.hyperparameter:
            return False
        return self.transfer in (
            None,
            key.removesuffix("_" + hyperparameter.name),
        )
