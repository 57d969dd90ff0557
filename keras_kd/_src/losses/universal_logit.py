"""Universal logit distillation: sorted probabilities are compared."""

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.other_tokens import check_other_classes
from keras_kd._src.losses.other_tokens import entries_of
from keras_kd._src.losses.probabilities import log_probabilities
from keras_kd._src.losses.tempered_loss import TemperedLoss


def universal_logit(teacher_logits, student_logits, *, k=None, temperature=1.0):
    """Universal logit distillation (ULD): L1 of the sorted probabilities.

    Both sides' probabilities are sorted, so that no class needs a counterpart
    on the other side; the smaller vocabulary is padded with zeros. Gradients
    reach the student's probabilities through their sorted order.

        p = sort(softmax(teacher_logits / T));  q = sort(softmax(student / T))
        value = sum_ranks |p - q|

    Args:
        teacher_logits: shape `(..., teacher_classes)`.
        student_logits: shape `(..., student_classes)`.
        k: how many ranks, the first ones, are compared one by one; the others
            are compared as one sum. By default all are compared one by one.
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
    if k is not None:
        return _of_first_ranks(teacher, student, k)
    probs = ops.exp(student)
    value, signs = _value_and_signs(teacher, ops.stop_gradient(student))
    # The exact value, with the gradient of sum(signs * probs): of all that was
    # sorted, only the signs are kept for it.
    linear = ops.sum(signs * probs, axis=-1)
    return value + (linear - ops.stop_gradient(linear))


def _value_and_signs(teacher, student):
    """The L1 distance by rank, and the sign of each class's difference."""
    order = ops.argsort(student, axis=-1)
    student_probs = ops.exp(ops.take_along_axis(student, order, axis=-1))
    teacher_probs = ops.exp(ops.sort(teacher, axis=-1))
    # In ascending order: the smaller side is padded at the front.
    missing = teacher.shape[-1] - student.shape[-1]
    without = teacher_probs[..., : max(missing, 0)]
    padded = _zeros_before(teacher_probs[..., max(missing, 0) :], -missing)
    difference = student_probs - padded
    value = ops.sum(ops.abs(difference), axis=-1)
    value = value + ops.sum(without, axis=-1)
    signs = _back_in_place(ops.sign(difference), order)
    return ops.stop_gradient(value), ops.stop_gradient(signs)


def _back_in_place(values, order):
    """Undoes the sorting of values: `order` has their former places."""
    # A scatter: sorting again would take many times as long.
    classes = values.shape[-1]
    order = ops.reshape(ops.cast(order, "int32"), (-1, classes))
    rows = ops.arange(ops.shape(order)[0], dtype="int32")
    places = ops.reshape(order + rows[:, None] * classes, (-1, 1))
    flat = ops.reshape(values, (-1,))
    found = ops.scatter_update(ops.zeros_like(flat), places, flat)
    return ops.reshape(found, ops.shape(values))


def _of_first_ranks(teacher, student, k):
    """The L1 distance of the first k ranks, and of the sums of the rest."""
    sides = []
    for side in (teacher, student):
        size = min(k, side.shape[-1])
        _, first = ops.top_k(ops.stop_gradient(side), size)
        first = ops.exp(ops.take_along_axis(side, first, axis=-1))
        sides.append(ops.flip(first, axis=-1))
    teacher, student = (
        _zeros_before(side, max(s.shape[-1] for s in sides) - side.shape[-1])
        for side in sides
    )
    rest = ops.sum(student, axis=-1) - ops.sum(teacher, axis=-1)
    return ops.sum(ops.abs(student - teacher), axis=-1) + ops.abs(rest)


def _zeros_before(values, count):
    if count <= 0:
        return values
    axes = len(values.shape) - 1
    return ops.pad(values, [(0, 0)] * axes + [(count, 0)])


@keras.saving.register_keras_serializable(package="keras_kd")
class UniversalLogit(TemperedLoss):
    """Universal logit distillation (ULD): across tokenizers, by sorting.

    For a teacher and a student with any two vocabularies. It compares how the
    probability is spread, not over which tokens, so use it as an additional
    term beside the loss on the labels. `LikelihoodMatching` compares
    likelihoods of the same text, and needs aligned tokens; this needs no
    alignment. The values are bounded, and independent of the sizes of the
    vocabularies.

        value = sum_ranks |p - q|
        p = sort(softmax(teacher / T));  q = sort(softmax(student / T)),
        the smaller one padded with zeros

    The student's first token is compared with the teacher's first, the second
    with the second, and so on up to the shorter length, without prompt and
    padding. `inputs["teacher_weight"]`, which `keras_kd.text.PairedTexts`
    makes, marks the teacher's tokens that count; without it both sides must
    have the same positions.

    With large vocabularies, sorting takes many times as long as the rest of the
    loss, especially on CPUs. With `k`, such as 100, the first ranks are
    compared one by one and the others as one sum: a lower bound at a fraction
    of the cost. Usual weight: 1 to 1.5, beside the labels.

    Args:
        k: how many ranks are compared one by one; by default all, as in the
            paper.
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
        ValueError: `temperature` or `k` is not positive; the sides' ranks
            differ; their lengths differ, and there is no `"teacher_weight"`.

    Example:
    >>> loss = UniversalLogit()
    >>> teacher, student = [[[2.0, 0.0, 0.0]]], [[[0.0, 0.0]]]
    >>> round(float(loss(teacher, student)), 4)
    0.787

    Reference: Boizard et al., 2024, arXiv 2402.12030.
    """

    expects_logits = True
    same_tokens = False

    def __init__(self, k=None, *, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.k = k if k is None else integer(k, "k")

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
            k=self.k,
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
                "which marks the teacher's tokens that count. Train on "
                "`keras_kd.text.PairedTexts`, which makes it."
            )

    def options(self):
        return {"k": self.k}

    def check_shapes(self, teacher_shape, student_shape):
        check_other_classes(self, teacher_shape, student_shape)


def _counterparts(teacher, counts, mask):
    """The teacher's logits at each of the student's positions.

    Args:
        teacher: logits, shape `(batch, teacher_length, classes)`.
        counts: which of the teacher's positions count, booleans.
        mask: which of the student's do, booleans `(batch, length)`.

    Returns:
        Logits of shape `(batch, length, classes)`, and where there are any.
    """
    batch, length, classes = ops.shape(teacher)
    place = ops.arange(length, dtype="int32")
    # Positions that count come first, in their order.
    order = ops.argsort(ops.where(counts, place, place + length), axis=-1)
    rank = ops.cumsum(ops.cast(mask, "int32"), axis=-1) - 1
    total = ops.sum(ops.cast(counts, "int32"), axis=-1, keepdims=True)
    valid = ops.logical_and(mask, rank < total)
    rank = ops.clip(rank, 0, length - 1)
    index = ops.take_along_axis(ops.cast(order, "int32"), rank, axis=-1)
    index = index + ops.arange(batch, dtype="int32")[:, None] * length
    rows = ops.reshape(teacher, (-1, classes))
    return ops.take(rows, index, axis=0), valid
