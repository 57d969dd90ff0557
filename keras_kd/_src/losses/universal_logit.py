"""Universal logit distillation: sorted probabilities, whatever the classes."""

import keras
from keras import ops

from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.other_tokens import check_other_classes
from keras_kd._src.losses.other_tokens import entries_of
from keras_kd._src.losses.probabilities import log_probabilities
from keras_kd._src.losses.tempered_loss import TemperedLoss


def universal_logit(teacher_logits, student_logits, *, temperature=1.0):
    """Universal logit distillation (ULD): L1 of the sorted probabilities.

    Both sides' probabilities are sorted, so that no class needs a counterpart
    on the other side; the smaller vocabulary has zeros for the rest. Its
    gradient is by the student's probabilities in their sorted order.

        p = sort(softmax(teacher_logits / T));  q = sort(softmax(student / T))
        value = sum_ranks |p - q|

    Args:
        teacher_logits: shape `(..., teacher_classes)`.
        student_logits: shape `(..., student_classes)`.
        temperature: T, a positive number.

    Returns:
        Values between 0 and 2, shape `(...)`.

    Example:
    >>> value = universal_logit([[20.0, 0.0, 0.0]], [[0.0, 20.0]])
    >>> round(float(value[0]), 3)
    0.0

    Reference: Boizard et al., 2024, "Towards Cross-Tokenizer Distillation: the
    Universal Logit Distillation Loss for LLMs", arXiv 2402.12030.
    """
    teacher, student = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    teacher = ops.stop_gradient(teacher)
    probs = ops.exp(student)
    value, signs = _value_and_signs(teacher, ops.stop_gradient(student))
    # The exact value, with the gradient of sum(signs * probs): nothing of what
    # was sorted is kept for it but the signs.
    linear = ops.sum(signs * probs, axis=-1)
    return value + (linear - ops.stop_gradient(linear))


def _value_and_signs(teacher, student):
    """The L1 distance by rank, and for each class the sign of its part."""
    order = ops.argsort(student, axis=-1)
    student_probs = ops.exp(ops.take_along_axis(student, order, axis=-1))
    teacher_probs = ops.exp(ops.sort(teacher, axis=-1))
    # Ascending: what the smaller side lacks is at the front.
    missing = teacher.shape[-1] - student.shape[-1]
    without = teacher_probs[..., : max(missing, 0)]
    padded = _zeros_before(teacher_probs[..., max(missing, 0) :], -missing)
    difference = student_probs - padded
    value = ops.sum(ops.abs(difference), axis=-1)
    value = value + ops.sum(without, axis=-1)
    ranks = ops.argsort(order, axis=-1)
    signs = ops.take_along_axis(ops.sign(difference), ranks, axis=-1)
    return ops.stop_gradient(value), ops.stop_gradient(signs)


def _zeros_before(values, count):
    if count <= 0:
        return values
    axes = len(values.shape) - 1
    return ops.pad(values, [(0, 0)] * axes + [(count, 0)])


@keras.saving.register_keras_serializable(package="keras_kd")
class UniversalLogit(TemperedLoss):
    """Universal logit distillation (ULD): across tokenizers, by sorting.

    For a teacher and a student of any two vocabularies: compared is how the
    probability is spread, not over which tokens, so that it is no more than a
    hint beside the labels' loss. `LikelihoodMatching` compares what the texts
    say, and needs aligned tokens; this needs nothing of them. The values are
    bounded, and independent of the sizes of the vocabularies.

        value = sum_ranks |p - q|
        p = sort(softmax(teacher / T));  q = sort(softmax(student / T)),
        the smaller one with zeros for what it lacks

    The first token of the student is compared with the first of the teacher,
    the second with the second, and so on as far as both go; only tokens that
    count are (no prompt, no padding). Which of the teacher's do,
    `inputs["teacher_weight"]` tells, as `keras_kd.text.PairedTexts` makes it;
    without it both sides have the same positions.

    Both sides are sorted: at 32 k classes and more that takes longer than a
    softmax by far, and is worth a measurement. Usual weight: 1 to 1.5, beside
    the labels.

    Args:
        temperature: T, a positive number (the paper's is 1), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, teacher_length, teacher_classes)`.
        student_logits: shape `(batch, length, classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, length)`.
        mask: optional, shape `(batch, length)`; see `DistillationLoss`.
        inputs: the batch's inputs, by keyword: a dict with
            `"teacher_weight"`, above 0 at the teacher's tokens that count,
            shape `(batch, teacher_length)`. Optional.

    Returns:
        The weighted mean over the student's tokens that have a counterpart, a
        scalar.

    Raises:
        ValueError: `temperature` is not positive; the numbers of axes differ;
            the lengths do, and there is no `"teacher_weight"`.

    Example:
    >>> loss = UniversalLogit()
    >>> teacher, student = [[[2.0, 0.0, 0.0]]], [[[0.0, 0.0]]]
    >>> round(float(loss(teacher, student)), 4)
    0.787

    Reference: Boizard et al., 2024, arXiv 2402.12030.
    """

    expects_logits = True
    same_tokens = False

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)

    def call(self, teacher_logits, student_logits, *, mask, inputs=None):
        weight = entries_of(inputs, "teacher_weight")
        valid = None
        if weight is not None:
            teacher_logits, valid = _counterparts(
                teacher_logits, ops.convert_to_tensor(weight) > 0, mask
            )
        elif len(teacher_logits.shape) > 2:
            self._check_lengths(teacher_logits.shape, student_logits.shape)
        values = universal_logit(
            teacher_logits,
            student_logits,
            temperature=self.temperature_or(None),
        )
        if valid is not None:
            set_keras_mask(values, valid)
        return values

    def _check_lengths(self, teacher_shape, student_shape):
        if teacher_shape[1:-1] != student_shape[1:-1]:
            raise ValueError(
                "UniversalLogit compares token by token. Received: teacher "
                f"{tuple(teacher_shape)}, student {tuple(student_shape)}, of "
                "different lengths, and inputs without 'teacher_weight', "
                "which tells the teacher's tokens that count. "
                "`keras_kd.text.PairedTexts` makes such data."
            )

    def check_shapes(self, teacher_shape, student_shape):
        check_other_classes(self, teacher_shape, student_shape)


def _counterparts(teacher, counts, mask):
    """The teacher's logits at each of the student's positions.

    Args:
        teacher: logits, shape `(batch, teacher_length, classes)`.
        counts: which of the teacher's positions count, booleans.
        mask: which of the student's do, booleans `(batch, length)`.

    Returns:
        Logits of shape `(batch, length, classes)`, and where they are some.
    """
    batch, length, classes = ops.shape(teacher)
    place = ops.arange(length, dtype="int32")
    # Those that count come first, each part in its order.
    order = ops.argsort(ops.where(counts, place, place + length), axis=-1)
    rank = ops.cumsum(ops.cast(mask, "int32"), axis=-1) - 1
    total = ops.sum(ops.cast(counts, "int32"), axis=-1, keepdims=True)
    valid = ops.logical_and(mask, rank < total)
    rank = ops.clip(rank, 0, length - 1)
    index = ops.take_along_axis(ops.cast(order, "int32"), rank, axis=-1)
    index = index + ops.arange(batch, dtype="int32")[:, None] * length
    rows = ops.reshape(teacher, (-1, classes))
    return ops.take(rows, index, axis=0), valid
