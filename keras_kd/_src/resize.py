"""Resizing of one axis, for maps and token sequences of any rank."""

import numpy as np
from keras import ops


def resize_matrix(length, size):
    """The linear map from `length` positions to `size` positions.

    Down, each new position is the mean of the old ones that it covers
    (adaptive average pooling, the windows of PyTorch's function of that
    name); up, it is the linear interpolation between the two nearest.

    Args:
        length: number of old positions.
        size: number of new positions.

    Returns:
        A float32 array of shape `(length, size)` whose columns sum to 1.

    Example:
    >>> resize_matrix(4, 2).T
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]], dtype=float32)
    """
    matrix = np.zeros((length, size), "float32")
    for new in range(size):
        if size <= length:
            start = new * length // size
            stop = -(-(new + 1) * length // size)
            matrix[start:stop, new] = 1.0 / (stop - start)
        else:
            centre = (new + 0.5) * length / size - 0.5
            centre = min(max(centre, 0.0), length - 1.0)
            below = int(centre)
            above = min(below + 1, length - 1)
            matrix[below, new] += 1.0 - (centre - below)
            matrix[above, new] += centre - below
    return matrix


def resize_axis(tensor, axis, size):
    """Resizes one axis; see `resize_matrix`.

    A product with a small constant matrix: one operation that every backend,
    precision and rank has, and that has a gradient everywhere.

    Args:
        tensor: any shape; the axis must have a known length.
        axis: which axis.
        size: its new length.

    Returns:
        The tensor with `size` entries along `axis`.

    Example:
    >>> resize_axis(ops.ones((2, 8, 3)), 1, 4).shape == (2, 4, 3)
    True
    """
    length = tensor.shape[axis]
    if length == size:
        return tensor
    matrix = ops.cast(resize_matrix(length, size), tensor.dtype)
    last = ops.moveaxis(tensor, axis, -1)
    return ops.moveaxis(ops.matmul(last, matrix), -1, axis)
