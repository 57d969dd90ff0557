"""What one batch is made of, from the data to the loss.

A completed batch is marked by its types. With `StudentInputs` and `Targets`
the distiller returns features as well; with a plain batch it is the student.
"""

from typing import Any
from typing import NamedTuple

import keras


class Batch(NamedTuple):
    """A batch as `fit` has it, taken apart; None for what it lacks."""

    inputs: Any
    labels: Any = None
    sample_index: Any = None
    # A cache's predictions of these samples, as `TeacherCache.join` adds them.
    cached: Any = None
    sample_weight: Any = None


class PairedInputs(NamedTuple):
    """A batch's inputs where teacher and student each have their own."""

    student: Any
    teacher: Any


class StudentInputs(NamedTuple):
    """A batch's inputs, marked: the student's features are wanted, too."""

    inputs: Any


class Predictions(NamedTuple):
    """What a model makes of a batch: its output, and features by tap."""

    output: Any
    features: dict


class Targets(NamedTuple):
    """A batch's targets: the labels, if any, and the teacher's predictions."""

    labels: Any
    teacher: Predictions
    sample_index: Any = None


class ObservedStep(NamedTuple):
    """What a training step computes of a batch, as the diagnosis sees it."""

    parts: list  # Of the loss: the hard loss, the terms, the student's own.
    targets: Targets
    predictions: Predictions
    teacher_features: dict
    weight: Any  # Of the samples.


def split_batch(data, training=False):
    """Takes a batch of `fit` apart: `x`, `(x, y)` or `(x, y, weight)`."""
    inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not (isinstance(targets, dict) and "sample_index" in targets):
        return Batch(inputs, targets, sample_weight=sample_weight)
    if isinstance(sample_weight, dict) and "sample_index" in sample_weight:
        # `fit` copies weights for each entry of `y`.
        own = sample_weight["sample_index"]
        sample_weight = sample_weight.get("labels", own)
    if training:
        sample_weight = targets.get("class_weight", sample_weight)
    return Batch(
        inputs,
        targets.get("labels"),
        targets["sample_index"],
        targets.get("predictions"),
        sample_weight,
    )


def student_inputs(inputs):
    """What the student is given of a batch's inputs."""
    return inputs.student if isinstance(inputs, PairedInputs) else inputs


def teacher_inputs(inputs):
    """What the teacher is given of a batch's inputs."""
    return inputs.teacher if isinstance(inputs, PairedInputs) else inputs


def common_weight(sample_weight):
    """The weights of the samples, where each output was given its own copy.

    `fit` copies them for each entry of labels that are a dict.
    """
    return keras.tree.flatten(sample_weight)[0]
