"""Random inputs: their range, their statistics, their shape."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd import data_free

pytestmark = pytest.mark.one_backend


def test_range_of_each_feature():
    low, high = [-1.0, 10.0, 0.0], [1.0, 30.0, 1e-3]
    x = data_free.noise((3,), 4000, value_range=(low, high))
    assert x.shape == (4000, 3) and x.dtype == "float32"
    assert (x >= np.float32(low)).all() and (x <= np.float32(high)).all()
    width = np.subtract(high, low)
    middle = np.add(low, high) / 2
    np.testing.assert_allclose((x.mean(axis=0) - middle) / width, 0, atol=0.02)
    # The deviation of a uniform distribution is its width by root 12.
    np.testing.assert_allclose(x.std(axis=0) / width, 12**-0.5, rtol=0.03)


def test_statistics_of_each_channel():
    mean, deviation = [0.5, -2.0], [1.0, 0.1]
    x = data_free.noise((8, 8, 2), 100, statistics=(mean, deviation))
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), mean, atol=0.05)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), deviation, rtol=0.05)


def test_shape_of_a_model_is_found_and_the_seed_decides():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten()])
    first, again, other = (
        data_free.noise(model, 5, value_range=(0.0, 1.0), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.shape == (5, 4, 4, 1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "value_range=None, statistics=None"),
        ({"value_range": (0.0, 1.0), "statistics": (0, 1)}, "Give either"),
        ({"value_range": (1.0, 0.0)}, "low < high"),
        ({"value_range": ([0.0, 0.0], [1.0, 0.0])}, "low < high"),
        ({"value_range": ([0.0] * 3, 1.0)}, "broadcast to a sample"),
        ({"value_range": 1.0}, "pair of numbers"),
        ({"value_range": (0.0, np.inf)}, "finite"),
        ({"statistics": (0.0, 0.0)}, "a deviation above 0"),
    ],
)
def test_errors_of_values(arguments, told):
    with pytest.raises(ValueError, match=told):
        data_free.noise((2,), 4, **arguments)


def test_error_of_open_sizes():
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(2)])
    with pytest.raises(ValueError, match="inputs of open sizes.*the shape of"):
        data_free.noise(model, 4, value_range=(0.0, 1.0))
