"""Compares the inputs with what the teacher shows of its training data.

Five things show it: the moving statistics of the first `BatchNormalization`;
the mean and variance of `Normalization` layers; the scale of a `Rescaling`;
whether the teacher is right more often on inputs of another range; and whether
its outputs are far larger on pixels of 0 to 255 than on the same divided by
255. For a teacher with none of these layers, and data without labels, the
training range can't be known.
"""

import keras
import numpy as np
from keras import ops

from keras_kd._src.data_free.teacher_layers import paths_of
from keras_kd._src.diagnosis.finding import Finding

# Distance of the means in standard deviations; factor between the variances.
LOOK = 1.0, 4.0
WRONG = 10.0, 100.0
AS_THEY_ARE = "as they are"
DIVIDED = "divided by 255"
# Outputs this many times larger than on divided inputs, and above this value,
# suggest a teacher that was trained on small values.
TIMES, LARGE = 50.0, 100.0
# A `Rescaling` with a smaller scale is made for pixels of 0 to 255.
OF_PIXELS = 0.02
REMEDY = (
    "Check the preprocessing: values of 0 to 255, 0 to 1, -1 to 1, or "
    "normalized?"
)


def watched_layers(model):
    """Dict, tap text -> layer, of layers with statistics of the inputs."""
    if not isinstance(model, keras.layers.Layer):
        return {}
    norms = paths_of(model, keras.layers.BatchNormalization)[:1]
    found = {f"{path}:input": layer for path, layer in norms}
    for path, layer in paths_of(model, keras.layers.Normalization):
        found[path] = layer
    return found


def moments_at(layer, features):
    """Mean and mean square of features along a layer's channel axis."""
    features = ops.stop_gradient(ops.cast(features, "float32"))
    axes = list(range(len(features.shape)))
    if isinstance(layer, keras.layers.BatchNormalization):
        del axes[layer.axis]
    return ops.stack(
        [ops.mean(features, axes), ops.mean(ops.square(features), axes)]
    )


def judge_moments(layer, tap, moments):
    """The finding about a layer's inputs compared with its statistics.

    Args:
        layer: a `BatchNormalization` or a `Normalization`.
        tap: the text of the tap.
        moments: results of `moments_at`, averaged over the batches.
    """
    mean, square = np.asarray(moments, "float64")
    variance = np.maximum(square - mean**2, 0.0)
    kept, of = (0.0, 1.0), "its own data, which it brings to mean 0, variance 1"
    epsilon = 1e-6
    if isinstance(layer, keras.layers.BatchNormalization):
        kept = [
            ops.convert_to_numpy(v).astype("float64")
            for v in (layer.moving_mean, layer.moving_variance)
        ]
        of, epsilon = "its moving statistics", layer.epsilon
    deviation = np.sqrt(kept[1] + epsilon)
    shift = float(np.median(np.abs(mean - kept[0]) / deviation))
    ratio = (variance + epsilon) / (kept[1] + epsilon)
    ratio = float(np.exp(np.median(np.log(ratio))))
    severity = _severity(shift, ratio)
    remedy = REMEDY
    if isinstance(layer, keras.layers.BatchNormalization):
        remedy += (
            " Or the teacher was trained for too few steps for its moving "
            "statistics to be right."
        )
    return Finding(
        f"input range, {layer.name}",
        severity,
        f"At {tap!r} of the teacher the data has its mean {shift:.3g} standard "
        f"deviations away from {of}, and {ratio:.3g} times the variance "
        "(medians over the channels).",
        "" if severity == "fine" else remedy,
        {"shift": shift, "variance_ratio": ratio},
    )


def _severity(shift, ratio):
    ratio = max(ratio, 1.0 / ratio)
    if shift > WRONG[0] or ratio > WRONG[1]:
        return "wrong"
    return "look" if shift > LOOK[0] or ratio > LOOK[1] else "fine"


