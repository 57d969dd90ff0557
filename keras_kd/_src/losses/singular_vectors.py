"""Singular vectors: how a map's main directions change between layers."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import check_layers
from keras_kd._src.losses.features import refuse_layers
from keras_kd._src.losses.features import unit_length

# How many more of the student's vectors are candidates than are needed: the
# teacher's first direction may be the student's fourth.
SPARE = 3
# In float32 the squared singular values are precise to about 1e-6 of the
# largest: below that, directions and gaps are rounding errors.
NEGLIGIBLE = 1e-6


def singular_vectors(teacher_features, student_features, *, vectors=1, axis=-1):
    """KD-SVD: squared difference of the kernels between singular vectors.

        v_i = i-th right singular vector of (positions x channels), times
              s_i / |s| of the teacher, for i = 1 .. vectors
        K_abi = exp(-(upper_v_ai - lower_v_bi)^2 / 8)
        value = sum over pairs of layers of sum_abi (K(teacher) - K(student))^2

    Signs: the entry of largest size in each of the teacher's vectors is made
    positive. The student's v_i is the one of its first `vectors + 3` with the
    largest absolute cosine to the teacher's, with its sign turned to match. A
    singular value below 1/1000 of the first counts as 0, and its vector as
    zeros.

    Args:
        teacher_features: list of two or more tensors of shape `(batch,
            positions..., channels)`, from the lower layer to the upper one;
            each forms a pair with the next. No gradient reaches them.
        student_features: a list of the same length, with the teacher's numbers
            of channels; the numbers of positions may differ.
        vectors: how many singular vectors of each map to compare.
        axis: the channels' axis.

    Returns:
        Values of shape `(batch,)`, without a unit.

    Example:
    >>> lower, upper = [[[3.0, 0.0]]], [[[0.0, 2.0]]]
    >>> value = singular_vectors([lower, upper], [lower, lower])
    >>> round(float(value[0]), 4)
    0.0552

    Reference: Lee, Kim and Song, 2018, "Self-supervised Knowledge
    Distillation Using Singular Value Decomposition", arXiv 1807.06819.
    """
    layers = []
    for pair in zip(teacher_features, student_features):
        teacher, student = (_rows(x, axis) for x in in_full_precision(*pair))
        layers.append(_paired(ops.stop_gradient(teacher), student, vectors))
    tables = zip(*map(_kernels, zip(*layers)))
    return sum(ops.sum(ops.square(t - s), axis=(1, 2, 3)) for t, s in tables)


def _rows(features, axis):
    """Shape (batch, positions, channels), scaled to a largest size of 1."""
    features = ops.moveaxis(features, axis, -1)
    _, *positions, channels = features.shape
    # A known number stays known: it decides which Gram matrix is taken.
    positions = -1 if None in positions else math.prod(positions)
    batch = ops.shape(features)[0]
    rows = ops.reshape(features, (batch, positions, channels))
    largest = ops.max(ops.abs(rows), axis=(1, 2), keepdims=True)
    scale = ops.where(largest > 1e-12, largest, ops.ones_like(largest))
    # The scale does not affect directions, and needs no gradient.
    return rows / ops.stop_gradient(scale)


def _paired(teacher, student, vectors):
    """The teacher's scaled vectors, and the student's that match them."""
    squares, teacher = _right_vectors(teacher, vectors)
    offered, student = _right_vectors(student, vectors + SPARE)
    cosines = ops.matmul(ops.transpose(student, (0, 2, 1)), teacher)
    there = ops.expand_dims(ops.cast(offered > 0, cosines.dtype), axis=-1)
    best = ops.argmax(ops.abs(cosines) * there, axis=1)
    choice = ops.one_hot(best, student.shape[-1], axis=1, dtype=cosines.dtype)
    signs = ops.where(cosines >= 0, 1.0, -1.0) * there
    student = ops.matmul(student, ops.stop_gradient(choice * signs))
    weights = ops.expand_dims(unit_length(ops.sqrt(squares), axis=-1), axis=1)
    return teacher * weights, student * weights


def _right_vectors(rows, count):
    """Squares of the first singular values, 0 if negligible; and vectors."""
    # Of shapes (batch, count) and (batch, columns, count), at most as many as
    # there are rows or columns. Backends differ in signs: here the entry of
    # largest size is positive.
    columns = ops.transpose(rows, (0, 2, 1))
    number, size = rows.shape[1:]
    if number is not None and number < size:
        squares, left = _eigenvectors(ops.matmul(rows, columns), count)
        vectors = unit_length(ops.matmul(columns, left), axis=1)
    else:
        squares, vectors = _eigenvectors(ops.matmul(columns, rows), count)
    extremes = ops.max(vectors, axis=1) + ops.min(vectors, axis=1)
    upright = ops.expand_dims(extremes >= 0, axis=1)
    return squares, ops.where(upright, vectors, -vectors)


def _eigenvectors(gram, count):
    """The last eigenvectors first, with the gradient of perturbation theory."""
    # d v_i = sum_{j != i} v_j (v_j . dG v_i) / (l_i - l_j)
    # The backends' gradient is NaN if any two values are equal, used or not.
    constant = ops.stop_gradient(gram)
    values, basis = map(ops.stop_gradient, ops.eigh(constant))
    first = ops.flip(values, axis=-1)[:, :count]
    vectors = ops.flip(basis, axis=-1)[:, :, :count]
    # 1 or more, as the largest entry is 1, unless all are 0.
    largest = ops.maximum(first[:, :1], 1.0)
    gaps = ops.expand_dims(first, 1) - ops.expand_dims(values, 2)
    least = 10.0 * NEGLIGIBLE * ops.expand_dims(largest, 2)
    inverse = gaps / (ops.square(gaps) + ops.square(least))
    turn = ops.matmul(gram - constant, vectors)
    turn = ops.matmul(ops.transpose(basis, (0, 2, 1)), turn) * inverse
    negligible = first <= NEGLIGIBLE * largest
    squares = ops.where(negligible, ops.zeros_like(first), first)
    return squares, vectors + ops.matmul(basis, turn)


def _kernels(layers):
    """One per pair of successive layers, (batch, upper, lower, vectors)."""
    differences = [
        ops.expand_dims(upper, axis=2) - ops.expand_dims(lower, axis=1)
        for lower, upper in zip(layers, layers[1:])
    ]
    return [ops.exp(-ops.square(each) / 8.0) for each in differences]


@keras.saving.register_keras_serializable(package="keras_kd")
class SingularVectors(DistillationLoss):
    """Singular vectors (KD-SVD): how main directions change between layers.

    The leading right singular vector of a map (positions x channels) shows
    which channels respond together. The student learns how it changes from one
    layer to the next, whatever the sizes of the maps. It takes two or more taps
    per side, lower layer first. Where channels differ, give the transfer
    `adapter=keras_kd.layers.FeatureAdapter()`. Usual weight: 1 (the paper has
    none: it clips the term's gradient to the norm of the hard loss's).

        v_i = right singular vector of (positions x channels), times s_i / |s|
        K_abi = exp(-(upper_v_ai - lower_v_bi)^2 / 8)
        value = sum over pairs of layers of sum_abi (K(teacher) - K(student))^2

    Axes, reduction and the `vectors + 3` candidates are those of the authors'
    code and of its port by Tian et al. (arXiv 1910.10699); the authors' first
    release has `vectors + 1`, and half the sum over the batch. The port by Zhao
    et al. (arXiv 2203.08679) decomposes (channels * rows x columns): `axis=2`
    with channels-last maps. The value depends on the relative signs of two
    layers' vectors, which a decomposition leaves open: here the entry of
    largest size in each of the teacher's is positive. The teacher's side is a
    constant, so a `teacher_adapter` would not be trained.

    The cost is one eigendecomposition per map and sample, of the size of
    positions or channels, whichever is smaller, and one table of channels x
    channels per pair.

    Args:
        vectors: how many singular vectors of each map to compare.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: list of `(batch, positions..., channels)` tensors.
        student_features: a list of the same length, with the teacher's numbers
            of channels.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `vectors` is not a positive integer; there are fewer than
            two taps; a map has fewer positions or channels than `vectors`;
            numbers of channels differ.

    Example:
    >>> loss = SingularVectors()
    >>> lower, upper = [[[3.0, 0.0]]], [[[0.0, 2.0]]]
    >>> round(float(loss([lower, upper], [lower, lower])), 4)
    0.0552

    Reference: Lee, Kim and Song, 2018, arXiv 1807.06819.
    """

    per_sample = True
    joint = True

    def __init__(self, vectors=1, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.vectors = integer(vectors, "vectors")
        self.axis = axis

    def call(self, teacher_features, student_features):
        return singular_vectors(
            teacher_features, student_features, **self.options()
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_layers(self, teacher_shape, student_shape)
        for shape in [*teacher_shape, *student_shape]:
            sizes = math.prod(size or math.inf for size in shape[1:])
            channels = shape[self.axis]
            if min(channels, sizes / channels) < self.vectors:
                refuse_layers(
                    self,
                    teacher_shape,
                    student_shape,
                    f"at least vectors={self.vectors} positions and channels "
                    "in each map. Take fewer vectors, or tap other layers",
                )

    def options(self):
        return {"vectors": self.vectors, "axis": self.axis}
