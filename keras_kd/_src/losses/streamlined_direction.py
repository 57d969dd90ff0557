"""Streamlined distillation, direction term: angles between samples."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import unit_length
from keras_kd._src.losses.relations import relative_weights


def streamlined_direction(
    teacher_logits, student_logits, sample_weight=None, *, tikhonov=0.1
):
    """SKD: Mahalanobis norm of each sample's error in the batch's cosines.

        cosines(z)[i, j] = <z_i, z_j> / (|z_i| |z_j|)
        D = cosines(student_logits) - cosines(teacher_logits)
        M = covariance of the rows of D (ddof = 1) + tikhonov * I
        value_i = sqrt(D_i M^-1 D_i)

    Args:
        teacher_logits: shape `(batch, channels)`.
        student_logits: shape `(batch, other channels)`.
        sample_weight: optional, shape `(batch,)`; the weights of the samples in
            each sum over the batch. Only their proportions matter.
        tikhonov: added to the diagonal of the covariance, above 0.

    Returns:
        Values without a unit, shape `(batch,)`.

    Example:
    >>> logits = [[2.0, 0.0], [0.0, 3.0]]
    >>> float(streamlined_direction(logits, logits)[0]) < 1e-6
    True

    Reference: streamlined knowledge distillation (SKD), CVPR 2026, as
    torchdistill implements it.
    """
    teacher, student = in_full_precision(teacher_logits, student_logits)
    weight = relative_weights(sample_weight, student)
    # A weight w stands for w equal columns: sqrt(w) in the quadratic form.
    error = (_cosines(student) - _cosines(teacher)) * ops.sqrt(weight)
    matrix = _covariance(error, weight) + tikhonov * _identity(weight)
    solved = ops.solve(matrix, ops.transpose(error))
    squares = ops.sum(error * ops.transpose(solved), axis=-1)
    # The floor keeps the root's gradient finite where the cosines agree.
    return ops.sqrt(ops.maximum(squares, 1e-24))


def _cosines(vectors):
    vectors = unit_length(vectors, -1)
    return ops.matmul(vectors, ops.transpose(vectors))


def _covariance(rows, weight):
    present = ops.sum(weight)
    weight = weight[:, None]
    mean = ops.sum(weight * rows, axis=0) / ops.maximum(present, 1.0)
    centered = rows - mean
    # For one sample the covariance is undefined: here 0, like the numerator.
    freedom = ops.maximum(present - 1.0, 1.0)
    return ops.matmul(ops.transpose(centered), weight * centered) / freedom


def _identity(weight):
    # Not ops.eye: the batch size is unknown when TensorFlow compiles.
    number = ops.cumsum(ops.ones_like(weight))
    return ops.cast(number[:, None] == number, weight.dtype)


@keras.saving.register_keras_serializable(package="keras_kd")
class StreamlinedDirection(DistillationLoss):
    """Streamlined KD (SKD), direction term: match angles between samples.

    Cosines between all samples of the batch are compared, and errors that are
    common in the batch count less than rare ones. It complements `SoftTargets`,
    which compares each sample separately (SKD's instance term: T = 4, without
    the factor T^2). The sides may have different numbers of channels.

        cosines(z)[i, j] = <z_i, z_j> / (|z_i| |z_j|)
        D = cosines(student_logits) - cosines(teacher_logits)
        M = covariance of the rows of D (ddof = 1) + tikhonov * I
        value_i = sqrt(D_i M^-1 D_i)

    A system of linear equations of the size of the batch is solved. Weights are
    relative to their mean over the samples with a weight above 0. A single
    sample has no direction: its value is 0. Usual weight: the paper recommends
    none; start at 1 and compare the parts in the logs.

    Args:
        tikhonov: added to the diagonal of the covariance, above 0; 0.1 in the
            published code, not given in the paper.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, channels)`.
        student_logits: shape `(batch, other channels)`.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar without a unit.

    Raises:
        ValueError: `tikhonov` is not above 0; a side does not have two axes.

    Example:
    >>> loss = StreamlinedDirection()
    >>> right, wrong = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    >>> round(float(loss(right, wrong)), 4)
    2.3355

    Reference: streamlined knowledge distillation (SKD), CVPR 2026, as
    torchdistill implements it.
    """

    per_sample = True

    def __init__(self, *, tikhonov=0.1, **kwargs):
        super().__init__(**kwargs)
        self.tikhonov = number(tikhonov, "tikhonov", least=1e-6)

    def call(self, teacher_logits, student_logits, *, sample_weight):
        return streamlined_direction(
            teacher_logits,
            student_logits,
            sample_weight,
            tikhonov=self.tikhonov,
        )

    def check_shapes(self, teacher_shape, student_shape):
        if len(teacher_shape) != 2 or len(student_shape) != 2:
            raise ValueError(
                "StreamlinedDirection compares one vector per sample. "
                f"Received: teacher {tuple(teacher_shape)}, student "
                f"{tuple(student_shape)}. Tap layers whose outputs have the "
                "shape (batch, channels)."
            )

    def options(self):
        return {"tikhonov": self.tikhonov}
