"""Channel-wise distillation: a softmax over positions, per channel."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import channel_rows
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.losses.tempered_loss import TemperedLoss


def channel_wise_distillation(
    teacher_features, student_features, *, temperature=4.0, axis=-1, mask=None
):
    """CWD: divergence of each channel's softmax over positions, times T^2.

        p = softmax_positions(teacher_features / T), q likewise of the student
        value = T^2 / channels * sum_channels KL(p || q)

    Args:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same shape.
        temperature: T, a positive number.
        axis: the channels' axis.
        mask: optional, shape `(batch, positions...)`, True at positions that
            count.

    Returns:
        Values in nats (times T^2), shape `(batch,)`.

    Example:
    >>> teacher, student = [[[0.0], [20.0]]], [[[20.0], [0.0]]]
    >>> value = channel_wise_distillation(teacher, student, temperature=1.0)
    >>> round(float(value[0]), 3)
    20.0

    Reference: Shu et al., 2021, "Channel-wise Knowledge Distillation for
    Dense Prediction", arXiv 2011.13256.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    teacher_log_probs, student_log_probs = (
        _log_probs(channel_rows(features, axis) / temperature, mask)
        for features in (teacher_features, student_features)
    )
    divergence = kl_divergence(teacher_log_probs, student_log_probs)
    return temperature**2 * ops.mean(divergence, axis=-1)


def _log_probs(rows, mask):
    if mask is not None:
        mask = ops.reshape(mask, (ops.shape(rows)[0], 1, -1))
        # Finite, so that a sample without positions gives no NaN.
        rows = ops.where(mask, rows, ops.full_like(rows, -1e30))
    return ops.log_softmax(rows, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class ChannelWiseDistillation(TemperedLoss):
    """Channel-wise distillation (CWD): match where each channel is strong.

    For dense prediction (segmentation, detection): in class maps a channel is
    one class, and its softmax over positions shows where the class is. It also
    works on hidden features, with a `FeatureAdapter` if the shapes differ. The
    overall strength of a channel is left to the student.

        value = T^2 / channels * sum_channels KL(p || q), in nats
        p = softmax_positions(teacher / T);  q = softmax_positions(student / T)

    Usual weight: 3 on class maps, 50 on features, at a temperature of 4. Masked
    positions are left out.

    Args:
        temperature: T, a positive number, or a `LearningRateSchedule` over
            training steps. A variable that can be assigned later.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: logits or features before a softmax, shape
            `(batch, positions..., channels)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `temperature` is not positive; shapes differ, or have no
            positions.

    Example:
    >>> loss = ChannelWiseDistillation(temperature=1.0)
    >>> round(float(loss([[[0.0], [20.0]]], [[[20.0], [0.0]]])), 3)
    20.0

    Reference: Shu et al., 2021, arXiv 2011.13256.
    """

    per_sample = True

    def __init__(self, temperature=4.0, *, axis=-1, **kwargs):
        super().__init__(temperature, **kwargs)
        self.axis = axis

    def call(self, teacher_features, student_features, *, mask=None):
        return channel_wise_distillation(
            teacher_features,
            student_features,
            temperature=ops.convert_to_tensor(self.temperature),
            axis=self.axis,
            mask=mask,
        )

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        if len(teacher_shape) < 3:
            raise ValueError(
                "ChannelWiseDistillation compares distributions over "
                "positions. Received: features of shape "
                f"{tuple(teacher_shape)}, which have none. Tap layers whose "
                "outputs are maps or sequences; for class logits use "
                "`keras_kd.losses.SoftTargets`."
            )

    def options(self):
        return {"axis": self.axis}
