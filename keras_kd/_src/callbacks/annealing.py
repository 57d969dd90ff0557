"""Annealing: a temperature or a weight that changes from epoch to epoch."""

import keras

from keras_kd._src.arguments import number
from keras_kd._src.schedules import Annealing


class _EpochAnnealing(keras.callbacks.Callback):
    """Sets hyperparameters of a `Distiller` as each epoch begins."""

    def __init__(self, start, end, *, epochs, curve, transfer):
        super().__init__()
        # Of the epochs 0 to epochs - 1, the last has the end value.
        steps = max(epochs - 1, 1)
        self.annealing = Annealing(start, end, steps=steps, curve=curve)
        self.transfer = transfer

    def on_train_begin(self, logs=None):
        known = self.model.hyperparameters()
        self._annealed = [known[key] for key in known if self.matches(key)]
        if not self._annealed:
            raise ValueError(
                f"{type(self).__name__} found nothing to anneal. Received: "
                f"transfer={self.transfer!r}; this distiller has "
                f"{sorted(known)}."
            )
        for hyperparameter in self._annealed:
            hyperparameter.moves = True

    def on_epoch_begin(self, epoch, logs=None):
        value = float(self.annealing(epoch))
        for hyperparameter in self._annealed:
            hyperparameter.assign(value)

    def matches(self, key):
        """Whether to set the hyperparameter that has this key in the logs."""
        raise NotImplementedError


class TemperatureAnnealing(_EpochAnnealing):
    """Annealing KD: changes the temperature of soft targets in each epoch.

    A high temperature at first shows the student how classes relate; a low one
    at the end lets it fit the teacher's predictions closely. The compiled step
    is not compiled again. The value is logged as `<transfer>_temperature`, and
    a resumed run continues with it. To change the temperature in each training
    step, give the loss a schedule:
    `SoftTargets(temperature=keras_kd.schedules.Annealing(...))`.

        value at epoch e = curve(e / (epochs - 1), start, end), then `end`

    Args:
        start: temperature in the first epoch, positive.
        end: temperature in the last of the `epochs` and after, positive.
        epochs: integer, over how many epochs the temperature changes.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)`, progress from 0 to 1.
        transfer: name of the transfer to anneal; by default all that have a
            temperature.

    Raises:
        ValueError: an argument is out of range; when `fit` begins, the
            distiller has no such transfer.

    Example:
    >>> import keras_kd as kd
    >>> annealing = kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=10)
    >>> # distiller.fit(x, y, epochs=20, callbacks=[annealing])

    Reference: Jafari et al., 2021, "Annealing Knowledge Distillation",
    arXiv 2104.07163, which anneals from a high temperature to 1.
    """

    def __init__(self, start, end, *, epochs, curve="linear", transfer=None):
        number(start, "start", above=0)
        number(end, "end", above=0)
        super().__init__(
            start, end, epochs=epochs, curve=curve, transfer=transfer
        )

    def matches(self, key):
        name, _, hyperparameter = key.rpartition("_")
        return hyperparameter == "temperature" and (
            self.transfer in (None, name)
        )


class WeightAnnealing(_EpochAnnealing):
    """Teacher annealing: changes the weight of one loss term in each epoch.

    Use it to warm up a term (from 0), to fade out the teacher (to 0), or to
    bring in the labels late. The compiled step is not compiled again. The value
    is logged as `<transfer>_weight` or `hard_weight`, and a resumed run
    continues with it. To change a weight in each training step, give the
    transfer a schedule, `Transfer(..., weight=
    keras_kd.schedules.Annealing(...))`, or the distiller's `hard_weight`.

        value at epoch e = curve(e / (epochs - 1), start, end), then `end`

    Args:
        start: weight in the first epoch, non-negative.
        end: weight in the last of the `epochs` and after, non-negative.
        transfer: name of the transfer, or `"hard"` for the compiled loss.
        epochs: integer, over how many epochs the weight changes.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)`, progress from 0 to 1.

    Raises:
        ValueError: an argument is out of range; when `fit` begins, the
            distiller has no such transfer.

    Example:
    >>> import keras_kd as kd
    >>> fade = kd.callbacks.WeightAnnealing(
    ...     0.9, 0.0, transfer="soft_targets", epochs=10
    ... )
    >>> # distiller.fit(x, y, epochs=20, callbacks=[fade])

    Reference: Clark et al., 2019, "BAM! Born-Again Multi-Task Networks",
    arXiv 1907.04829 (teacher annealing).
    """

    def __init__(self, start, end, *, transfer, epochs, curve="linear"):
        number(start, "start", least=0)
        number(end, "end", least=0)
        super().__init__(
            start, end, epochs=epochs, curve=curve, transfer=transfer
        )

    def matches(self, key):
        return key == f"{self.transfer}_weight"
