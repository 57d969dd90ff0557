"""Resizes one axis of feature maps or token sequences of any rank."""

import numpy as np
from keras import ops


def resize_matrix(length, size):
    """The linear map of `length` positions to `size`; its columns sum to 1."""
    # To a smaller size, each new position is the mean of the old ones that it
    # covers (adaptive average pooling, with PyTorch's windows); to a larger
    # size, the linear interpolation between the two nearest.
    matrix = np.zeros((length, size), "float32")
    for new in range(size):
        if size <= length:
            start = new * length // size
            stop = -(-(new + 1) * length // size)
            matrix[start:stop, new] = 1.0 / (stop - start)
        else:
            center = (new + 0.5) * length / size - 0.5
            center = min(max(center, 0.0), length - 1.0)
            below = int(center)
            above = min(below + 1, length - 1)
            matrix[below, new] += 1.0 - (center - below)
            matrix[above, new] += center - below
    return matrix


def area_matrix(length, size):
    """The linear map that averages `length` positions by area to `size`."""
    edges = np.arange(size + 1) * length / size
    old = np.arange(length)[:, None]
    covered = np.minimum(old + 1, edges[1:]) - np.maximum(old, edges[:-1])
    matrix = np.maximum(covered, 0.0) * size / length
    return matrix.astype("float32")


def resize_axis(tensor, axis, size, matrix=resize_matrix):
    """Resizes one axis of known length, averaging down or interpolating up."""
    # A product with a small constant matrix: one operation that works with
    # every backend, precision and rank, and has a gradient everywhere.
    length = tensor.shape[axis]
    if length == size:
        return tensor
    matrix = ops.cast(matrix(length, size), tensor.dtype)
    last = ops.moveaxis(tensor, axis, -1)
    return ops.moveaxis(ops.matmul(last, matrix), -1, axis)
