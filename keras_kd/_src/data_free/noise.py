"""noise: random inputs, the baseline of data-free distillation."""

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.data_free.input_values import check_one_stated
from keras_kd._src.specs import known_inputs


def noise(
    teacher_or_shape, samples, *, value_range=None, statistics=None, seed=0
):
    """Random inputs, the baseline of data-free distillation.

    A method that is not better than noise has extracted nothing from the
    teacher. For images, students trained on noise are poor. For tabular data,
    the range of each feature may be all that is needed; or the teacher may
    predict a single class for all noise (`examples/forest_without_data.py`
    shows both), so count the predicted classes first.

        x ~ U[low, high)             with `value_range=(low, high)`
        x ~ N(mean, deviation^2)     with `statistics=(mean, deviation)`

    Args:
        teacher_or_shape: a Keras model with one input whose sizes are known;
            or the shape of a sample without the batch axis, such as
            `(28, 28, 1)`.
        samples: integer, how many samples are drawn.
        value_range: pair of the smallest and the largest value. Each is a
            number, or an array that broadcasts to a sample, such as one of
            shape `(features,)` for tabular data.
        statistics: instead of it, pair of mean and standard deviation, in the
            same form.
        seed: integer, the seed of the random numbers.

    Returns:
        float32 NumPy array of shape `(samples, ...)`.

    Raises:
        ValueError: not exactly one of `value_range` and `statistics` is
            given; it is not a pair, not finite, of another shape, or in the
            wrong order; the shape of a sample is not known.

    Example:
    >>> ages_and_incomes = noise(
    ...     (2,), 100, value_range=([18.0, 0.0], [90.0, 200_000.0])
    ... )
    >>> ages_and_incomes.shape, bool(ages_and_incomes[:, 0].max() < 90.0)
    ((100, 2), True)

    Reference: the baseline of Chen et al., 2019, "Data-Free Learning of
    Student Networks", arXiv 1904.01186, and Fang et al., 2019, "Data-Free
    Adversarial Distillation", arXiv 1912.11006.
    """
    shape = _sample_shape(teacher_or_shape)
    samples = integer(samples, "samples")
    draw = noise_source(shape, value_range, statistics)
    return draw(np.random.default_rng(seed), samples)


def noise_source(shape, value_range, statistics):
    """A function of a NumPy generator and a count that draws samples."""
    check_one_stated(value_range, statistics)
    if value_range is not None:
        low, high = _pair(value_range, "value_range", shape)
        _check_values(low < high, "value_range", value_range, "low < high")
        return lambda random, samples: random.uniform(
            low, high, (samples, *shape)
        ).astype("float32")
    mean, deviation = _pair(statistics, "statistics", shape)
    _check_values(
        deviation > 0, "statistics", statistics, "a deviation above 0"
    )
    return lambda random, samples: random.normal(
        mean, deviation, (samples, *shape)
    ).astype("float32")


def _pair(values, name, shape):
    """Both values as arrays that broadcast to a sample."""
    try:
        first, second = (
            np.broadcast_to(np.asarray(value, "float64"), shape)
            for value in values
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Argument `{name}` must be a pair of numbers, or of arrays that "
            f"broadcast to a sample of shape {shape} ({error}). Received: "
            f"{name}={values!r}."
        ) from error
    finite = np.isfinite(first).all() and np.isfinite(second).all()
    _check_values(finite, name, values, "finite numbers")
    return first, second


def _check_values(fine, name, values, expected):
    if not np.all(fine):
        raise ValueError(
            f"Argument `{name}` must hold {expected}, for each feature. "
            f"Received: {name}={values!r}. If a feature has only one value, "
            "give it any range, and set it in the samples afterwards."
        )


def _sample_shape(teacher_or_shape):
    if not isinstance(teacher_or_shape, keras.Model):
        sizes = np.atleast_1d(np.asarray(teacher_or_shape, dtype=object))
        return tuple(integer(size, "teacher_or_shape") for size in sizes)
    taken = known_inputs(teacher_or_shape)
    inputs = keras.tree.flatten(taken) if taken is not None else []
    if len(inputs) != 1:
        raise ValueError(
            "Random inputs are drawn for a model of one input whose sizes are "
            f"known. Received: the model {teacher_or_shape.name!r}, which "
            f"takes {taken if taken is not None else 'inputs of open sizes'}. "
            "Give the shape of a sample instead."
        )
    return tuple(inputs[0].shape[1:])
