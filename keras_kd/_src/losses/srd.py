"""Log-sum distance (SRD): the logarithm of a sum of differences."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def log_sum_distance(
    teacher_features, student_features, *, exponent=4.0, sample_weight=None
):
    """SRD: twice the logarithm of the batch's summed differences.

        value = 2 log sum_i weight_i sum_elements |t_i - s_i|^exponent

    Args:
        teacher_features: shape `(batch, ...)`.
        student_features: the same shape.
        exponent: a number above 1; large ones emphasize large differences.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        Shape `(batch,)`, the batch's value repeated for each sample; -110.5
        (for a sum of 1e-24) if there is no difference.

    Example:
    >>> value = log_sum_distance([[1.0, 3.0], [0.0, 1.0]], [[0.0] * 2] * 2)
    >>> [round(float(each), 4) for each in value]  # 2 log(1 + 81 + 0 + 1)
    [8.8377, 8.8377]

    Reference: Miles and Mikolajczyk, 2023, "Understanding the Role of the
    Projector in Knowledge Distillation", arXiv 2303.11098.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    powers = ops.power(ops.abs(teacher_features - student_features), exponent)
    of_samples = ops.sum(powers, axis=tuple(range(1, len(powers.shape))))
    if sample_weight is not None:
        of_samples = of_samples * ops.cast(sample_weight, of_samples.dtype)
    # The floor avoids log(0) if no sample counts, or nothing differs.
    value = 2.0 * ops.log(ops.maximum(ops.sum(of_samples), 1e-24))
    return value * ops.ones_like(of_samples)


@keras.saving.register_keras_serializable(package="keras_kd")
class LogSumDistance(DistillationLoss):
    """Log-sum distance (SRD): one soft distance for the whole batch.

    A high power emphasizes the largest differences, and the logarithm keeps
    them from dominating: the gradient depends on the relative, not the absolute
    size of the differences. So the loss needs little tuning, and suits a
    student of far lower capacity. It is meant for the features before the last
    layer. Both sides must be normalized, which the paper finds essential:

        kd.Transfer(
            kd.losses.LogSumDistance(),
            teacher="pool",
            student="pool",
            adapter=keras.Sequential(
                [
                    keras.layers.Dense(teacher_width, use_bias=False),
                    keras.layers.BatchNormalization(center=False, scale=False),
                ]
            ),
            teacher_adapter=keras.layers.BatchNormalization(
                center=False, scale=False
            ),
        )

        value = 2 log sum_i weight_i sum_elements |t_i - s_i|^exponent

    The sum is over all samples of a batch (or of a replica's part): a larger
    batch adds a constant to the value, without effect on the gradient. The
    value may be negative. Usual weight: start at 1, beside soft targets.

    Args:
        exponent: a number above 1, 4 in the paper.
        reduction, name, dtype: as in `DistillationLoss`. As the values are the
            same for all samples, keep the default, a mean.

    Call arguments:
        teacher_features: shape `(batch, ...)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The value, a scalar.

    Raises:
        ValueError: `exponent` is not above 1; shapes differ.

    Example:
    >>> loss = LogSumDistance()
    >>> value = loss([[1.0, 3.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]])
    >>> round(float(value), 4)
    8.8377

    Reference: Miles and Mikolajczyk, 2023, arXiv 2303.11098.
    """

    per_sample = True

    def __init__(self, exponent=4.0, **kwargs):
        super().__init__(**kwargs)
        self.exponent = number(exponent, "exponent", above=1.0)

    def call(self, teacher_features, student_features, *, sample_weight):
        return log_sum_distance(
            teacher_features,
            student_features,
            sample_weight=sample_weight,
            **self.options(),
        )

    def options(self):
        return {"exponent": self.exponent}
