"""Margin ReLU: the teacher's features, clipped at a negative margin."""

import math

import keras
import numpy as np
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def margin_of_batch_norm(layer):
    """Margin (OFD): expected negative response of a batch normalization.

    The margin of `MarginReLU` for a teacher that is tapped right after the
    layer, before the activation. The layer's outputs are assumed to be normally
    distributed.

        margin = E[x | x < 0],  x ~ Normal(beta, |gamma|)
               = beta - |gamma| pdf(z) / cdf(z),  z = -beta / |gamma|

    If hardly any response is negative (cdf(z) below 0.001), it is `-3 |gamma|`,
    as in the authors' code.

    Args:
        layer: a built `keras.layers.BatchNormalization`.

    Returns:
        List of numbers, one per channel, none positive.

    Raises:
        ValueError: the layer has neither `gamma` nor `beta`.

    Example:
    >>> layer = keras.layers.BatchNormalization()
    >>> layer.build((None, 2))
    >>> [round(each, 4) for each in margin_of_batch_norm(layer)]
    [-0.7979, -0.7979]

    Reference: Heo et al., 2019, "A Comprehensive Overhaul of Feature
    Distillation", arXiv 1904.01866.
    """
    weights = [getattr(layer, name, None) for name in ("gamma", "beta")]
    found = [
        None if each is None else ops.convert_to_numpy(each).tolist()
        for each in weights
    ]
    if found == [None, None]:
        raise ValueError(
            "`margin_of_batch_norm` reads `gamma` and `beta` of a built "
            f"`BatchNormalization`. Received: {layer!r}, which has neither. "
            "Give `MarginReLU` a `margin` in numbers."
        )
    channels = len(found[0] or found[1])
    gammas, betas = found[0] or [1.0] * channels, found[1] or [0.0] * channels
    return [_negative_mean(b, abs(g)) for g, b in zip(gammas, betas)]


def _negative_mean(mean, deviation):
    if deviation == 0.0:
        return min(mean, 0.0)
    z = -mean / deviation
    probability = 0.5 * math.erfc(-z / math.sqrt(2.0))
    if probability < 0.001:
        return -3.0 * deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return mean - deviation * density / probability


def margin_relu(teacher_features, student_features, *, margin, axis=-1):
    """OFD: partial squared distance to the teacher after a margin ReLU.

        target = max(t, margin)
        value = sum of (s - target)^2 where s > target or target > 0

    Where the teacher is negative, a student that is still lower adds nothing to
    the loss: after its ReLU there is no difference.

    Args:
        teacher_features: pre-activations, shape `(batch, ..., channels)`.
        student_features: pre-activations, the same shape.
        margin: numbers of 0 or less, one per channel, or one for all.
        axis: the channels' axis.

    Returns:
        Sums over channels and positions, shape `(batch,)`.

    Example:
    >>> teacher, student = [[2.0, -9.0, -9.0]], [[1.0, 0.0, -5.0]]
    >>> float(margin_relu(teacher, student, margin=-2.0)[0])
    5.0

    Reference: Heo et al., 2019, arXiv 1904.01866.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    rank = len(teacher_features.shape)
    shape = [1] * rank
    shape[axis] = -1
    margin = ops.convert_to_tensor(margin, dtype=teacher_features.dtype)
    target = ops.maximum(teacher_features, ops.reshape(margin, shape))
    counts = ops.logical_or(student_features > target, target > 0.0)
    squares = ops.square(student_features - target)
    squares = squares * ops.cast(counts, squares.dtype)
    return ops.sum(squares, axis=tuple(range(1, rank)))


@keras.saving.register_keras_serializable(package="keras_kd")
class MarginReLU(DistillationLoss):
    """Margin ReLU (OFD): the teacher's pre-activations, matched in part.

    Positive responses are matched in full. Where the teacher's is negative, the
    loss is 0 if the student's is not above it, or not above a negative margin.
    Tap both sides right before the activation (`"relu1:input"`), after the
    teacher's batch normalization: `margin_of_batch_norm(layer)` computes its
    margin. The authors' adapter is a 1x1 convolution and a batch normalization,
    on the student's side.

        target = max(t, margin)
        value = sum of (s - target)^2 where s > target or target > 0

    The value is a sum over channels and positions, as in the authors' code.
    Usual weight: 0.001 (CIFAR-100) or 0.0001 (ImageNet), halved for each tap
    further from the output.

    Args:
        margin: numbers of 0 or less, one per channel, or one for all. The
            default is that of a newly initialized batch normalization.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: pre-activations, shape `(batch, ..., channels)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: a margin is positive or not finite; shapes differ; there
            are more or fewer margins than channels.

    Example:
    >>> loss = MarginReLU(margin=[-2.0, -2.0, -2.0])
    >>> float(loss([[2.0, -9.0, -9.0]], [[1.0, 0.0, -5.0]]))
    5.0

    Reference: Heo et al., 2019, arXiv 1904.01866.
    """

    per_sample = True

    def __init__(self, margin=-0.7979, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        numbers = np.asarray(margin, "float64")
        if numbers.ndim > 1 or not np.all((-np.inf < numbers) & (numbers <= 0)):
            raise ValueError(
                "Argument `margin` must be a finite number of 0 or less, or a "
                f"list of them, one per channel. Received: margin={margin!r}. "
                "`margin_of_batch_norm(layer)` computes them."
            )
        self.margin = numbers.tolist()
        self.axis = axis

    def call(self, teacher_features, student_features):
        return margin_relu(teacher_features, student_features, **self.options())

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        channels = teacher_shape[self.axis]
        single = isinstance(self.margin, float)
        if not single and channels not in (None, len(self.margin)):
            raise ValueError(
                "MarginReLU needs one margin per channel. Received: "
                f"{len(self.margin)} margins for teacher features of shape "
                f"{tuple(teacher_shape)}, whose axis {self.axis} is that of "
                "the channels. Compute them from the batch normalization "
                "that is tapped, or give one number for all."
            )

    def options(self):
        return {"margin": self.margin, "axis": self.axis}
