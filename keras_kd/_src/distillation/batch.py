"""The parts of one batch, from the data to the loss.

A batch with the teacher's predictions is marked by its types: called with
`StudentInputs`, the distiller returns features as well; called with plain
inputs, it returns what the student does.
"""

from typing import Any
from typing import NamedTuple

import keras


class Batch(NamedTuple):
    """The parts of a batch as `fit` gets it; None for those it lacks."""

    inputs: Any
    labels: Any = None
    sample_index: Any = None
    # A cache's predictions of these samples, as `TeacherCache.join` adds them.
    cached: Any = None
    sample_weight: Any = None


class PairedInputs(NamedTuple):
    """A batch's inputs where teacher and student take different ones."""

    student: Any
    teacher: Any


class StudentInputs(NamedTuple):
    """A batch's inputs, marked so that the student's features are returned."""

    inputs: Any


class Predictions(NamedTuple):
    """A model's output for a batch, and its features by tap."""

    output: Any
    features: dict


class Targets(NamedTuple):
    """A batch's targets: the labels, if any, and the teacher's predictions."""

    labels: Any
    teacher: Predictions
    sample_index: Any = None


class ObservedStep(NamedTuple):
    """What a training step computes for a batch, for the diagnosis."""

    parts: list  # Of the loss: the hard loss, the terms, the student's own.
    targets: Targets
    predictions: Predictions
    teacher_features: dict
    weight: Any  # Of the samples.


def split_batch(data, training=False):
    """Splits a batch of `fit`: `x`, `(x, y)` or `(x, y, weight)`."""
    inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not (isinstance(targets, dict) and "sample_index" in targets):
        return Batch(inputs, targets, sample_weight=sample_weight)
    if isinstance(sample_weight, dict) and "sample_index" in sample_weight:
        # `fit` copies the weights for each entry of `y`.
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
    """The student's part of a batch's inputs."""
    return inputs.student if isinstance(inputs, PairedInputs) else inputs


def teacher_inputs(inputs):
    """The teacher's part of a batch's inputs."""
    return inputs.teacher if isinstance(inputs, PairedInputs) else inputs


def common_weight(sample_weight):
    """The weights of the samples as one array.

    `fit` copies them for each entry where the labels are a dict.
    """
    return keras.tree.flatten(sample_weight)[0]
