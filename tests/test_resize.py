"""Resizing: averages down as PyTorch does, interpolates up as NumPy does."""

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND
from support import numpy

from keras_kd._src.resize import resize_axis
from keras_kd._src.resize import resize_matrix
from keras_kd.testing import value_and_gradient

DOWN = [(8, 4), (8, 3), (7, 2), (7, 5), (5, 1), (5, 4), (196, 49)]
UP = [(4, 8), (3, 8), (2, 7), (1, 5), (4, 5), (49, 196)]


def signal(length):
    return np.random.default_rng(length).normal(size=(2, length))


@pytest.mark.parametrize("length, size", DOWN)
def test_down_is_adaptive_average_pooling(length, size):
    # The window of new position i: floor(i * length / size) up to
    # ceil((i + 1) * length / size), the end left out.
    windows = [
        range(
            int(np.floor(new * length / size)),
            int(np.ceil((new + 1) * length / size)),
        )
        for new in range(size)
    ]
    old = signal(length)
    expected = [old[:, list(window)].mean(axis=1) for window in windows]
    np.testing.assert_allclose(
        old @ resize_matrix(length, size), np.transpose(expected), atol=1e-6
    )


@pytest.mark.skipif(BACKEND != "torch", reason="asks PyTorch itself")
@pytest.mark.parametrize("length, size", DOWN)
def test_down_is_what_pytorch_does(length, size):
    import torch

    old = signal(length)
    pooled = torch.nn.functional.adaptive_avg_pool1d(torch.tensor(old), size)
    np.testing.assert_allclose(
        old @ resize_matrix(length, size), pooled.numpy(), atol=1e-6
    )


@pytest.mark.parametrize("length, size", UP)
def test_up_is_linear_interpolation_between_centres(length, size):
    old = signal(length)
    centres = (np.arange(size) + 0.5) * length / size - 0.5
    expected = [np.interp(centres, np.arange(length), row) for row in old]
    np.testing.assert_allclose(
        old @ resize_matrix(length, size), expected, atol=1e-6
    )


@pytest.mark.parametrize("length, size", DOWN + UP)
def test_columns_sum_to_1(length, size):
    matrix = resize_matrix(length, size)
    assert matrix.shape == (length, size)
    assert matrix.dtype == "float32"
    assert (matrix >= 0.0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_same_size_is_the_identity(length):
    np.testing.assert_array_equal(resize_matrix(length, length), np.eye(length))
    tensor = ops.ones((2, length))
    assert resize_axis(tensor, 1, length) is tensor


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
@pytest.mark.parametrize("size", [2, 6])
def test_axis(axis, size):
    old = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32")
    new = numpy(resize_axis(ops.convert_to_tensor(old), axis, size))
    expected = np.apply_along_axis(
        lambda row: row @ resize_matrix(4, size), axis, old
    )
    assert new.shape == expected.shape
    np.testing.assert_allclose(new, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_precision_is_kept(dtype):
    tensor = ops.cast(np.arange(8.0).reshape(1, 8), dtype)
    pooled = resize_axis(tensor, 1, 4)
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    np.testing.assert_array_equal(
        numpy(ops.cast(pooled, "float32")), [[0.5, 2.5, 4.5, 6.5]]
    )


@pytest.mark.parametrize("size", [3, 9])
def test_gradient_is_the_transposed_map(size):
    weights = np.arange(1.0, size + 1.0, dtype="float32")
    _, gradient = value_and_gradient(
        lambda x: ops.sum(
            ops.multiply(resize_axis(x, 1, size), ops.array(weights))
        ),
        np.ones((1, 5), "float32"),
    )
    np.testing.assert_allclose(
        gradient[0], resize_matrix(5, size) @ weights, rtol=1e-5
    )


def test_open_batch_size():
    tensor = keras.KerasTensor((None, 8, 3))
    assert resize_axis(tensor, 1, 4).shape == (None, 4, 3)
