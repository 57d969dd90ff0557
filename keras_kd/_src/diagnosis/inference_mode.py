"""Checks that the teacher's predictions for a sample are always the same."""

import keras
import numpy as np

from keras_kd._src.diagnosis.finding import Finding

# Differences up to this share of the largest value are rounding.
ROUNDING = 1e-4
# The same for outputs of 16 bits.
ROUNDING_16 = 3e-2


def judge_modes(name, first, again, rearranged):
    """The finding about predictions that should be the same.

    Args:
        name: the teacher's name.
        first: its output for a batch, as arrays.
        again: its output for the same batch, with other random numbers.
        rearranged: its output for the first half of the samples, in a batch
            that holds this half twice; None for a batch of one sample.
    """
    repeated = _difference(first, again)
    figures = {"repeated": repeated}
    if repeated > _tolerance(first):
        return Finding(
            "teacher mode",
            "wrong",
            f"Two predictions of the teacher {name!r} for the same batch "
            f"differ by {100 * repeated:.2g} % of their largest value.",
            "Some layer is random in inference mode, such as a dropout that "
            "is called with `training=True`. Pass the `training` argument of "
            "the teacher's `call` on to its layers, or leave this as it is if "
            "you want an average over dropout masks.",
            figures,
        )
    if rearranged is None:
        return _fine(figures)
    half = len(keras.tree.flatten(rearranged)[0])
    kept = keras.tree.map_structure(lambda each: each[:half], first)
    figures["rearranged"] = moved = _difference(kept, rearranged)
    if moved > _tolerance(first):
        return Finding(
            "teacher mode",
            "wrong",
            f"The teacher {name!r} predicts a sample differently when the "
            f"others in its batch change: by {100 * moved:.2g} % of its "
            "largest value.",
            "A `BatchNormalization` in training mode can cause this: call it "
            "with the `training` argument of the teacher's `call` (its "
            "`trainable` flags make no difference).",
            figures,
        )
    return _fine(figures)


def _fine(figures):
    return Finding(
        "teacher mode",
        "fine",
        "A batch is predicted alike twice, and each sample whatever the "
        "others are: it runs in inference mode.",
        figures=figures,
    )


def _tolerance(output):
    halves = any(each.dtype.itemsize < 4 for each in keras.tree.flatten(output))
    return ROUNDING_16 if halves else ROUNDING


def _difference(first, second):
    """The largest difference, as a share of the largest value."""
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second))
    shares = [0.0]
    for a, b in pairs:
        a, b = (np.asarray(each, "float64") for each in (a, b))
        largest = np.abs(a).max()
        shares.append(np.abs(a - b).max() / largest if largest else 0.0)
    return float(max(shares))
