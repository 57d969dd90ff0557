"""Shared by losses that compare class logits or probabilities."""

from keras import ops

from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.tempered_loss import broadcast_to_logits
from keras_kd._src.specs import same_shape

# What to use between language models whose vocabularies differ.
OTHER_VOCABULARIES = (
    "For language models of one tokenizer whose vocabulary was padded or "
    "extended, compare the ids that they share: "
    "`keras_kd.losses.SoftTargets(classes=...)`. For two tokenizers there are "
    "`keras_kd.losses.UniversalLogit` (ULD) and "
    "`keras_kd.losses.LikelihoodMatching` (ALM)."
)


def log_probabilities(teacher_logits, student_logits, temperature):
    """Both sides' log-probabilities in nats at a temperature, in float32."""
    return [
        ops.log_softmax(
            logits / broadcast_to_logits(temperature, logits), axis=-1
        )
        for logits in bounded_logits(teacher_logits, student_logits)
    ]


def kl_divergence(log_probs, other_log_probs):
    """Sum of p (log p - log q) over the last axis, from log p and log q."""
    # From log-probabilities: a confidently wrong q gets a full gradient.
    return ops.sum(ops.exp(log_probs) * (log_probs - other_log_probs), axis=-1)


def like_probabilities(values):
    """Whether each row (last axis) is a distribution, as boolean tensor."""
    in_range = ops.all(values >= 0.0, axis=-1)
    sum_to_one = ops.abs(ops.sum(values, axis=-1) - 1.0) < 1e-2
    return ops.logical_and(in_range, sum_to_one)


def check_classes_given(loss, shape):
    """Raises a `ValueError` if there are fewer classes than `classes`."""
    if shape[-1] < loss.classes:
        raise ValueError(
            f"{type(loss).__name__} compares the first {loss.classes} classes. "
            f"Received: classes={loss.classes}, and outputs of shape "
            f"{tuple(shape)} ({shape[-1]} classes). Compare no more classes "
            "than each side has: the ids that both tokenizers share, which "
            "`keras_kd.text.check_same_ids` counts."
        )


def check_same_classes(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both sides have the same classes."""
    if teacher_shape[-1] != student_shape[-1]:
        raise ValueError(
            f"{type(loss).__name__} needs the same classes on both sides. "
            f"Received: teacher outputs of shape {tuple(teacher_shape)} "
            f"({teacher_shape[-1]} classes), student outputs of shape "
            f"{tuple(student_shape)} ({student_shape[-1]} classes). Give the "
            "student's last layer as many units as the teacher's, or transfer "
            f"features instead of classes. {OTHER_VOCABULARIES}"
        )
    if not same_shape(teacher_shape, student_shape):
        raise ValueError(
            f"{type(loss).__name__} needs outputs of the same shape. "
            f"Received: teacher {tuple(teacher_shape)}, student "
            f"{tuple(student_shape)}. Tap layers whose outputs have the same "
            "positions (pixels, tokens) on both sides."
        )


def check_two_classes(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both have the same classes, 2 or more."""
    check_same_classes(loss, teacher_shape, student_shape)
    if len(student_shape) < 2 or student_shape[-1] == 1:
        raise ValueError(
            f"{type(loss).__name__} needs two or more classes: the softmax of "
            "a single output is always 1. Received: outputs of shape "
            f"{tuple(student_shape)}. For a binary or multi-label model use "
            "`keras_kd.losses.BinarySoftTargets`."
        )
