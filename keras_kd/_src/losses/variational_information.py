"""Variational information distillation: how well the teacher is predicted."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.specs import same_shape


def variational_information(teacher_features, prediction, *, axis=-1):
    """VID: negative log-likelihood of the teacher's features, Gaussian.

        mean, variance = the two halves of the prediction's channels
        value = mean_channels 1/2 ((teacher - mean)^2 / variance
                                   + log variance)

    Args:
        teacher_features: shape `(batch, ..., channels)`.
        prediction: made from the student's features, shape
            `(batch, ..., 2 * channels)`: means, then variances.
        axis: the channels' axis.

    Returns:
        Values in nats (up to a constant), shape `(batch, ...)`, without the
        channels' axis.

    Example:
    >>> float(variational_information([[3.0]], [[1.0, 1.0]])[0])
    2.0

    Reference: Ahn et al., 2019, "Variational Information Distillation for
    Knowledge Transfer", arXiv 1904.05835.
    """
    teacher_features, prediction = in_full_precision(
        teacher_features, prediction
    )
    mean, variance = ops.split(prediction, 2, axis=axis)
    # The regressor's minimum, for predictions that come from elsewhere.
    variance = ops.maximum(variance, 1e-5)
    error = ops.square(teacher_features - mean)
    return 0.5 * ops.mean(error / variance + ops.log(variance), axis=axis)


@keras.saving.register_keras_serializable(package="keras_kd")
class VariationalInformation(DistillationLoss):
    """Variational information distillation (VID): predict the teacher.

    A lower bound on the mutual information of the two layers is maximized.
    Unlike in a plain squared error, each of the teacher's channels is weighted
    by how well it can be predicted: a channel that the student can't follow
    gets a large variance, and counts little. The variances are trained, as part
    of the adapter, which this loss needs:

        Transfer(
            VariationalInformation(),
            teacher="stage3",
            student="stage3",
            adapter=VariationalRegressor(),
        )

        value = mean_{channels, positions} 1/2 ((teacher - mean)^2 / variance
                                                + log variance)

    Usual weight: 1 for each pair. The value may be negative.

    Args:
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ..., channels)`.
        prediction: shape `(batch, ..., 2 * channels)`, means and variances.
            Variances below 1e-5 count as 1e-5.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples and positions, a scalar.

    Raises:
        ValueError: the prediction does not have twice the teacher's channels,
            or has other positions.

    Example:
    >>> loss = VariationalInformation()
    >>> float(loss([[3.0]], [[1.0, 1.0]]))
    2.0

    Reference: Ahn et al., 2019, arXiv 1904.05835.
    """

    def __init__(self, *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, teacher_features, prediction):
        return variational_information(
            teacher_features, prediction, axis=self.axis
        )

    def check_shapes(self, teacher_shape, student_shape):
        expected = list(teacher_shape)
        channels = expected[self.axis]
        expected[self.axis] = channels and 2 * channels
        if not same_shape(expected, student_shape):
            raise ValueError(
                "VariationalInformation needs a mean and a variance for each "
                "of the teacher's channels. Received: teacher "
                f"{tuple(teacher_shape)}, student {tuple(student_shape)}, "
                f"expected {tuple(expected)}. Give the transfer "
                "`adapter=keras_kd.layers.VariationalRegressor()`."
            )

    def options(self):
        return {"axis": self.axis}
