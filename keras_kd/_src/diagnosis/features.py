"""Checks of what is tapped: dead, constant, or not finite features."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.backend import all_finite
from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.naming import batches_text

# The range over the samples, as a share of the largest value, below which it
# is rounding.
LEAST_RANGE = 1e-6

TO_BE_FINITE = (
    "Check its weights and its input scaling; a float16 teacher may overflow: "
    "run it in float32 or bfloat16."
)


class FeatureLook(NamedTuple):
    """What one batch shows of a feature; tensors of shape `()`."""

    finite: object
    largest: object  # Absolute value.
    range: object  # The largest range that a value has over the samples.


def where_not_finite(batches, taps):
    """What `fit` and the diagnosis say of values that are not finite."""
    return f"NaN or infinity in {batches_text(batches)}, at {taps}"


def look_at(feature):
    """What one batch shows of a tap, whatever its structure is."""
    looks = [_look(each) for each in keras.tree.flatten(feature)]
    return FeatureLook(
        ops.min(ops.stack([each.finite for each in looks])),
        ops.max(ops.stack([each.largest for each in looks])),
        ops.max(ops.stack([each.range for each in looks])),
    )


def _look(feature):
    feature = ops.stop_gradient(ops.cast(feature, "float32"))
    over_samples = ops.max(feature, axis=0) - ops.min(feature, axis=0)
    return FeatureLook(
        ops.cast(all_finite(feature), "float32"),
        ops.max(ops.abs(feature)),
        ops.max(over_samples),
    )


def judge_feature(side, text, looks, samples):
    """What is to be said of a tap.

    Args:
        side: `"teacher"` or `"student"`.
        text: of the tap.
        looks: list of `FeatureLook` as numbers, one a batch.
        samples: how many samples a batch has.
    """
    finite, largest, ranges = map(np.array, zip(*looks))
    check = f"features of the {side}, {text or 'output'}"
    figures = {"largest": float(largest.max()), "range": float(ranges.max())}
    where = f"{text or 'output'!r} of the {side}"
    if not finite.all():
        return Finding(
            check,
            "wrong",
            f"{where_not_finite(int((finite == 0).sum()), where)}.",
            TO_BE_FINITE.replace("teacher", side),
            figures,
        )
    if figures["largest"] == 0.0:
        return Finding(
            check,
            "wrong",
            f"All features at {where} are 0.",
            "They are dead: an activation that nothing passes, or weights of "
            "0. Tap another layer, or the layer before its activation.",
            figures,
        )
    if samples > 1 and figures["range"] <= LEAST_RANGE * figures["largest"]:
        return Finding(
            check,
            "wrong",
            f"The features at {where} are the same for all samples (up to "
            f"{figures['largest']:.3g}).",
            "They tell nothing of the input: check that the layer depends on "
            "it, and that the inputs differ.",
            figures,
        )
    return Finding(
        check,
        "fine",
        f"Up to {figures['largest']:.3g}; over the samples they differ by up "
        f"to {figures['range']:.3g}.",
        figures=figures,
    )
