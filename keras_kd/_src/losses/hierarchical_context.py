"""Hierarchical context: features compared at several scales."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.resize import resize_axis
from keras_kd._src.resize import resize_matrix


def hierarchical_context(
    teacher_features, student_features, *, sizes=(4, 2, 1), axis=-1, mask=None
):
    """ReviewKD: squared difference of features, also averaged down.

        value = (e_0 + e_1 / 2 + e_2 / 4 + ...) / (1 + 1/2 + 1/4 + ...)
        e_0 = mean (t - s)^2;  e_k the same for the maps, average-pooled to
            sizes[k - 1] positions per axis; sizes not smaller than the map
            are left out

    Args:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same shape.
        sizes: the sizes to which the maps are averaged down.
        axis: the channels' axis.
        mask: optional, shape `(batch, positions...)`: True at positions that
            count. The others are cut out of token sequences, and left out of
            each mean in maps.

    Returns:
        Values of shape `(batch,)`, in the features' unit squared.

    Example:
    >>> values = hierarchical_context([[[1.0], [3.0]]], [[[1.0], [1.0]]])
    >>> round(float(values[0]), 4)
    1.6667

    Reference: Chen et al., 2021, "Distilling Knowledge via Knowledge Review",
    arXiv 2104.09044.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    # Pooling is linear, so the difference is pooled, not each side.
    error = ops.moveaxis(teacher_features - student_features, axis, -1)
    if mask is not None and len(error.shape) == 3:
        return _of_present_tokens(error, mask, sizes)
    if mask is not None:
        mask = ops.cast(ops.expand_dims(mask, axis=-1), error.dtype)
        error = error * mask
    largest = max(error.shape[1:-1])
    total, weights = _mean_square(error, mask), 1.0
    weight = 1.0
    for size in sizes:
        if size < largest:
            weight = weight / 2.0
            total = total + weight * _mean_square(*_pooled(error, size, mask))
            weights = weights + weight
    return total / weights


def _mean_square(error, mask=None):
    axes = tuple(range(1, len(error.shape)))
    squares = ops.mean(ops.square(error), axis=axes)
    if mask is None:
        return squares
    return squares / ops.maximum(ops.mean(mask, axis=axes), 1e-12)


def _pooled(error, size, mask=None):
    """The error averaged over positions that count, and where there are any."""
    for position in range(1, len(error.shape) - 1):
        size_here = min(size, error.shape[position])
        error = resize_axis(error, position, size_here)
        if mask is not None:
            mask = resize_axis(mask, position, size_here)
    if mask is None:
        return error, None
    present = ops.cast(mask > 0.0, error.dtype)
    return error / ops.maximum(mask, 1e-12), present


def _of_present_tokens(error, mask, sizes):
    """The same for sequences of different lengths, without masked tokens."""
    present = ops.cast(mask, error.dtype)
    number = ops.sum(present, axis=1)
    squares = ops.mean(ops.square(error), axis=-1) * present
    total = ops.sum(squares, axis=1) / ops.maximum(number, 1.0)
    weight = weights = ops.ones_like(number)
    for size in sizes:
        longer = ops.cast(number > size, error.dtype)
        weight = weight * (1.0 - longer / 2.0)
        parts = _pooling_weights(present, size)
        pooled = ops.matmul(ops.transpose(parts, (0, 2, 1)), error)
        total = total + longer * weight * _mean_square(pooled)
        weights = weights + longer * weight
    return total / weights


def _pooling_weights(present, size):
    """Shape `(batch, tokens, size)`: each token's weight in each mean."""
    length = present.shape[1]
    # One matrix for each number of tokens; zeros if there is nothing to pool.
    matrices = np.zeros((length + 1, length, size), "float32")
    for number in range(size + 1, length + 1):
        matrices[number, :number] = resize_matrix(number, size)
    number = ops.sum(present, axis=1, keepdims=True)
    place = ops.maximum(ops.cumsum(present, axis=1) - 1.0, 0.0)
    row = ops.cast(number * length + place, "int32")
    weights = ops.take(matrices.reshape(-1, size), row, axis=0)
    return ops.cast(weights, present.dtype) * present[:, :, None]


@keras.saving.register_keras_serializable(package="keras_kd")
class HierarchicalContext(DistillationLoss):
    """Hierarchical context loss (HCL, ReviewKD): features at several scales.

    The full map compares values at each pixel; the averaged-down copies compare
    the content of larger parts of the image. Usual weights: 0.6 (ResNet-56 to
    20) to 5 (ResNet-32x4 to 8x4) and 8 (ResNet-32x4 to ShuffleNet-V2) on
    CIFAR-100, summed over the stages, with a warm-up of 20 epochs. ReviewKD's
    attention-based fusion of the student's stages is an adapter,
    `keras_kd.layers.ReviewFusion()`, whose documentation shows the whole
    method; with `keras_kd.layers.FeatureAdapter()` the loss compares stage by
    stage.

        value = (e_0 + e_1 / 2 + e_2 / 4 + ...) / (1 + 1/2 + 1/4 + ...)
        e_0 = mean (t - s)^2;  e_k the same for the maps, average-pooled to
            sizes[k - 1] positions per axis; sizes not smaller than the map
            are left out

    An axis that is shorter than a size (in maps that are not square) stays as
    it is. Masked tokens are left out: each sequence has its own length.

    Args:
        sizes: the sizes to which maps are averaged down, 4, 2 and 1 in the
            paper's code.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `sizes` are not positive integers; shapes differ, or have no
            positions or an unknown number of them.

    Example:
    >>> loss = HierarchicalContext()
    >>> round(float(loss([[[1.0], [3.0]]], [[[1.0], [1.0]]])), 4)
    1.6667

    Reference: Chen et al., 2021, arXiv 2104.09044.
    """

    per_sample = True

    def __init__(self, *, sizes=(4, 2, 1), axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.sizes = [integer(size, "sizes") for size in sizes]
        self.axis = axis

    def call(self, teacher_features, student_features, *, mask=None):
        return hierarchical_context(
            teacher_features, student_features, mask=mask, **self.options()
        )

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        positions = list(student_shape)[1:]
        if positions:
            del positions[self.axis - 1 if self.axis > 0 else self.axis]
        if not positions or None in positions:
            raise ValueError(
                "HierarchicalContext averages feature maps or token sequences "
                "down, so they need positions, and a known number of them. "
                f"Received: student {tuple(student_shape)}, teacher "
                f"{tuple(teacher_shape)}. Tap layers with positions, in models "
                "built for one size of the input."
            )

    def options(self):
        return {"sizes": self.sizes, "axis": self.axis}
