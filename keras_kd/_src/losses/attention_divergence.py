"""MiniLM's attention transfer: where each token looks."""

import keras
from keras import ops

from keras_kd._src.losses.attention_map_matching import check_attention_maps
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.soft_targets import logits_of


def attention_divergence(teacher_maps, student_maps, *, from_scores=False):
    """Kullback-Leibler divergence of attention maps, row by row.

        value = mean_{heads, queries} sum_keys p * (log p - log q)
        p, q = rows of the teacher's and the student's map, made to sum to 1

    Args:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        from_scores: whether these are scores before the softmax.

    Returns:
        Values in nats, shape `(batch,)`.

    Example:
    >>> teacher, student = [[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]]
    >>> round(float(attention_divergence(teacher, student)[0]), 4)
    0.6931

    Reference: Wang et al., 2020, "MiniLM: Deep Self-Attention Distillation
    for Task-Agnostic Compression of Pre-Trained Transformers", arXiv
    2002.10957.
    """
    teacher_maps, student_maps = in_full_precision(teacher_maps, student_maps)
    if not from_scores:
        teacher_maps = logits_of(teacher_maps)
        student_maps = logits_of(student_maps)
    teacher_log_probs = ops.log_softmax(teacher_maps, axis=-1)
    student_log_probs = ops.log_softmax(student_maps, axis=-1)
    divergence = ops.sum(
        ops.exp(teacher_log_probs) * (teacher_log_probs - student_log_probs),
        axis=-1,
    )
    return ops.mean(divergence, axis=(1, 2))


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionDivergence(DistillationLoss):
    """MiniLM: the student's tokens look where the teacher's look.

    The paper transfers the last layer's maps only, which leaves the student's
    depth free, together with the relation among the values: add a transfer of
    `SelfAttentionRelation` between the two `"attention/value"`. Usual weight:
    1 for each of the two.

        value = mean_{heads, queries} sum_keys p * (log p - log q)

    Tap the maps with `"attention:scores"`; `keras.layers.MultiHeadAttention`
    gives them after the softmax, where an entry of the student's that is 0
    (masked, or underflown) gets no gradient. Rows are made to sum to 1; a row
    of zeros reads as even attention. Rows of padded queries count like the
    others: a map does not tell which those are.

    Args:
        from_scores: whether the views are scores before the softmax.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples in nats, a scalar.

    Raises:
        ValueError: the views are no attention maps; shapes differ.

    Example:
    >>> loss = AttentionDivergence()
    >>> round(float(loss([[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]])), 4)
    0.6931

    Reference: Wang et al., 2020, arXiv 2002.10957.
    """

    per_sample = True

    def __init__(self, *, from_scores=False, **kwargs):
        super().__init__(**kwargs)
        self.from_scores = from_scores

    def call(self, teacher_maps, student_maps):
        return attention_divergence(
            teacher_maps, student_maps, from_scores=self.from_scores
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_attention_maps(self, teacher_shape, student_shape)

    def get_config(self):
        return {**super().get_config(), "from_scores": self.from_scores}
