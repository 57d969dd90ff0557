"""Teacher-bounded regression: the labels, until the student is better."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.true_class import one_set


def bounded_regression(teacher_outputs, student_outputs, labels, *, margin=0.0):
    """Squared error, 0 where the student beats the teacher by a margin.

        error(x) = sum_outputs (x - labels)^2
        value = error(student) if error(student) + margin > error(teacher)
                else 0

    Args:
        teacher_outputs: shape `(batch, ..., outputs)`.
        student_outputs: the same shape.
        labels: the numbers to predict, the same shape; for one output the last
            axis may be left out.
        margin: by how much the student's error must be below the teacher's for
            its value to be 0.

    Returns:
        Values in squared units of the labels, shape `(batch, ...)`.

    Raises:
        ValueError: the labels' shape is not that of the outputs.

    Example:
    >>> values = bounded_regression(
    ...     [[1.0], [3.0]], [[2.0], [2.0]], [[0.0], [0.0]]
    ... )
    >>> [float(value) for value in values]
    [4.0, 0.0]

    Reference: Chen et al., 2017, "Learning Efficient Object Detection Models
    with Knowledge Distillation", NeurIPS.
    """
    teacher_outputs, student_outputs = in_full_precision(
        teacher_outputs, student_outputs
    )
    labels = _targets(labels, student_outputs)
    bound = ops.sum(ops.square(teacher_outputs - labels), axis=-1)
    error = ops.sum(ops.square(student_outputs - labels), axis=-1)
    return ops.where(error + margin > bound, error, ops.zeros_like(error))


def _targets(labels, outputs):
    labels = ops.cast(one_set(labels), outputs.dtype)
    if len(labels.shape) == len(outputs.shape) - 1 and outputs.shape[-1] == 1:
        labels = ops.expand_dims(labels, axis=-1)
    # Anything else would broadcast, and compare samples with other samples.
    same_rank = len(labels.shape) == len(outputs.shape)
    if not same_rank or labels.shape[1:] != outputs.shape[1:]:
        raise ValueError(
            "BoundedRegression needs labels of the outputs' shape. Received: "
            f"labels of shape {tuple(labels.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}. Train on data with one number for each "
            "output."
        )
    return labels


@keras.saving.register_keras_serializable(package="keras_kd")
class BoundedRegression(DistillationLoss):
    """Teacher-bounded regression: labels, until the student is better.

    A teacher's numbers may be arbitrarily far off, so they are not used as
    targets. Instead the teacher's error is a bound: samples on which the
    student is better by the margin have the value 0. Not for classes: `labels`
    are the numbers to predict, and -1 is a number like any other, so give
    unlabeled samples the weight 0.

        error(x) = sum_outputs (x - labels)^2
        value = error(student) if error(student) + margin > error(teacher)
                else 0

    The value jumps to 0 at the bound, as in the paper. Usual weight: 0.5,
    beside a task loss (smooth L1 there) of weight 1.

    Args:
        margin: by how much the student's error must be below the teacher's,
            0 or more, in squared units of the labels. The paper gives none.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_outputs: shape `(batch, ..., outputs)`.
        student_outputs: the same shape.
        labels: the same shape, or `(batch,)` for one output.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar in squared units of the labels.

    Raises:
        ValueError: `margin` is negative; shapes differ.

    Example:
    >>> loss = BoundedRegression(margin=1.0)
    >>> float(loss([[2.0]], [[1.0]], labels=[0.0]))
    0.0

    Reference: Chen et al., 2017, NeurIPS.
    """

    def __init__(self, *, margin=0.0, **kwargs):
        super().__init__(**kwargs)
        self.margin = number(margin, "margin", least=0.0)

    def call(self, teacher_outputs, student_outputs, *, labels):
        return bounded_regression(
            teacher_outputs, student_outputs, labels, margin=self.margin
        )

    def options(self):
        return {"margin": self.margin}
