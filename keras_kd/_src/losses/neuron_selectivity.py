"""Neuron selectivity: the distribution of the channels' patterns."""

import math

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import channel_rows
from keras_kd._src.losses.features import check_positions
from keras_kd._src.losses.features import same_positions
from keras_kd._src.losses.features import unit_length


def neuron_selectivity(teacher_features, student_features, *, axis=-1):
    """NST: maximum mean discrepancy (MMD) of two sets of channels.

        k(a, b) = <a, b>^2 of channels a, b, as unit vectors over positions
        value = mean k(t, t') + mean k(s, s') - 2 mean k(t, s)

    Args:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same rank; the numbers of positions may differ
            (the larger map is then averaged down to the smaller), and those of
            channels.
        axis: the channels' axis.

    Returns:
        Values of shape `(batch,)`, from 0 to 2.

    Example:
    >>> value = neuron_selectivity([[[1.0], [0.0]]], [[[0.0], [1.0]]])
    >>> round(float(value[0]), 3)
    2.0

    Reference: Huang and Wang, 2017, "Like What You Like: Knowledge Distill via
    Neuron Selectivity Transfer", arXiv 1707.01219.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    teacher_features, student_features = same_positions(
        teacher_features, student_features, axis
    )
    shapes = [list(teacher_features.shape), list(student_features.shape)]
    channels = [shape.pop(axis) for shape in shapes]
    positions = shapes[1][1:]
    teacher, student = (
        unit_length(channel_rows(features, axis), -1)
        for features in (teacher_features, student_features)
    )
    # Both ways give the same number; the one with smaller matrices is taken.
    if None not in positions and math.prod(positions) <= max(channels):
        difference = _moments(teacher) - _moments(student)
        return ops.sum(ops.square(difference), axis=(1, 2))
    own = _mean_kernel(teacher, teacher) + _mean_kernel(student, student)
    return own - 2.0 * _mean_kernel(teacher, student)


def _moments(rows):
    """Mean over channels of each channel's outer product with itself."""
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / rows.shape[1]


def _mean_kernel(first, second):
    products = ops.matmul(first, ops.transpose(second, (0, 2, 1)))
    return ops.mean(ops.square(products), axis=(1, 2))


@keras.saving.register_keras_serializable(package="keras_kd")
class NeuronSelectivity(DistillationLoss):
    """Neuron selectivity transfer (NST): match the channels' patterns.

    Each channel is a pattern over the map, and the student's patterns should
    have the same distribution as the teacher's. No channel is paired with
    another, so their numbers may differ and no adapter is needed. This is the
    published form with the polynomial kernel (degree 2, no constant). It is
    computed from products of channels with channels or of positions with
    positions, whichever are fewer, to save memory.

        k(a, b) = <a, b>^2 of channels a, b, as unit vectors over positions
        value = mean k(t, t') + mean k(s, s') - 2 mean k(t, s)

    Usual weight: 50.

    Args:
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same rank.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: a side has no positions; ranks differ.

    Example:
    >>> loss = NeuronSelectivity()
    >>> round(float(loss([[[1.0], [0.0]]], [[[0.0], [1.0]]])), 3)
    2.0

    Reference: Huang and Wang, 2017, arXiv 1707.01219.
    """

    per_sample = True

    def __init__(self, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, teacher_features, student_features):
        return neuron_selectivity(
            teacher_features, student_features, axis=self.axis
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_positions(self, teacher_shape, student_shape)

    def options(self):
        return {"axis": self.axis}
