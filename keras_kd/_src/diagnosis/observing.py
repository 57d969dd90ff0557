"""Runs a distiller's step on some batches, with the gradient of each term."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.backend import part_gradients
from keras_kd._src.diagnosis.features import summary_of
from keras_kd._src.diagnosis.output_kinds import output_names
from keras_kd._src.diagnosis.temperature import confidences
from keras_kd._src.distillation.inspection import class_labels
from keras_kd._src.distillation.inspection import counted
from keras_kd._src.distillation.inspection import kinds_of_outputs
from keras_kd._src.distillation.inspection import mistaken_kinds
from keras_kd._src.losses.chunked_logits import ChunkedLogits


class Observed(NamedTuple):
    """The results for one batch, as arrays."""

    parts: list  # Weighted values: the hard loss, the terms, the student's own.
    gradients: list  # The norm of each one's gradient in the student.
    features: dict  # "teacher" and "student" -> tap text -> `FeatureSummary`.
    mistaken: dict  # Number of a transfer -> result of `mistaken_kinds`.
    kinds: dict  # Output of the student -> probable, outside.
    classes: dict  # Output -> labels (-1: none), predicted, number of classes.
    confidences: dict  # Number of a transfer -> result of `confidences`.


def observed(distiller, batches):
    """An `Observed` for each batch; the distiller is not changed.

    Args:
        distiller: a compiled and built `Distiller`.
        batches: list of batches of tensors, as `fit` gets them.
    """
    trained = distiller.student.trainable_variables
    ids = {id(variable) for variable in trained}
    variables = distiller.trainable_variables
    variables = variables + distiller.non_trainable_variables
    others = [each for each in variables if id(each) not in ids]
    take = part_gradients(
        trained,
        others,
        lambda batch, pairs: _observe(distiller, batch, pairs),
        distiller.supports_jit,
    )
    return [_as_arrays(*take(batch)) for batch in batches]


def _as_arrays(parts, gradients, more):
    to_array = ops.convert_to_numpy
    return Observed(
        [float(to_array(each)) for each in parts],
        [float(to_array(each)) for each in gradients],
        **keras.tree.map_structure(to_array, more),
    )


def _observe(distiller, batch, pairs):
    """The parts of the loss, and the other fields of `Observed`."""
    step = distiller.observe(batch, pairs)
    transfers = distiller.transfers
    output = step.predictions.output
    plain = not isinstance(output, ChunkedLogits)
    outputs = keras.tree.flatten(output) if plain else []
    classes = any(each.distills_classes for each in transfers)
    more = {
        "features": {
            "teacher": _summaries(
                [t for each in transfers for t in each.teacher_taps],
                step.teacher_features,
            ),
            "student": _summaries(
                [t for each in transfers for t in each.student_taps],
                step.predictions.features,
            ),
        },
        "mistaken": _mistaken(transfers, step) if plain else {},
        "kinds": _kinds(output) if plain else {},
        "classes": _classes(step, outputs) if classes and plain else {},
        "confidences": _confidences(transfers, step) if plain else {},
    }
    return step.parts, keras.tree.map_structure(ops.stop_gradient, more)


def _summaries(taps, features):
    found = {}
    for tap in taps:
        value = features[tap.text]
        flat = keras.tree.flatten(value)
        if all(map(_is_tensor, flat)):
            found[tap.text] = summary_of(value)
    return found


def _is_tensor(value):
    if not ops.is_tensor(value):  # `ChunkedLogits`.
        return False
    return "float" in keras.backend.standardize_dtype(value.dtype)


def _kinds(output):
    names = map(str, output_names(output))
    kinds = kinds_of_outputs(keras.tree.flatten(output))
    return dict(zip(names, ops.transpose(ops.stack(kinds))))


def _mistaken(transfers, step):
    found = {}
    for number, transfer in enumerate(transfers):
        flags = transfer.from_logits
        if flags is not None:
            found[str(number)] = mistaken_kinds(
                transfer.teacher_features(step.teacher_features),
                transfer.student_features(step.predictions.features),
                flags,
            )
    return found


def _classes(step, outputs):
    """Labels and the teacher's classes, by the name of the output."""
    teacher_output = step.targets.teacher.output
    found = {}
    for name, labels, output in _pairs(step.targets.labels, teacher_output):
        labels = class_labels(labels, output)
        if labels is not None:
            count = output.shape[-1]
            known = counted(labels, count, outputs, step.weight) > 0.0
            labels = ops.where(known, labels, -1)
            predicted = ops.cast(ops.argmax(output, axis=-1), "int32")
            rows = ops.reshape(labels, (-1,)), ops.reshape(predicted, (-1,))
            found[name] = [*rows, ops.convert_to_tensor(count)]
    return found


def _pairs(labels, output):
    """Triples of an output's name, its labels and the teacher's output."""
    if not keras.tree.is_nested(output):
        return [("", labels, output)]
    named = isinstance(output, dict) and isinstance(labels, dict)
    listed = isinstance(output, (list, tuple))
    listed = listed and isinstance(labels, (list, tuple))
    if named:
        keys = [key for key in output if key in labels]
    else:
        keys = range(min(len(output), len(labels))) if listed else []
    return [(str(key), labels[key], output[key]) for key in keys]


def _confidences(transfers, step):
    found = {}
    for number, transfer in enumerate(transfers):
        temperature = getattr(transfer.loss, "temperature", None)
        if temperature is None or not transfer.distills_classes:
            continue
        teacher, *_ = transfer.teacher_features(step.teacher_features)
        student, *_ = transfer.student_features(step.predictions.features)
        logits, _ = transfer.loss.as_logits(teacher, student)
        temperature = ops.convert_to_tensor(temperature)
        found[str(number)] = confidences(logits, temperature)
    return found


def class_table(seen, output):
    """Labels that count, the teacher's classes, and the number of classes."""
    labels, predicted, counts = zip(*(each.classes[output] for each in seen))
    labels, predicted = np.concatenate(labels), np.concatenate(predicted)
    known = labels >= 0
    return labels[known], predicted[known], int(counts[0])


def mean(values):
    """The mean of the batches' values, an array."""
    return np.mean(np.array(list(values), "float64"), axis=0)
