"""Checks what a `FunctionTeacher` is made of, and what it is told."""

import keras
import numpy as np

ANSWERS = "logits", "probabilities"


def check_arguments(function, num_classes, answers, classes, floor):
    """Raises a `ValueError` if one of the arguments can't be used."""
    if not callable(function) or isinstance(function, keras.layers.Layer):
        raise ValueError(
            "Argument `function` must be a Python function over NumPy arrays "
            f"(a Keras model is a teacher itself). Received: {function!r}."
        )
    if not isinstance(num_classes, (int, np.integer)) or num_classes < 1:
        raise ValueError(
            "Argument `num_classes` must be a positive integer. Received: "
            f"num_classes={num_classes!r}."
        )
    if answers not in ANSWERS:
        raise ValueError(
            f"Argument `answers` must be one of {ANSWERS}. Received: "
            f"answers={answers!r}."
        )
    if floor is not None and not 0.0 < floor <= 1.0 / num_classes:
        raise ValueError(
            "Argument `floor` must be a probability above 0, of "
            f"1/num_classes at most. Received: floor={floor!r}."
        )
    _check_classes([0] if classes is None else list(classes), num_classes)


def _check_classes(numbers, num_classes):
    different = len(set(numbers)) == len(numbers) > 0
    if not different or not set(numbers) <= set(range(num_classes)):
        raise ValueError(
            "Argument `classes` must hold different class numbers from 0 to "
            f"{num_classes - 1}. Received: classes={numbers}."
        )


def checked_answer(teacher, answer, samples):
    """A function's answer as float64; a `ValueError` if it can't be used.

    Args:
        teacher: the `FunctionTeacher`.
        answer: what its function returned.
        samples: how many samples it was given.
    """
    expected = (samples, len(teacher.classes))
    answer = np.asarray(answer)
    if answer.shape != expected or answer.dtype.kind not in "fiu":
        _refuse(
            teacher,
            f"an array of shape {answer.shape} and type {answer.dtype}",
            f"numbers of shape {expected}: (batch, classes)",
        )
    answer = answer.astype("float64")
    if not np.isfinite(answer).all():
        wrong = int((~np.isfinite(answer)).sum())
        _refuse(teacher, f"{wrong} entries NaN or infinite", "finite numbers")
    if teacher.answers == "probabilities":
        sums = answer.sum(axis=-1)
        # Half precision rounds each of many classes.
        if answer.min() < 0.0 or np.abs(sums - 1.0).max() > 0.02:
            _refuse(
                teacher,
                f"entries from {answer.min():.4g} to {answer.max():.4g}, "
                f"rows that sum to {sums.min():.4g} to {sums.max():.4g}",
                "probabilities, rows that sum to 1 (or answers='logits')",
            )
    return answer


def _refuse(teacher, received, expected):
    raise ValueError(
        f"The function {name_of(teacher.function)} of the teacher "
        f"{teacher.name!r} gave an answer that can't be used. Received: "
        f"{received}. Expected: {expected}."
    )


def name_of(function):
    """What errors call it.

    Example:
    >>> name_of(len)
    'len'
    """
    return getattr(function, "__name__", repr(function))
