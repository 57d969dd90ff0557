"""Resizing in adapters: averages as PyTorch does, interpolates as NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from resizing import resized
from support import BACKEND
from support import numpy

from keras_kd.layers import FeatureAdapter
from keras_kd.testing import value_and_gradient

DOWN = [(8, 4), (8, 3), (7, 2), (7, 5), (5, 1), (5, 4), (196, 49)]
UP = [(4, 8), (3, 8), (2, 7), (1, 5), (4, 5), (49, 196)]


def resize_matrix(length, size):
    """The linear map: what becomes of a token that is 1 among zeros."""
    units = np.eye(length, dtype="float32")[..., None]
    return numpy(FeatureAdapter((size, 1))(units))[..., 0]


def signal(length):
    return np.random.default_rng(length).normal(size=(2, length))


@pytest.mark.one_backend
@pytest.mark.parametrize("length, size", DOWN + UP)
def test_down_is_a_mean_over_windows_and_up_an_interpolation(length, size):
    old = signal(length)
    np.testing.assert_allclose(
        old @ resize_matrix(length, size), resized(old, 1, size), atol=1e-6
    )


@pytest.mark.skipif(BACKEND != "torch", reason="compares with PyTorch itself")
@pytest.mark.parametrize("length, size", DOWN)
def test_down_is_what_pytorch_does(length, size):
    import torch

    old = signal(length)
    pooled = torch.nn.functional.adaptive_avg_pool1d(torch.tensor(old), size)
    np.testing.assert_allclose(
        old @ resize_matrix(length, size), pooled.numpy(), atol=1e-6
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("length, size", DOWN + UP)
def test_columns_sum_to_1(length, size):
    matrix = resize_matrix(length, size)
    assert matrix.shape == (length, size)
    assert matrix.dtype == "float32"
    assert (matrix >= 0.0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0, atol=1e-6)


@pytest.mark.one_backend
@pytest.mark.parametrize("length", [1, 2, 7])
def test_same_size_is_the_identity(length):
    np.testing.assert_array_equal(resize_matrix(length, length), np.eye(length))
    tokens = ops.ones((2, length, 1))
    assert FeatureAdapter((length, 1))(tokens) is tokens


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 6])
def test_axis(axis, size):
    old = np.random.default_rng(0).normal(size=(2, 4, 4, 4, 1))
    old = old.astype("float32")
    target = list(old.shape)
    target[axis] = size
    new = numpy(FeatureAdapter(target[1:])(old))
    assert list(new.shape) == target
    np.testing.assert_allclose(new, resized(old, axis, size), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_precision_is_kept(dtype):
    tokens = ops.cast(np.arange(8.0).reshape(1, 8, 1), dtype)
    pooled = FeatureAdapter((4, 1), dtype=dtype)(tokens)
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    np.testing.assert_array_equal(
        numpy(ops.cast(pooled, "float32"))[..., 0], [[0.5, 2.5, 4.5, 6.5]]
    )


@pytest.mark.parametrize("size", [3, 9])
def test_gradient_is_the_transposed_map(size):
    weights = np.arange(1.0, size + 1.0, dtype="float32")[:, None]
    adapter = FeatureAdapter((size, 1))

    def weighted_sum(tokens):
        return ops.sum(ops.multiply(adapter(tokens), ops.array(weights)))

    _, gradient = value_and_gradient(
        weighted_sum, np.ones((1, 5, 1), "float32")
    )
    np.testing.assert_allclose(
        gradient[0], resize_matrix(5, size) @ weights, rtol=1e-5
    )


@pytest.mark.one_backend
def test_open_batch_size():
    tokens = keras.KerasTensor((None, 8, 3))
    assert FeatureAdapter((4, 3))(tokens).shape == (None, 4, 3)
