"""Checks of outputs that are to have the same classes."""

from keras_kd._src.losses.distillation_loss import same_shape


def check_same_classes(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both views have the same class count."""
    if teacher_shape[-1] != student_shape[-1]:
        raise ValueError(
            f"{type(loss).__name__} needs the same classes on both sides. "
            f"Received: teacher outputs of shape {tuple(teacher_shape)} "
            f"({teacher_shape[-1]} classes), student outputs of shape "
            f"{tuple(student_shape)} ({student_shape[-1]} classes). Give the "
            "student's last layer as many units as the teacher's, or transfer "
            "features instead of classes."
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
