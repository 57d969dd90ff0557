"""Any Keras loss, with the weights and the mask of a transfer."""

import keras
from keras import ops

from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import reduced
from keras_kd._src.losses.positions import broadcast_weights


class _LastAxis(DistillationLoss):
    """Finds the positions of features whose channels are on the last axis."""

    per_sample = True


_last_axis = _LastAxis(name="last_axis")


def positions_of(loss):
    """The loss that handles the positions: ours handle their own."""
    return loss if isinstance(loss, DistillationLoss) else _last_axis


def call_loss(loss, teacher, student, sample_weight, mask, context):
    """The loss, a scalar; weights and mask may be per sample or position.

    For `ChunkedLogits`, a `PositionTerm`: all terms are computed in one pass
    later.
    """
    if isinstance(student, ChunkedLogits):
        weights = {"sample_weight": sample_weight, "mask": mask}
        return loss.position_term(teacher, student, **weights, **context)
    if isinstance(loss, DistillationLoss):
        return loss(teacher, student, sample_weight, mask=mask, **context)
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return loss(teacher, student, sample_weight, **context)
    teacher, student = (
        ops.convert_to_tensor(side, dtype=loss.dtype)
        for side in (teacher, student)
    )
    with keras.name_scope(loss.name):
        values = loss.call(teacher, student)
    rank = len(values.shape)
    if rank == 0:
        return loss(teacher, student, sample_weight)
    present = _last_axis._present(student, mask, sample_weight)
    if rank == 1 and len(student.shape) > 2 and present is not None:
        # One value per sample: computed again without absent positions.
        sample_weight, sides, _ = _last_axis._of_samples(
            sample_weight, mask, (teacher, student), present
        )
        values, mask = loss.call(*sides), None
    if sample_weight is not None:
        sample_weight = broadcast_weights(sample_weight, ops.shape(values))
    if mask is not None:
        mask = _last_axis.mask_at(student, mask)
    return reduced(loss, values, sample_weight, mask)
