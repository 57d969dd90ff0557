"""Activation boundaries: which of the teacher's neurons are active."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def activation_boundaries(
    teacher_features, student_features, *, margin=1.0, mask=None
):
    """AB: squared hinge loss on the signs of the teacher's pre-activations.

        value = sum of max(0, margin - s)^2 where t > 0
                     + max(0, margin + s)^2 elsewhere

    Args:
        teacher_features: pre-activations, shape `(batch, ...)`.
        student_features: pre-activations, the same shape.
        margin: how far from 0 the student's neurons are pushed.
        mask: optional, the features' shape without the last axis: True at
            positions that count.

    Returns:
        Sums over all neurons of a sample, shape `(batch,)`.

    Example:
    >>> value = activation_boundaries([[5.0, -5.0]], [[0.5, 0.5]])
    >>> float(value[0])
    2.5

    Reference: Heo et al., 2019, "Knowledge Transfer via Distillation of
    Activation Boundaries Formed by Hidden Neurons", arXiv 1811.03233.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    active = teacher_features > 0.0
    signed = ops.where(active, student_features, -student_features)
    missing = ops.square(ops.relu(margin - signed))
    if mask is not None:
        mask = ops.cast(ops.expand_dims(mask, -1), missing.dtype)
        missing = missing * mask
    return ops.sum(missing, axis=tuple(range(1, len(missing.shape))))


@keras.saving.register_keras_serializable(package="keras_kd")
class ActivationBoundaries(DistillationLoss):
    """Activation boundaries (AB): the same neurons are active.

    For ReLU networks, whose decisions depend more on which neurons are active
    than on how strongly. Only the signs of the teacher's pre-activations
    matter, so the scale of the student's may differ. Tap both sides before the
    activation (`"relu1:input"`): after a ReLU nothing is negative. Where
    channels or positions differ, give the transfer a `FeatureAdapter` or, as
    the authors do, a 1x1 convolution and a batch normalization.

        value = sum of max(0, margin - s)^2 where t > 0
                     + max(0, margin + s)^2 elsewhere

    As in the authors' code, the value is a sum over all neurons of a sample:
    divide the weight by their number if maps are large. The authors train in
    two stages, first with this loss and then on the task; here both terms are
    trained together. Usual weight: 0.003, halved for each tap further from the
    output.

    Masked tokens are left out.

    Args:
        margin: a positive number, 1 in the paper.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: pre-activations, shape `(batch, ...)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `margin` is not positive; shapes differ.

    Example:
    >>> loss = ActivationBoundaries()
    >>> float(loss([[5.0, -5.0]], [[0.5, 0.5]]))
    2.5

    Reference: Heo et al., 2019, arXiv 1811.03233.
    """

    per_sample = True

    def __init__(self, margin=1.0, **kwargs):
        super().__init__(**kwargs)
        self.margin = number(margin, "margin", above=0.0)

    def call(self, teacher_features, student_features, *, mask=None):
        return activation_boundaries(
            teacher_features, student_features, margin=self.margin, mask=mask
        )

    def options(self):
        return {"margin": self.margin}
