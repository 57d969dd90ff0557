"""Attention transfer: maps of where activations are strong."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import check_positions
from keras_kd._src.losses.features import mask_of_both
from keras_kd._src.losses.features import mean_of_present
from keras_kd._src.losses.features import same_positions


def attention_map(features, *, power=2, axis=-1, total=ops.mean):
    """Attention map (AT): the strength of activations over positions.

        map = total_channels |features|^power, flattened and divided by its
        L2 norm

    Args:
        features: shape `(batch, positions..., channels)`.
        power: exponent; larger ones stress the strongest activations.
        axis: the channels' axis.
        total: how the channels are joined, `ops.mean` or `ops.sum`.

    Returns:
        Shape `(batch, positions)`, rows of L2 norm 1 (0 if all features are 0).

    Example:
    >>> [round(float(v), 2) for v in attention_map([[[2.0], [0.0]]])[0]]
    [1.0, 0.0]

    Reference: Zagoruyko and Komodakis, 2017, arXiv 1612.03928.
    """
    (features,) = in_full_precision(features)
    strength = total(ops.power(ops.abs(features), power), axis=axis)
    strength = ops.reshape(strength, (ops.shape(strength)[0], -1))
    squares = ops.sum(ops.square(strength), axis=-1, keepdims=True)
    return strength / ops.sqrt(ops.maximum(squares, 1e-24))


def attention_transfer(
    teacher_features,
    student_features,
    *,
    power=2,
    form="code",
    axis=-1,
    mask=None,
):
    """AT: difference of the two attention maps of each sample.

        code:  mean_positions (map(teacher) - map(student))^2
        paper: |map(teacher) - map(student)|_2           (Eq. 2)

    Args:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same rank; the numbers of positions may differ
            (the larger map is then averaged down to the smaller), and those of
            channels.
        power: exponent of the activations, 2 in the paper.
        form: `"code"`, the authors' implementation, or `"paper"`.
        axis: the channels' axis.
        mask: optional, shape `(batch, positions...)`: True at positions that
            count; the features of the others are 0. Resized where the numbers
            of positions differ.

    Returns:
        Values of shape `(batch,)`.

    Example:
    >>> value = attention_transfer([[[1.0], [0.0]]], [[[0.0], [1.0]]])
    >>> round(float(value[0]), 3)
    1.0

    Reference: Zagoruyko and Komodakis, 2017, "Paying More Attention to
    Attention", arXiv 1612.03928.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    mask = mask_of_both(mask, teacher_features, student_features, axis)
    teacher_features, student_features = same_positions(
        teacher_features, student_features, axis
    )
    total = ops.mean if form == "code" else ops.sum
    difference = attention_map(
        teacher_features, power=power, axis=axis, total=total
    ) - attention_map(student_features, power=power, axis=axis, total=total)
    if form == "code":
        return mean_of_present(ops.square(difference), mask)
    # The floor keeps the root's gradient finite where the maps are equal.
    squares = ops.sum(ops.square(difference), axis=-1)
    return ops.sqrt(ops.maximum(squares, 1e-24))


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionTransfer(DistillationLoss):
    """Attention transfer (AT): where the teacher's activations are strong.

    No adapter is needed when only channels or map sizes differ: the channels
    are summed up, and the larger map is averaged down. Masked tokens are left
    out (or set to zero, if the sides differ in their number of positions). The
    authors' code and their Eq. 2 differ, and need different weights: 1000 for
    `form="code"` (their setting), about 1 for `form="paper"`.

        code:  value = mean_positions (map(teacher) - map(student))^2
        paper: value = |map(teacher) - map(student)|_2
        map(f) = sum_channels |f|^power, scaled to unit L2 norm

    Args:
        power: exponent of the activations, 2 in the paper.
        form: `"code"` (the default) or `"paper"`.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, positions..., channels)`.
        student_features: the same rank.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `form` is unknown; a side has no positions; ranks differ.

    Example:
    >>> loss = AttentionTransfer(form="paper")
    >>> round(float(loss([[[1.0], [0.0]]], [[[0.0], [1.0]]])), 4)
    1.4142

    Reference: Zagoruyko and Komodakis, 2017, arXiv 1612.03928.
    """

    per_sample = True

    def __init__(self, *, power=2, form="code", axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.power = power
        self.form = one_of(form, "form", ("code", "paper"))
        self.axis = axis

    def call(self, teacher_features, student_features, *, mask=None):
        return attention_transfer(
            teacher_features, student_features, mask=mask, **self.options()
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_positions(self, teacher_shape, student_shape)

    def options(self):
        return {"power": self.power, "form": self.form, "axis": self.axis}
