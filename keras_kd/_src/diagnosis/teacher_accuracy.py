"""Checks of the teacher against the labels: its accuracy, the class order."""

import math

import numpy as np

from keras_kd._src.diagnosis.finding import Finding

# So many samples distinguish a teacher from one that guesses.
ENOUGH_SAMPLES = 100
# So many of a class show where its samples go.
ENOUGH_OF_CLASS = 5
PAIRS = 8  # That are named at most.


def no_better_than_chance(name, labelled, correct, chance, output=""):
    """Where a teacher guesses.

    Args:
        name: the teacher's.
        labelled: how many labels counted.
        correct: how many of them the teacher has right.
        chance: the share that one has right who guesses.
        output: of several outputs, which one.
    """
    if labelled < ENOUGH_SAMPLES:
        return
    if correct / labelled <= chance + 2.0 * _spread(chance, labelled):
        yield Finding(
            _of_output("teacher accuracy", output),
            "wrong",
            f"The teacher {name!r} is no better than chance on the "
            f"labels. Received: {100 * correct / labelled:.1f} % right of "
            f"{labelled:,.0f} labeled samples, where guessing gives "
            f"{100 * chance:.1f} %.",
            "Check that it is trained, that it takes "
            "this preprocessing, and that its classes have the order of the "
            "labels.",
            _figures(labelled, correct, chance),
        )


def teacher_accuracy(name, labels, predicted, classes, output=""):
    """How often the teacher is right.

    Args:
        name: the teacher's.
        labels: those that count, shape `(labelled,)`.
        predicted: the teacher's classes, likewise.
        classes: how many there are.
        output: of several outputs, which one.
    """
    labelled, correct = len(labels), int((labels == predicted).sum())
    chance = 1.0 / classes
    found = list(no_better_than_chance(name, labelled, correct, chance, output))
    if not found and labelled:
        few = labelled < ENOUGH_SAMPLES
        text = f"; fewer than {ENOUGH_SAMPLES} say little" if few else ""
        found = [
            Finding(
                _of_output("teacher accuracy", output),
                "fine",
                f"{100 * correct / labelled:.1f} % right of {labelled:,} "
                f"labeled samples, where guessing gives {100 * chance:.1f} %"
                f"{text}.",
                figures=_figures(labelled, correct, chance),
            )
        ]
    return found


def _of_output(check, output):
    return f"{check}, {output}" if output else check


def _figures(labelled, correct, chance):
    accuracy = correct / labelled
    return {"accuracy": accuracy, "chance": chance, "labelled": int(labelled)}


def _spread(share, count):
    """The standard deviation of a share of so many samples."""
    return math.sqrt(share * (1.0 - share) / count)


# --- the order of the classes ------------------------------------------------


def class_order(labels, predicted, classes, output=""):
    """Whether the teacher's classes are the labels in another order.

    Of each class with enough samples, the class that the teacher gives most of
    them. If these differ from the labels, no two labels have the same one, and
    more samples agree with them than with the labels, all of this by more than
    chance would have it, then a permutation explains what it predicts.
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
    """Label -> teacher's class, where a permutation of them fits; or none."""
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
    # Who has taken another's place has left its own.
    closed = all(
        other in best or other not in judged for other in moved.values()
    )
    fits = distinct and closed and _fits_better(labels, predicted, moved)
    return moved if fits else {}


def _shifted(labels, predicted, classes):
    """The same for classes that are numbered from another number."""
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
    """Whether more than half of all such samples are, beyond the spread."""
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
