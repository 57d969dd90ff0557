"""WeightAnnealing: lets the weight of a term move while training."""

from keras_kd._src.callbacks.annealing import AnnealingCallback


class WeightAnnealing(AnnealingCallback):
    """Moves the weight of one transfer, or of the hard loss.

    To warm a term up (from 0), to fade the teacher out (to 0), or to bring
    the labels in late. It takes effect in compiled steps without compiling
    again, is logged as `<transfer>_weight` or `hard_weight`, and goes on
    where it was in a resumed run.

        value at epoch e = curve(e / (epochs - 1), start, end), then `end`

    Args:
        start: weight in the first epoch, non-negative.
        end: weight in the last of the `epochs` and after, non-negative.
        transfer: name of the transfer, or `"hard"` for the compiled loss.
        epochs: over how many epochs it moves.
        curve: `"linear"`, `"cosine"`, `"exponential"`, or a function
            `(progress, start, end)`, progress from 0 to 1.
        per: `"epoch"`, or `"step"` to move it in each training step; a curve
            of your own must then be written with `keras.ops`.

    Raises:
        ValueError: an argument is out of its range; the distiller has no such
            transfer (when `fit` begins).

    Example:
    >>> import keras_kd as kd
    >>> fade = kd.callbacks.WeightAnnealing(
    ...     0.9, 0.0, transfer="soft_targets", epochs=10
    ... )
    >>> # distiller.fit(x, y, epochs=20, callbacks=[fade])

    Reference: Clark et al., 2019, "BAM! Born-Again Multi-Task Networks",
    arXiv 1907.04829 (teacher annealing).
    """

    hyperparameter = "weight"

    def __init__(
        self, start, end, *, transfer, epochs, curve="linear", per="epoch"
    ):
        for name, value in (("start", start), ("end", end)):
            if not value >= 0:
                raise ValueError(
                    f"Argument `{name}` must be a non-negative weight. "
                    f"Received: {name}={value!r}."
                )
        super().__init__(
            start, end, epochs=epochs, curve=curve, per=per, transfer=transfer
        )

    def wants(self, key, hyperparameter):
        return key == f"{self.transfer}_weight"
