"""Contrastive representation distillation, negatives from the batch."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import unit_length
from keras_kd._src.losses.tempered_loss import TemperedLoss


def contrastive_representation(
    teacher_embedding, student_embedding, sample_weight, *, temperature=0.07
):
    """CRD: InfoNCE loss of each sample's counterpart in the batch.

        s_ij = cosine(student_i, teacher_j) / temperature
        value_i = (log sum_j w_j exp(s_ij) - s_ii
                   + log sum_j w_j exp(s_ji) - s_ii) / 2

    Args:
        teacher_embedding: shape `(batch, dim)`.
        student_embedding: shape `(batch, dim)`.
        sample_weight: shape `(batch,)`; a sample of weight 0 is not used as a
            negative.
        temperature: temperature of the cosines, a positive number.

    Returns:
        Values in nats, shape `(batch,)`; 0 for a batch of one.

    Example:
    >>> embedding = ops.eye(2)
    >>> value = contrastive_representation(embedding, embedding, ops.ones(2))
    >>> bool(value[0] < 1e-5)
    True

    Reference: Tian, Krishnan and Isola, 2020, "Contrastive Representation
    Distillation", arXiv 1910.10699.
    """
    teacher, student = in_full_precision(teacher_embedding, student_embedding)
    weight = ops.cast(sample_weight, student.dtype)
    teacher, student = unit_length(teacher, -1), unit_length(student, -1)
    scores = ops.matmul(student, ops.transpose(teacher)) / temperature
    own = ops.diagonal(scores)
    student_to_teacher = _log_sum(scores, weight) - own
    teacher_to_student = _log_sum(ops.transpose(scores), weight) - own
    return (student_to_teacher + teacher_to_student) / 2.0


def _log_sum(scores, weight):
    present = weight > 0
    log_weight = ops.log(ops.where(present, weight, 1.0))
    scores = ops.where(present[None, :], scores + log_weight[None, :], -1e9)
    return ops.logsumexp(scores, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class ContrastiveRepresentation(TemperedLoss):
    """Contrastive representation distillation (CRD) within the batch.

    The student's embedding of a sample should be closer to the teacher's
    embedding of that sample than to those of other samples. This maximizes a
    lower bound of the mutual information between the two representations, and
    so transfers what distinguishes the samples. Both sides go through a trained
    projection to the same width (128 in the paper):

        Transfer(ContrastiveRepresentation(), teacher="pool", student="pool",
                 adapter=keras.layers.Dense(128),
                 teacher_adapter=keras.layers.Dense(128), weight=0.8)

    The negatives are the other samples of the batch, in both directions, and
    the loss is InfoNCE. The paper takes 16,384 negatives from a memory of N x
    128 per side, and a binary noise-contrastive loss, which needs each sample's
    index and memory that grows with the data: see `ContrastiveMemory`. Here
    larger batches give more negatives: use 64 samples or more. In a batch of
    one there is nothing to contrast, and the loss is 0. Usual weight: 0.8.

        s_ij = cosine(student_i, teacher_j) / temperature
        value_i = (log sum_j w_j exp(s_ij) - s_ii
                   + log sum_j w_j exp(s_ji) - s_ii) / 2, in nats

    Args:
        temperature: temperature of the cosines, 0.07 in the paper, or a
            `LearningRateSchedule` over training steps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_embedding: shape `(batch, dim)`.
        student_embedding: shape `(batch, dim)`.
        sample_weight: optional, shape `(batch,)`; also the weight of a sample
            as a negative.

    Returns:
        The weighted mean over samples, a scalar in nats.

    Raises:
        ValueError: `temperature` is not positive; the embeddings' widths
            differ, or they are not vectors.

    Example:
    >>> loss = ContrastiveRepresentation()
    >>> right, wrong = ops.eye(2), ops.flip(ops.eye(2), axis=0)
    >>> bool(loss(right, right) < loss(right, wrong))
    True

    References:
        Tian, Krishnan and Isola, 2020, arXiv 1910.10699.
        van den Oord, Li and Vinyals, 2018, arXiv 1807.03748 (InfoNCE).
    """

    per_sample = True

    def __init__(self, temperature=0.07, **kwargs):
        super().__init__(temperature, **kwargs)

    def call(self, teacher_embedding, student_embedding, *, sample_weight):
        return contrastive_representation(
            teacher_embedding,
            student_embedding,
            sample_weight,
            temperature=ops.convert_to_tensor(self.temperature),
        )

    def check_shapes(self, teacher_shape, student_shape):
        widths = teacher_shape[-1], student_shape[-1]
        ranks = len(teacher_shape), len(student_shape)
        if ranks != (2, 2) or widths[0] != widths[1]:
            raise ValueError(
                "ContrastiveRepresentation compares embeddings of shape "
                "(batch, dim), of the same width. Received: teacher "
                f"{tuple(teacher_shape)}, student {tuple(student_shape)}. Tap "
                "pooled features, and give the transfer "
                "`adapter=keras.layers.Dense(128)` and "
                "`teacher_adapter=keras.layers.Dense(128)`."
            )
