"""Compares the teacher with the labels: its accuracy, the class order."""

import math

import numpy as np

from keras_kd._src.diagnosis.finding import Finding

# The least number of samples to tell a trained teacher from guessing.
ENOUGH_SAMPLES = 100
# The least number of samples of a class to say what it is predicted as.
ENOUGH_OF_CLASS = 5
PAIRS = 8  # The largest number of class pairs in a text.


def no_better_than_chance(name, labeled, correct, chance, output=""):
    """The finding about a teacher that is no better than guessing.

    Args:
        name: the teacher's name.
        labeled: the number of labels that counted.
        correct: how many of them the teacher predicted correctly.
        chance: the accuracy of guessing.
        output: the output's name, if there are several.
    """
    if labeled < ENOUGH_SAMPLES:
        return
    if correct / labeled <= chance + 2.0 * _spread(chance, labeled):
        yield Finding(
            _of_output("teacher accuracy", output),
            "wrong",
            f"The teacher {name!r} is no better than chance on the "
            f"labels. Received: {100 * correct / labeled:.1f} % right of "
            f"{labeled:,.0f} labeled samples, where guessing gives "
            f"{100 * chance:.1f} %.",
            "Check that it is trained, that the inputs have the preprocessing "
            "of its training, and that its classes have the order of the "
            "labels.",
            _figures(labeled, correct, chance),
        )


def teacher_accuracy(name, labels, predicted, classes, output=""):
    """The findings about the teacher's accuracy.

    Args:
        name: the teacher's name.
        labels: the labels that count, shape `(labeled,)`.
        predicted: the teacher's classes, of the same shape.
        classes: the number of classes.
        output: the output's name, if there are several.
    """
    labeled, correct = len(labels), int((labels == predicted).sum())
    chance = 1.0 / classes
    found = list(no_better_than_chance(name, labeled, correct, chance, output))
    if not found and labeled:
        few = labeled < ENOUGH_SAMPLES
        text = f"; fewer than {ENOUGH_SAMPLES} say little" if few else ""
        found = [
            Finding(
                _of_output("teacher accuracy", output),
                "fine",
                f"{100 * correct / labeled:.1f} % right of {labeled:,} "
                f"labeled samples, where guessing gives {100 * chance:.1f} %"
                f"{text}.",
                figures=_figures(labeled, correct, chance),
            )
        ]
    return found


def _of_output(check, output):
    return f"{check}, {output}" if output else check


def _figures(labeled, correct, chance):
    accuracy = correct / labeled
    return {"accuracy": accuracy, "chance": chance, "labeled": int(labeled)}


def _spread(share, count):
    """The standard deviation of a share measured on `count` samples."""
    return math.sqrt(share * (1.0 - share) / count)


# --- the order of the classes ------------------------------------------------


def class_order(labels, predicted, classes, output=""):
    """Whether the teacher's classes are the labels in another order.

    For each label with enough samples, this takes the class that the teacher
    predicts for most of them. These classes are the labels in another order if
    some differ from their labels, no two are the same, and more samples agree
    with them than with the labels, all beyond what chance explains.
    """
    check = _of_output("class order", output)
    moved = _moved(labels, predicted) or _shifted(labels, predicted, classes)
    if not moved:
        counts = np.bincount(labels, minlength=classes)
        known = int((counts >= ENOUGH_OF_CLASS).sum())
        seen = (
            f"No other order of the classes fits better: {known} of "
            f"{classes:,} classes have {ENOUGH_OF_CLASS} samples or more."
        )
        return Finding(check, "fine", seen, figures={"pairs": {}})
    right = float((labels == predicted).mean())
    explained = np.array([moved.get(int(each), each) for each in labels])
    agreed = float((explained == predicted).mean())
    pairs = list(moved.items())
    named = ", ".join(f"{a} is {b}" for a, b in pairs[:PAIRS])
    more = f" and {len(pairs) - PAIRS} more" if len(pairs) > PAIRS else ""
    return Finding(
        check,
        "wrong",
        "The classes of the teacher seem to be the labels in another order. "
        f"Received: {100 * right:.1f} % agree; {100 * agreed:.1f} % would if "
        f"label and teacher's class were paired like this: {named}{more}.",
        "Bring both into one order: change the labels, or the teacher's "
        "outputs, as an ensemble of one does: `keras_kd.teachers.Ensemble("
        "[keras_kd.teachers.Member(teacher, classes=[...])])`.",
        {"pairs": moved, "accuracy": right, "accuracy_if_mapped": agreed},
    )


def _moved(labels, predicted):
    """Dict, label -> teacher's class, if a permutation fits; else empty."""
    values, counts = np.unique(labels, return_counts=True)
    judged = [int(v) for v in values[counts >= ENOUGH_OF_CLASS]]
    best = {}
    for label in judged:
        found = predicted[labels == label]
        given, counts = np.unique(found, return_counts=True)
        if _is_most(counts.max(), len(found)):
            best[label] = int(given[counts.argmax()])
    moved = {label: other for label, other in best.items() if label != other}
    distinct = len(set(best.values())) == len(best)
    # A permutation: each class that others are mapped to is mapped itself.
    closed = all(
        other in best or other not in judged for other in moved.values()
    )
    fits = distinct and closed and _fits_better(labels, predicted, moved)
    return moved if fits else {}


def _shifted(labels, predicted, classes):
    """The same for classes that are numbered from 1 instead of 0, or back."""
    for step in (1, -1):
        moved = {
            int(label): int(label) + step
            for label in np.unique(labels)
            if 0 <= label + step < classes
        }
        agreed = int((labels + step == predicted).sum())
        fits = _is_most(agreed, len(labels))
        if fits and _fits_better(labels, predicted, moved):
            return moved
    return {}


def _is_most(count, total):
    """Whether the share is above one half, by more than the spread."""
    return count / total > 0.5 + _spread(0.5, total)


def _fits_better(labels, predicted, moved):
    """Whether more samples agree after a mapping, beyond the spread."""
    touched = np.isin(labels, list(moved))
    if touched.sum() < ENOUGH_OF_CLASS:
        return False
    mapped = np.array([moved[int(each)] for each in labels[touched]])
    gain = (mapped == predicted[touched]).mean()
    loss = (labels[touched] == predicted[touched]).mean()
    return gain > loss + 2.0 * _spread(0.5, touched.sum())
