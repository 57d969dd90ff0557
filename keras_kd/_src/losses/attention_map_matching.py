"""TinyBERT's attention loss: attention maps, entry by entry."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def attention_map_matching(teacher_maps, student_maps, *, from_scores=False):
    """Mean squared difference of the attention maps of each sample.

        value = mean_{heads, queries, keys} (teacher - student)^2

    Args:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        from_scores: whether these are scores before the softmax, of which
            those of -100 or less are masked keys, and count as 0.

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
    return ops.mean(ops.square(teacher_maps - student_maps), axis=(1, 2, 3))


def _without_masked_keys(scores):
    return ops.where(scores <= -100.0, ops.zeros_like(scores), scores)


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionMapMatching(DistillationLoss):
    """TinyBERT's loss between the attention maps of two transformers.

    For a student that is a narrower, shallower transformer: tap the scores of
    its layer m and of the teacher's layer m * (teacher's depth / student's
    depth), as many pairs as the student has layers. Where heads or tokens
    differ, give the transfer an `AttentionAdapter`. Usual weight: 1 on scores;
    on maps start near keys^2, see below.

        value = mean_{heads, queries, keys} (teacher - student)^2

    The paper compares scores before the softmax (and finds that better); so
    does the authors' code, where scores of -100 or less, which are masked
    keys, count as 0. `keras.layers.MultiHeadAttention` gives maps after the
    softmax (tap `"attention:scores"`), which are the default here. Their
    entries are about 1 / keys, and so the squares are smaller by about
    keys^2. `from_scores=True` is for layers that give the scores.

    Args:
        from_scores: whether the views are scores before the softmax.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_maps: shape `(batch, heads, queries, keys)`.
        student_maps: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: the views are no attention maps; shapes differ.

    Example:
    >>> loss = AttentionMapMatching()
    >>> float(loss([[[[1.0, 0.0]]]], [[[[0.5, 0.5]]]]))
    0.25

    Reference: Jiao et al., 2019, arXiv 1909.10351.
    """

    per_sample = True

    def __init__(self, *, from_scores=False, **kwargs):
        super().__init__(**kwargs)
        self.from_scores = from_scores

    def call(self, teacher_maps, student_maps):
        return attention_map_matching(
            teacher_maps, student_maps, from_scores=self.from_scores
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_attention_maps(self, teacher_shape, student_shape)

    def get_config(self):
        return {**super().get_config(), "from_scores": self.from_scores}


def check_attention_maps(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both are attention maps of one shape."""
    shapes = tuple(teacher_shape), tuple(student_shape)
    alike = all(a == b or None in (a, b) for a, b in zip(*shapes))
    if not (len(shapes[0]) == len(shapes[1]) == 4 and alike):
        raise ValueError(
            f"{type(loss).__name__} compares attention maps (batch, heads, "
            "queries, keys) of the same shape. Received: teacher "
            f"{shapes[0]}, student {shapes[1]}. Tap attention layers with "
            "'layer:scores', and where heads or tokens differ, give the "
            "transfer `adapter=keras_kd.layers.AttentionAdapter()`."
        )
