"""What a member's `preprocess` does, in a few numbers."""

import math

import keras
import numpy as np
from keras import ops

SAMPLES = 8
VALUES = 2**22  # Fewer samples are made of large ones.
UNKNOWN_SIZE = 32  # of an axis whose size differs from batch to batch


def probed(prepare, inputs):
    """What a function makes of some fixed random samples, as a short text.

    Of a function that is all there is to tell it by: its name and its code
    differ from one process or version to the next. The same is right for
    layers, whose names and seeds do. Each sample's result is projected on
    random numbers and rounded to three digits, as backends round otherwise.

    Args:
        prepare: takes a tensor of a batch, returns a tensor or several.
        inputs: `KerasTensor` of what it takes.

    Returns:
        Text: the results' shapes, and a number for each sample. Nothing of a
        function of text, or of one that fails, as it may on values that it
        was not made for.

    Example:
    >>> probed(lambda x: 0.0 * x, keras.KerasTensor((None, 4)))[:28]
    '(8, 4) 0.00e+00 0.00e+00 0.0'
    """
    if inputs.dtype == "string":
        return ""
    generator = np.random.default_rng(0)
    samples = ops.cast(_samples(generator, inputs), inputs.dtype)
    try:
        results = keras.tree.flatten(prepare(samples))
    except Exception:  # Of any kind: it is the user's own function.
        return ""
    told = []
    for result in results:
        values = ops.convert_to_numpy(result).astype("float64")
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        # Not `normal`, whose numbers may change with NumPy's version.
        values = values * (generator.random(values.shape) - 0.5)
        sums = values.reshape(len(values), -1).sum(axis=1) + 0.0
        told += [str(values.shape), *(f"{number:.2e}" for number in sums)]
    return " ".join(told)


def _samples(generator, inputs):
    sizes = [size or UNKNOWN_SIZE for size in inputs.shape[1:]]
    count = min(SAMPLES, max(1, VALUES // math.prod(sizes)))
    uniforms = generator.random((count, *sizes)).astype("float32")
    if "float" not in inputs.dtype:
        return 4.0 * uniforms  # small: they may be indices
    # From -1 to 1 first, up to -128 to 128: for thresholds of any range.
    scales = 2.0 ** np.arange(count, dtype="float32")
    return (2.0 * uniforms - 1.0) * scales.reshape(-1, *[1] * len(sizes))
