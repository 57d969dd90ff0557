"""Inter-channel correlation: which channels respond together."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import channel_rows
from keras_kd._src.losses.features import unit_length


def inter_channel_correlation(teacher_features, student_features, *, axis=-1):
    """ICKD: squared distance of the channels' correlations, per channel.

        correlations(f)[i] = (<f_i, f_1>, ..., <f_i, f_C>), a unit vector
        value = 1 / C * sum_i |correlations(t)[i] - correlations(s)[i]|^2

    Args:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same number of channels; positions may differ.
        axis: the channels' axis.

    Returns:
        Values of shape `(batch,)`, from 0 to 4.

    Example:
    >>> teacher, student = [[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 1.0]]]
    >>> value = inter_channel_correlation(teacher, student)
    >>> round(float(value[0]), 4)
    0.5858

    Reference: Liu et al., 2021, "Exploring Inter-Channel Correlation for
    Diversity-preserved Knowledge Distillation", arXiv 2202.03680.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    difference = _correlations(teacher_features, axis) - _correlations(
        student_features, axis
    )
    return ops.mean(ops.sum(ops.square(difference), axis=-1), axis=-1)


def _correlations(features, axis):
    # Products of tiny features would vanish, those of huge ones overflow.
    rows = unit_length(channel_rows(features, axis), (1, 2))
    return unit_length(ops.matmul(rows, ops.transpose(rows, (0, 2, 1))), -1)


@keras.saving.register_keras_serializable(package="keras_kd")
class InterChannelCorrelation(DistillationLoss):
    """Inter-channel correlation (ICKD): which channels respond together.

    Correlated channels are redundant: the student learns how diverse the
    teacher's channels are, without copying their values at each position. Maps
    may differ in size. If the numbers of channels differ, give the transfer a
    `FeatureAdapter` (the authors: a 1x1 convolution and a batch normalization).
    Best on the last map before the pooling.

        correlations(f)[i] = (<f_i, f_1>, ..., <f_i, f_C>), a unit vector
        value = 1 / C * sum_i |correlations(t)[i] - correlations(s)[i]|^2

    The value is a mean over the samples. One port of the method divides it by
    the batch size once more: divide a weight that was tuned there by the batch
    size. Usual weight: about 2 (that port's 500 at a batch size of 256), beside
    soft targets.

    Args:
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same number of channels.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: the numbers of channels differ, or there is only one
            channel; a side has no positions.

    Example:
    >>> loss = InterChannelCorrelation()
    >>> teacher, student = [[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 1.0]]]
    >>> round(float(loss(teacher, student)), 4)
    0.5858

    Reference: Liu et al., 2021, arXiv 2202.03680.
    """

    per_sample = True

    def __init__(self, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, teacher_features, student_features):
        return inter_channel_correlation(
            teacher_features, student_features, axis=self.axis
        )

    def check_shapes(self, teacher_shape, student_shape):
        shapes = tuple(teacher_shape), tuple(student_shape)
        maps = min(map(len, shapes)) >= 3
        if (
            not maps
            or shapes[0][self.axis] != shapes[1][self.axis]
            or shapes[0][self.axis] == 1
        ):
            raise ValueError(
                "InterChannelCorrelation compares the correlations of two or "
                "more channels, the same number on both sides, over positions. "
                f"Received: teacher {shapes[0]}, student {shapes[1]} (channels "
                f"on axis {self.axis}). Tap layers that have positions, and "
                "give the transfer `adapter=keras_kd.layers.FeatureAdapter()`."
            )

    def options(self):
        return {"axis": self.axis}
