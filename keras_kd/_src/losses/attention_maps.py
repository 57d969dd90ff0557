"""Attention maps of transformers, compared entry by entry or row by row."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.distillation_loss import logits_of
from keras_kd._src.losses.positions import at_positions
from keras_kd._src.losses.positions import fits
from keras_kd._src.losses.probabilities import kl_divergence
from keras_kd._src.specs import same_shape


def attention_map_matching(
    teacher_maps, student_maps, *, from_scores=False, mask=None
):
    """TinyBERT: mean squared difference of the attention maps of a sample.

        value = mean_{heads, queries, keys} (teacher - student)^2

    Args:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        from_scores: whether the maps are scores before the softmax; scores of
            -100 or less are masked keys, and count as 0.
        mask: optional, of a shape that broadcasts to the maps': True for the
            entries that count.

    Returns:
        Values of shape `(batch,)`.

    Example:
    >>> teacher, student = [[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]]
    >>> float(attention_map_matching(teacher, student)[0])
    0.25

    Reference: Jiao et al., 2019, "TinyBERT: Distilling BERT for Natural
    Language Understanding", arXiv 1909.10351.
    """
    teacher_maps, student_maps = in_full_precision(teacher_maps, student_maps)
    if from_scores:
        teacher_maps = _without_masked_keys(teacher_maps)
        student_maps = _without_masked_keys(student_maps)
    error = teacher_maps - student_maps
    if mask is not None:
        error = ops.where(mask, error, ops.zeros_like(error))
    return _mean_of_present(ops.square(error), mask, axis=(1, 2, 3))


def _without_masked_keys(scores):
    return ops.where(scores <= -100.0, ops.zeros_like(scores), scores)


def attention_divergence(
    teacher_maps, student_maps, *, from_scores=False, mask=None
):
    """MiniLM: Kullback-Leibler divergence of attention maps, row by row.

        value = mean_{heads, queries} sum_keys p * (log p - log q)
        p, q = rows of the teacher's and the student's map, scaled to sum to 1

    Args:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        from_scores: whether the maps are scores before the softmax.
        mask: optional, of a shape that broadcasts to the maps': True for the
            entries that count; a query without any is left out.

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
    queries = None
    if mask is not None:
        queries = ops.any(mask, axis=-1)
        teacher_maps, student_maps = (
            ops.where(mask, maps, ops.full_like(maps, -1e30))
            for maps in (teacher_maps, student_maps)
        )
    teacher_log_probs = ops.log_softmax(teacher_maps, axis=-1)
    student_log_probs = ops.log_softmax(student_maps, axis=-1)
    divergence = kl_divergence(teacher_log_probs, student_log_probs)
    return _mean_of_present(divergence, queries, axis=(1, 2))


def _mean_of_present(values, mask, axis):
    """The mean of the values that a mask keeps; 0 where it keeps none."""
    if mask is None:
        return ops.mean(values, axis=axis)
    mask = ops.cast(mask, values.dtype)
    # The mask may have fewer heads than the values: means, not sums.
    share = ops.maximum(ops.mean(mask, axis=axis), 1e-12)
    return ops.mean(values * mask, axis=axis) / share


