"""Flow of the solution: how features change from layer to layer."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import check_layers
from keras_kd._src.losses.features import refuse_layers
from keras_kd._src.losses.positions import at_positions
from keras_kd._src.resize import resize_axis


def flow_of_solution(teacher_features, student_features, *, axis=-1, mask=None):
    """FSP: squared difference of the Gram matrices between layers.

        G_cd = mean_positions lower_c * upper_d
        value = sum over pairs of layers of mean_cd (G(teacher) - G(student))^2

    Args:
        teacher_features: list of two or more tensors of shape `(batch,
            positions..., channels)`, from the lower layer to the upper one;
            each forms a pair with the next.
        student_features: a list of the same length, with the teacher's numbers
            of channels; the numbers of positions may differ.
        axis: the channels' axis.
        mask: optional, a list of `(batch, positions...)` tensors, one for each
            of the student's features: True at positions that count; the
            features at the others are 0.

    Returns:
        Values of shape `(batch,)`, in the features' unit to the fourth power.

    Example:
    >>> lower, upper = [[[1.0], [3.0]]], [[[2.0], [2.0]]]
    >>> values = flow_of_solution([lower, upper], [lower, lower])
    >>> float(values[0])
    1.0

    References:
        Yim et al., 2017, "A Gift from Knowledge Distillation", CVPR, DOI
        10.1109/CVPR.2017.754.
        Gatys et al., 2015, arXiv 1508.06576 (Gram matrices of a layer).
    """
    flows = []
    masks = mask or [None] * len(student_features)
    for features in (teacher_features, student_features):
        features = in_full_precision(*features)
        pairs = zip(features, features[1:], masks)
        flows.append([_gram(*pair, axis) for pair in pairs])
    return sum(
        ops.mean(ops.square(teacher - student), axis=(1, 2))
        for teacher, student in zip(*flows)
    )


def _gram(lower, upper, mask, axis):
    lower, upper = ops.moveaxis(lower, axis, -1), ops.moveaxis(upper, axis, -1)
    for position in range(1, len(lower.shape) - 1):
        sizes = lower.shape[position], upper.shape[position]
        if None not in sizes:
            lower = resize_axis(lower, position, min(sizes))
            upper = resize_axis(upper, position, min(sizes))
    share = _share_of_present(mask, lower.shape[:-1])
    lower, upper = _positions_joined(lower), _positions_joined(upper)
    positions = ops.cast(ops.shape(lower)[1], lower.dtype) * share
    return ops.matmul(ops.transpose(lower, (0, 2, 1)), upper) / positions


def _share_of_present(mask, shape):
    """The share of positions that count, shape `(batch, 1, 1)`, or 1.0."""
    mask = None if mask is None else at_positions(mask, shape)
    if mask is None:
        return 1.0
    present = ops.cast(mask > 0.0, "float32")
    present = ops.mean(present, axis=tuple(range(1, len(shape))))
    return ops.maximum(present, 1e-12)[:, None, None]


def _positions_joined(features):
    channels = features.shape[-1]
    return ops.reshape(features, (ops.shape(features)[0], -1, channels))


@keras.saving.register_keras_serializable(package="keras_kd")
class FlowOfSolution(DistillationLoss):
    """Flow of solution procedure (FSP): how features change between layers.

    The student learns how features change within the network, not the features
    themselves: the correlations between the channels of a block's input and
    those of its output. It takes two or more taps per side, lower layer first;
    the larger map of a pair is averaged down to the smaller. Where channels
    differ, give the transfer `adapter=keras_kd.layers.FeatureAdapter()`. Usual
    weight: 50 in the benchmark repositories, which train with it before the
    main training, as the paper does; here all terms are trained together.

        G_cd = mean_positions lower_c * upper_d
        value = sum over pairs of layers of mean_cd (G(teacher) - G(student))^2

    The reduction is that of the benchmark repositories; the paper sums over c
    and d, and uses max pooling.

    Args:
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: list of tensors of shape `(batch, positions...,
            channels)`.
        student_features: a list of the same length, with the teacher's numbers
            of channels.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: there are fewer than two taps; a layer has no positions;
            the layers of a side differ in rank; channels differ.

    Example:
    >>> loss = FlowOfSolution()
    >>> lower, upper = [[[1.0], [3.0]]], [[[2.0], [2.0]]]
    >>> float(loss([lower, upper], [lower, lower]))
    1.0

    References:
        Yim et al., 2017, CVPR, DOI 10.1109/CVPR.2017.754.
        Gatys et al., 2015, arXiv 1508.06576 (Gram matrices of a layer).
    """

    per_sample = True
    joint = True

    def __init__(self, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, teacher_features, student_features, *, mask=None):
        return flow_of_solution(
            teacher_features, student_features, axis=self.axis, mask=mask
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_layers(self, teacher_shape, student_shape)
        for side in (teacher_shape, student_shape):
            if len({len(shape) for shape in side}) > 1:
                refuse_layers(
                    self,
                    teacher_shape,
                    student_shape,
                    "layers of the same rank on a side: maps, or sequences",
                )

    def options(self):
        return {"axis": self.axis}
