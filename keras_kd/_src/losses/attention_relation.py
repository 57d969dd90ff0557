"""MiniLMv2: relations between tokens, by queries, keys or values."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.probabilities import kl_divergence


def self_attention_relation(
    teacher_vectors, student_vectors, *, relation_heads=48, present=None
):
    """MiniLMv2: divergence of the relations between tokens.

        relation(A) = softmax_keys(A_r A_r^T / sqrt(d_r)),  r: relation head
        value = mean_r sum_keys relation(teacher) * (log relation(teacher)
                                                     - log relation(student))

    Args:
        teacher_vectors: queries, keys or values, shape `(batch, tokens, dim)`
            or `(batch, tokens, heads, head_dim)`.
        student_vectors: likewise; the same number of tokens, but any number of
            heads and any size.
        relation_heads: into how many parts the units of all heads are split.
        present: optional, shape `(batch, tokens)`: False for padding, which is
            left out as keys.

    Returns:
        Values in nats, one for each token (as a query), shape
        `(batch, tokens)`.

    Example:
    >>> teacher, student = [[[2.0], [0.0]]], [[[0.0], [0.0]]]
    >>> values = self_attention_relation(teacher, student, relation_heads=1)
    >>> [round(float(value), 4) for value in values[0]]
    [0.6031, 0.0]

    Reference: Wang et al., 2020, "MiniLMv2: Multi-Head Self-Attention
    Relation Distillation for Compressing Pretrained Transformers", arXiv
    2012.15828.
    """
    teacher_log_probs, student_log_probs = (
        _log_relation(vectors, relation_heads, present)
        for vectors in in_full_precision(teacher_vectors, student_vectors)
    )
    divergence = kl_divergence(teacher_log_probs, student_log_probs)
    return ops.mean(divergence, axis=1)


def _log_relation(vectors, relation_heads, present):
    size = math.prod(vectors.shape[2:]) // relation_heads
    batch, tokens = ops.shape(vectors)[:2]
    heads = ops.reshape(vectors, (batch, tokens, relation_heads, size))
    scores = ops.einsum("bqrd,bkrd->brqk", heads, heads) / math.sqrt(size)
    if present is not None:
        present = ops.cast(present, "bool")[:, None, None, :]
        # Finite, so that a sample without tokens gives no NaN.
        scores = ops.where(present, scores, ops.full_like(scores, -1e30))
    return ops.log_softmax(scores, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class SelfAttentionRelation(DistillationLoss):
    """Self-attention relation (MiniLMv2): how tokens relate to each other.

    Compares relations between tokens, so that depth, width and number of heads
    of the student are free and no adapter is needed. Tap the projections of one
    attention layer on each side (the student's last; the teacher's last, or an
    upper middle one for a large teacher). The transfer sums the three
    relations, as the paper does. Usual weight: 1.

        Transfer(
            SelfAttentionRelation(relation_heads=12),
            teacher=[f"attention/{name}" for name in ("query", "key", "value")],
            student=[f"attention/{name}" for name in ("query", "key", "value")],
        )

    Here `"attention"` is the name of a `keras.layers.MultiHeadAttention`. With
    the values alone, and the same number of relation heads as attention heads,
    this is the value relation of MiniLM.

        relation(A) = softmax_keys(A_r A_r^T / sqrt(d_r)),  r: relation head
        value = mean_r sum_keys relation(teacher) * (log relation(teacher)
                                                     - log relation(student))

    Masked tokens (by a Keras mask on the student's vectors, or on the inputs of
    the tapped attention layer) and tokens of weight 0 are left out, as queries
    and as keys. The mean is over the batch's tokens; the paper takes the mean
    of each text first.

    Args:
        relation_heads: into how many parts the units of all heads are split: 48
            in the paper for a teacher of 768 units, 64 for one of 1024. It must
            divide the number of units of both sides.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_vectors: shape `(batch, tokens, dim)` or
            `(batch, tokens, heads, head_dim)`.
        student_vectors: likewise, with the same number of tokens.
        sample_weight: optional, shape `(batch,)` or `(batch, tokens)`.

    Returns:
        The weighted mean over tokens in nats, a scalar.

    Raises:
        ValueError: `relation_heads` is not a positive integer, or does not
            divide the number of units; the inputs are not token sequences of
            the same length.

    Example:
    >>> loss = SelfAttentionRelation(relation_heads=1)
    >>> round(float(loss([[[2.0], [0.0]]], [[[0.0], [0.0]]])), 4)
    0.3015

    References:
        Wang et al., 2020, "MiniLMv2", arXiv 2012.15828.
        Wang et al., 2020, "MiniLM" (the value relation), arXiv 2002.10957.
    """

    def __init__(self, relation_heads=48, **kwargs):
        super().__init__(**kwargs)
        self.relation_heads = integer(relation_heads, "relation_heads")

    def call(self, teacher_vectors, student_vectors, *, mask=None):
        return self_attention_relation(
            teacher_vectors,
            student_vectors,
            relation_heads=self.relation_heads,
            present=mask,
        )

    def _positions_shape(self, shape):
        return list(shape)[:2]

    def check_shapes(self, teacher_shape, student_shape):
        shapes = tuple(teacher_shape), tuple(student_shape)
        tokens = {shape[1] for shape in shapes if len(shape) in (3, 4)}
        if {len(shape) for shape in shapes} - {3, 4} or (
            len(tokens) == 2 and None not in tokens
        ):
            raise ValueError(
                "SelfAttentionRelation compares token sequences of the same "
                "length, (batch, tokens, dim) or (batch, tokens, heads, "
                f"head_dim). Received: teacher {shapes[0]}, student "
                f"{shapes[1]}. Tap the projections of attention layers, such "
                "as 'attention/query', that get the same tokens."
            )
        units = [math.prod(shape[2:]) for shape in shapes]
        if any(each % self.relation_heads for each in units):
            raise ValueError(
                "SelfAttentionRelation splits the units of both sides into "
                "`relation_heads`. Received: relation_heads="
                f"{self.relation_heads}, {units[0]} units of the teacher, "
                f"{units[1]} of the student. Both are divisible by "
                f"{math.gcd(*units)} and its divisors: take one of these."
            )

    def options(self):
        return {"relation_heads": self.relation_heads}