class AttentionMapLoss(DistillationLoss):
    """Base class of losses of attention maps, by the static `comparison`."""

    per_sample = True
    # Static: both maps and `from_scores=` -> values.
    comparison = None

    def __init__(self, *, from_scores=False, **kwargs):
        super().__init__(**kwargs)
        self.from_scores = from_scores

    def call(self, teacher_maps, student_maps, *, mask=None):
        return self.comparison(
            teacher_maps, student_maps, mask=mask, **self.options()
        )

    def _positions_shape(self, shape):
        return [shape[0], shape[2]]  # The tokens, as queries.

    def weights_at(self, maps, weights):
        return self._of_tokens(maps, weights, resize=True)

    def mask_at(self, maps, mask, resize=True):
        if len(mask.shape) != 4:
            return self._of_tokens(maps, mask, resize)
        if not all(map(fits, mask.shape[1:], maps.shape[1:])):
            return None
        return ops.cast(mask, "float32")

    def _of_tokens(self, maps, entries, resize):
        """Entries per token, as those of queries times keys; else None."""
        _, _, queries, keys = maps.shape
        batch = entries.shape[0]
        queries = at_positions(entries, (batch, queries), resize)
        keys = at_positions(entries, (batch, keys), resize)
        if queries is not None:
            queries = queries[:, None, :, None]
        if keys is not None:
            keys = keys[:, None, None, :]
        if queries is None or keys is None:
            return keys if queries is None else queries
        return queries * keys

    def _without_absent(self, maps, present):
        return maps  # `call` leaves absent entries out.

    def _mask(self, maps, present):
        return present

    def check_shapes(self, teacher_shape, student_shape):
        shapes = tuple(teacher_shape), tuple(student_shape)
        if len(shapes[0]) != 4 or not same_shape(*shapes):
            raise ValueError(
                f"{type(self).__name__} compares attention maps (batch, heads, "
                "queries, keys) of the same shape. Received: teacher "
                f"{shapes[0]}, student {shapes[1]}. Tap attention layers with "
                "'layer:scores', and where heads or tokens differ, give the "
                "transfer `adapter=keras_kd.layers.AttentionAdapter()`."
            )

    def options(self):
        return {"from_scores": self.from_scores}


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionMapMatching(AttentionMapLoss):
    """Attention map matching (TinyBERT): the maps of two transformers.

    For a student that is a narrower, shallower transformer: tap the scores of
    its layer m and of the teacher's layer m * (teacher's depth / student's
    depth), one pair for each layer of the student. Where heads or tokens
    differ, give the transfer an `AttentionAdapter`. Usual weight: 1 on scores;
    on maps, start near keys^2 (see below).

        value = mean_{heads, queries, keys} (teacher - student)^2

    The paper compares scores before the softmax (and finds that better), and so
    does the authors' code, in which masked keys (scores of -100 or less) count
    as 0. By default the maps here are after the softmax, as
    `keras.layers.MultiHeadAttention` returns them (tap `"attention:scores"`).
    Their entries are about 1 / keys, so the squares are smaller by a factor of
    about keys^2. `from_scores=True` is for layers that return scores before the
    softmax.

    Args:
        from_scores: whether the maps are scores before the softmax.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: the inputs are not attention maps; shapes differ.

    Example:
    >>> loss = AttentionMapMatching()
    >>> float(loss([[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]]))
    0.25

    Reference: Jiao et al., 2019, arXiv 1909.10351.
    """

    comparison = staticmethod(attention_map_matching)


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionDivergence(AttentionMapLoss):
    """Attention divergence (MiniLM): KL of each query's attention.

    The paper transfers the last layer's maps only, which leaves the student's
    depth free, together with the value relation: for that, add a transfer of
    `SelfAttentionRelation` between the taps `"attention/value"` of both models.
    Usual weight: 1 for each of the two.

        value = mean_{heads, queries} sum_keys p * (log p - log q)

    Tap the maps with `"attention:scores"`; `keras.layers.MultiHeadAttention`
    returns them after the softmax, where a student's entry of 0 (masked, or
    lost to underflow) gets no gradient. Rows are scaled to sum to 1; a row of
    zeros counts as uniform attention. Rows of padded queries count like the
    others, as a map does not show which they are.

    Args:
        from_scores: whether the maps are scores before the softmax.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples in nats, a scalar.

    Raises:
        ValueError: the inputs are not attention maps; shapes differ.

    Example:
    >>> loss = AttentionDivergence()
    >>> round(float(loss([[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]])), 4)
    0.6931

    Reference: Wang et al., 2020, arXiv 2002.10957.
    """

    comparison = staticmethod(attention_divergence)
