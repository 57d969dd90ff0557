"""Factor transfer: the teacher's features, encoded as factors."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import absolute
from keras_kd._src.losses.features import check_positions
from keras_kd._src.losses.features import mask_of_both
from keras_kd._src.losses.features import mean_of_present
from keras_kd._src.losses.features import same_positions
from keras_kd._src.losses.features import unit_length


def factor_transfer(
    teacher_factors,
    student_factors,
    *,
    form="factor",
    distance="l1",
    axis=-1,
    mask=None,
):
    """FT: mean distance of two factors, scaled to unit length.

        l1: value = mean |unit(t) - unit(s)|
        l2: value = mean (unit(t) - unit(s))^2

    Args:
        teacher_factors: shape `(batch, ...)`.
        student_factors: the same shape; with `form="map"` the numbers of
            positions may differ (the larger map is then averaged down), and
            those of channels.
        form: what is scaled to unit length: `"factor"`, all values of a sample
            as one vector, or `"map"`, the means of their squares over the
            channels.
        distance: `"l1"` or `"l2"`.
        axis: the channels' axis.
        mask: optional, shape `(batch, positions...)`: True at positions that
            count; the factors of the others are 0. Resized where the numbers
            of positions differ.

    Returns:
        Values of shape `(batch,)`.

    Example:
    >>> float(factor_transfer([[[9.0], [0.0]]], [[[0.0], [1.0]]])[0])
    1.0

    Reference: Kim, Park and Kwak, 2018, "Paraphrasing Complex Network: Network
    Compression via Factor Transfer", arXiv 1802.04977.
    """
    factors = in_full_precision(teacher_factors, student_factors)
    mask = mask_of_both(mask, *factors, axis)
    if form == "map":
        factors = [
            ops.mean(ops.square(factor), axis=axis)
            for factor in same_positions(*factors, axis)
        ]
    teacher, student = (
        unit_length(ops.reshape(factor, (ops.shape(factor)[0], -1)), -1)
        for factor in factors
    )
    error = teacher - student
    distances = ops.square(error) if distance == "l2" else absolute(error)
    return mean_of_present(distances, mask)


@keras.saving.register_keras_serializable(package="keras_kd")
class FactorTransfer(DistillationLoss):
    """Factor transfer (FT): the student reproduces the teacher's factors.

    A paraphraser, an auto-encoder of the teacher's last map, is trained first.
    The student then learns to produce its code, the factors, through a
    translator. Both are adapters of the transfer: the frozen paraphraser is
    `teacher_adapter`, the translator is `adapter`.

        value = mean |unit(t) - unit(s)|, unit scales a sample to L2 norm 1

    `form="factor"` is the paper's, except for a mean in place of its norm, as
    in published code. Under the same name, benchmark repositories compare only
    the maps of the factors' mean squares: `form="map"`, for which the numbers
    of channels may differ. Usual weight: 500 in the authors' code, 200 with
    `form="map"`. Masked tokens are left out.

    Args:
        form: `"factor"` or `"map"`.
        distance: `"l1"` (the default) or `"l2"`, the squared one.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_factors: shape `(batch, positions..., channels)`.
        student_factors: the same shape; the same rank with `form="map"`.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: `form` or `distance` is unknown; the shapes differ.

    Example:
    >>> loss = FactorTransfer()
    >>> float(loss([[[9.0], [0.0]]], [[[0.0], [1.0]]]))
    1.0

    Reference: Kim, Park and Kwak, 2018, arXiv 1802.04977.
    """

    per_sample = True

    def __init__(self, *, form="factor", distance="l1", axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.form = one_of(form, "form", ("factor", "map"))
        self.distance = one_of(distance, "distance", ("l1", "l2"))
        self.axis = axis

    def call(self, teacher_factors, student_factors, *, mask=None):
        return factor_transfer(
            teacher_factors, student_factors, mask=mask, **self.options()
        )

    def check_shapes(self, teacher_shape, student_shape):
        if self.form == "factor":
            super().check_shapes(teacher_shape, student_shape)
        else:
            check_positions(self, teacher_shape, student_shape)

    def options(self):
        return {
            "form": self.form,
            "distance": self.distance,
            "axis": self.axis,
        }
