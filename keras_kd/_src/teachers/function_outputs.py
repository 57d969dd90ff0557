"""Checks and converts what the function of a `FunctionTeacher` returns."""

import keras
import numpy as np


def logits_of_columns(teacher, outputs, samples):
    """A logit for each of the student's classes, from the columns returned."""
    outputs = _checked_columns(teacher, outputs, samples)
    if teacher.from_logits:
        highest = outputs.max(axis=-1, keepdims=True)
        total = np.exp(outputs - highest).sum(axis=-1, keepdims=True)
        unknown = np.log(teacher.floor) + highest + np.log(total)
    else:
        outputs = np.log(np.maximum(outputs, teacher.floor))
        unknown = np.full((samples, 1), np.log(teacher.floor))
    logits = np.repeat(unknown, teacher.num_classes, axis=-1)
    logits[:, list(teacher.classes)] = outputs
    if not teacher.from_logits:
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def _checked_columns(teacher, outputs, samples):
    """The columns as float64; a `ValueError` if they can't be used."""
    expected = (samples, len(teacher.classes))
    outputs = _numbers(teacher, outputs, expected, "(batch, classes)")
    if not teacher.from_logits:
        sums = outputs.sum(axis=-1)
        # With a tolerance, as half precision rounds each of many classes.
        if outputs.min() < 0.0 or np.abs(sums - 1.0).max() > 0.02:
            _refuse(
                teacher,
                f"entries from {outputs.min():.4g} to {outputs.max():.4g}, "
                f"rows that sum to {sums.min():.4g} to {sums.max():.4g}",
                "probabilities, rows that sum to 1 (or from_logits=True)",
            )
    return outputs


def values_of(teacher, outputs, samples, specs):
    """Arrays with the shapes and the structure of `specs`."""
    try:
        keras.tree.assert_same_structure(specs, _arrays(outputs, specs))
    except (TypeError, ValueError):
        _refuse(teacher, _structure(outputs), _structure(specs))
    return keras.tree.map_structure(
        lambda spec, output: _values(teacher, output, samples, spec),
        specs,
        _arrays(outputs, specs),
    )


def _arrays(outputs, specs):
    if isinstance(specs, keras.KerasTensor):
        return np.asarray(outputs)  # Nested lists of numbers make one array.
    if isinstance(specs, list) and isinstance(outputs, tuple):
        return list(outputs)
    return outputs


def _structure(values):
    if isinstance(values, dict):
        return f"a dict with the entries {list(values)}"
    if isinstance(values, (list, tuple)):
        return f"a list of {len(values)}"
    return "one array"


def _values(teacher, output, samples, spec):
    output, expected = np.asarray(output), (samples, *spec.shape[1:])
    if output.shape == (samples,) and expected == (samples, 1):
        output = output[:, None]
    return _numbers(teacher, output, expected, "(batch, *output_shape)")


def _numbers(teacher, outputs, expected, axes):
    """Finite numbers of the expected shape, as float64."""
    outputs = np.asarray(outputs)
    if outputs.shape != expected or outputs.dtype.kind not in "fiu":
        _refuse(
            teacher,
            f"an array of shape {outputs.shape} and type {outputs.dtype}",
            f"numbers of shape {expected}: {axes}",
        )
    outputs = outputs.astype("float64")
    if not np.isfinite(outputs).all():
        wrong = int((~np.isfinite(outputs)).sum())
        _refuse(teacher, f"{wrong} entries NaN or infinite", "finite numbers")
    return outputs


def _refuse(teacher, received, expected):
    raise ValueError(
        f"The function {teacher.name_of_function} of the teacher "
        f"{teacher.name!r} returned values that can't be used. Received: "
        f"{received}. Expected: {expected}."
    )