def judge_rescaling(model, low, high):
    """Findings about inputs of 0 to 1 and a `Rescaling` made for 0 to 255.

    Args:
        model: the teacher.
        low: the smallest value of the inputs.
        high: the largest.
    """
    if not isinstance(model, keras.layers.Layer):
        return
    for path, layer in paths_of(model, keras.layers.Rescaling):
        scale = np.max(np.abs(np.asarray(layer.scale, "float64")))
        if scale >= OF_PIXELS:
            continue
        small = max(abs(low), abs(high)) <= 2.0
        yield Finding(
            f"input range, {layer.name}",
            "wrong" if small else "fine",
            f"The teacher's {path!r} multiplies by {scale:.4g}, as for values "
            f"up to {1 / scale:.4g}. Received: inputs of {low:.4g} to "
            f"{high:.4g}.",
            "Give the teacher inputs that are not scaled yet." if small else "",
            {"scale": float(scale), "low": low, "high": high},
        )


def other_ranges(low, high):
    """Dict, name -> function, to ranges that the inputs may need instead."""
    if high > 2.0 and low >= 0.0:
        return {
            DIVIDED: lambda x: x / 255.0,
            "divided by 127.5, minus 1": lambda x: x / 127.5 - 1.0,
        }
    if low >= 0.0 and high <= 1.0:
        return {
            "times 255": lambda x: x * 255.0,
            "times 2, minus 1": lambda x: x * 2.0 - 1.0,
        }
    if low >= -1.0 and high <= 1.0:
        return {
            "brought to 0 to 1": lambda x: (x + 1.0) / 2.0,
            "brought to 0 to 255": lambda x: (x + 1.0) * 127.5,
        }
    return {}


def judge_ranges(low, high, shares, count):
    """Whether the teacher is right more often on inputs of another range.

    Args:
        low: the smallest value of the inputs.
        high: the largest.
        shares: dict, name of a range -> the teacher's accuracy, with
            `AS_THEY_ARE` among the names.
        count: the number of labels.
    """
    figures = {"low": low, "high": high, **shares}
    others = {name: v for name, v in shares.items() if name != AS_THEY_ARE}
    right, best = shares[AS_THEY_ARE], max(others, key=others.get)
    seen = f"Inputs of {low:.4g} to {high:.4g}"
    if others[best] > right + max(0.1, 2.0 * np.sqrt(0.25 / count)):
        return Finding(
            "input range",
            "wrong",
            "The teacher is right more often on inputs of another range. "
            f"Received: inputs of {low:.4g} to {high:.4g}, {100 * right:.1f} % "
            f"right; {100 * others[best]:.1f} % when they are {best}.",
            "Check the preprocessing that it was trained with.",
            figures,
        )
    tried = ", ".join(f"{100 * v:.1f} % {name}" for name, v in others.items())
    return Finding(
        "input range",
        "fine",
        f"{seen}. The teacher has {100 * right:.1f} % right, and not clearly "
        f"more on inputs of another range ({tried}).",
        figures=figures,
    )


def judge_largest(low, high, largest):
    """Findings where outputs on pixels of 0 to 255 are far too large.

    Args:
        low: the smallest value of the inputs.
        high: the largest.
        largest: dict, name of a range -> the largest output.
    """
    if DIVIDED not in largest:
        return
    now, divided = largest[AS_THEY_ARE], largest[DIVIDED]
    if now > LARGE and now > TIMES * divided:
        yield Finding(
            "input range, outputs",
            "look",
            f"The teacher's outputs are up to {now:.4g}, and up to "
            f"{divided:.4g} on inputs {DIVIDED}. Received: inputs of {low:.4g} "
            f"to {high:.4g}.",
            "A softmax of such values is nearly one-hot. Check whether the "
            "teacher was trained on inputs of 0 to 1.",
            {"largest": float(now), "largest_if_divided": float(divided)},
        )


def unknown_range(low, high):
    """The finding where nothing shows the range of the training data."""
    return Finding(
        "input range",
        "fine",
        f"Inputs of {low:.4g} to {high:.4g}. Not judged: the teacher keeps no "
        "statistics of its inputs, and there are too few labels to compare "
        "its accuracy on other ranges.",
        figures={"low": low, "high": high},
    )
