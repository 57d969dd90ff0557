"""Arguments that describe the values of a teacher's inputs."""

from keras_kd._src.arguments import received


def checked_range(value_range):
    """A pair of numbers, the first below the second; else a `ValueError`."""
    pair = isinstance(value_range, (tuple, list)) and len(value_range) == 2
    if not pair or not value_range[0] < value_range[1]:
        raise ValueError(
            "Argument `value_range` must be the smallest and the largest value "
            "of the teacher's inputs, such as `(0.0, 1.0)`. "
            f"{received('value_range', value_range)}"
        )
    return tuple(map(float, value_range))


def check_one_stated(value_range, statistics):
    """Raises a `ValueError` unless exactly one of the two is given."""
    if (value_range is None) == (statistics is None):
        raise ValueError(
            "Give either `value_range`, the smallest and largest value of the "
            "teacher's inputs, such as (0.0, 1.0), or `statistics`, their mean "
            "and standard deviation, such as (0.0, 1.0). Received: "
            f"value_range={value_range}, statistics={statistics}."
        )
