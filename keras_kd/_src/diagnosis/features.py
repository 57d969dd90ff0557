"""Checks of the tapped features: all 0, constant, or not finite."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.backend import all_finite
from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.naming import batches_text

# A smaller range over the samples, as a share of the largest value, is taken
# for rounding.
LEAST_RANGE = 1e-6

TO_BE_FINITE = (
    "Check its weights and its input scaling; a float16 teacher may overflow: "
    "run it in float32 or bfloat16."
)


class FeatureSummary(NamedTuple):
    """A feature of one batch in three numbers; tensors of shape `()`."""

    finite: object  # 1 or 0.
    largest: object  # The largest absolute value.
    range: object  # The largest range of a value over the samples.


def where_not_finite(batches, taps):
    """Text about values that are not finite, for `fit` and the diagnosis."""
    return f"NaN or infinity in {batches_text(batches)}, at {taps}"


def summary_of(feature):
    """The `FeatureSummary` of a tap's value, a tensor or a structure."""
    parts = [_summary(each) for each in keras.tree.flatten(feature)]
    return FeatureSummary(
        ops.min(ops.stack([each.finite for each in parts])),
        ops.max(ops.stack([each.largest for each in parts])),
        ops.max(ops.stack([each.range for each in parts])),
    )


def _summary(feature):
    feature = ops.stop_gradient(ops.cast(feature, "float32"))
    over_samples = ops.max(feature, axis=0) - ops.min(feature, axis=0)
    return FeatureSummary(
        ops.cast(all_finite(feature), "float32"),
        ops.max(ops.abs(feature)),
        ops.max(over_samples),
    )


def judge_feature(side, text, summaries, samples):
    """The finding about the features at a tap.

    Args:
        side: `"teacher"` or `"student"`.
        text: the tap's text.
        summaries: list of `FeatureSummary` as numbers, one per batch.
        samples: the number of samples in a batch.
    """
    finite, largest, ranges = map(np.array, zip(*summaries))
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
            "Either all inputs of an activation such as ReLU are negative, or "
            "the weights are 0. Tap another layer, or the layer before its "
            "activation.",
            figures,
        )
    if samples > 1 and figures["range"] <= LEAST_RANGE * figures["largest"]:
        return Finding(
            check,
            "wrong",
            f"The features at {where} are the same for all samples (up to "
            f"{figures['largest']:.3g}).",
            "They hold no information about the input: check that the layer "
            "depends on it, and that the inputs differ.",
            figures,
        )
    return Finding(
        check,
        "fine",
        f"Up to {figures['largest']:.3g}; over the samples they differ by up "
        f"to {figures['range']:.3g}.",
        figures=figures,
    )
