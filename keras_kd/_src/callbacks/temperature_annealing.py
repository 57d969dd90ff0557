"""TemperatureAnnealing: lets the temperature move while training."""

from keras_kd._src.callbacks.annealing import AnnealingCallback


class TemperatureAnnealing(AnnealingCallback):
    """Moves the temperature of soft targets from `start` to `end`.

    A high temperature at first shows the student how the classes relate; a
    low one at the end lets it fit the teacher's answers. It takes effect in
    compiled steps without compiling again, is logged as
    `<transfer>_temperature`, and goes on where it was in a resumed run.

        value at epoch e = curve(e / (epochs - 1), start, end), then `end`

    Args:
        start: temperature in the first epoch, positive.
        end: temperature in the last of the `epochs` and after, positive.
        epochs: over how many epochs it moves.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)`, progress from 0 to 1.
        per: `"epoch"`, or `"step"` to move it in each training step; a curve
            of your own must then be written with `keras.ops`.
        transfer: name of the transfer to move; all that have a temperature by
            default.

    Raises:
        ValueError: an argument is out of its range; the distiller has no such
            transfer (when `fit` begins).

    Example:
    >>> import keras_kd as kd
    >>> annealing = kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=10)
    >>> # distiller.fit(x, y, epochs=20, callbacks=[annealing])

    Reference: Jafari et al., 2021, "Annealing Knowledge Distillation",
    arXiv 2104.07163 (which anneals from high to 1).
    """

    hyperparameter = "temperature"

    def __init__(
        self, start, end, *, epochs, curve="linear", per="epoch", transfer=None
    ):
        for name, value in (("start", start), ("end", end)):
            if not value > 0:
                raise ValueError(
                    f"Argument `{name}` must be a positive temperature. "
                    f"Received: {name}={value!r}."
                )
        super().__init__(
            start, end, epochs=epochs, curve=curve, per=per, transfer=transfer
        )
