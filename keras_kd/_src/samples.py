"""Samples on which a model runs outside training."""

import keras
import numpy as np

from keras_kd._src.backend import no_gradient
from keras_kd._src.specs import graph_inputs
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import same_shape
from keras_kd._src.specs import untracked

# How many samples run at a time.
MANY = 32


def checked_samples(student, samples):
    """The samples as arrays, in the structure and types of the student."""
    taken = graph_inputs(student)
    if taken is None:
        arrays = keras.tree.map_structure(_array, untracked(samples))
        return _of_one_length(arrays)
    samples = inputs_for("student", student, samples)
    samples = untracked(samples)
    specs = flat(taken)
    if isinstance(samples, tuple):
        samples = list(samples)
    given = flat(samples)
    if len(given) != len(specs) or any(each is None for each in given):
        raise ValueError(
            f"The student {student.name!r} takes {len(specs)} inputs. "
            f"Received: samples with {len(given)} arrays"
            f"{', some of them None' if None in given else ''}. Give one "
            "array for each input."
        )
    arrays = [_fitting(student, *pair) for pair in zip(given, specs)]
    return _of_one_length(packed(taken, arrays))


def _array(values):
    array = keras.ops.convert_to_numpy(values)
    wide = {"float64": keras.config.floatx(), "int64": "int32"}
    return array.astype(wide.get(array.dtype.name, array.dtype))


def _fitting(student, values, spec):
    array = keras.ops.convert_to_numpy(values)
    shape = (None, *spec.shape[1:])
    cast = np.can_cast(array.dtype, spec.dtype, "same_kind")
    if not cast or not same_shape(array.shape, shape):
        raise ValueError(
            f"The student {student.name!r} takes {spec.dtype} of shape "
            f"{shape} as {spec.name!r}. Received: samples of {array.dtype} "
            f"and shape {array.shape}. Give samples as the student gets them "
            "when it predicts, with the batch axis."
        )
    return array.astype(spec.dtype)


def _of_one_length(samples):
    sizes = [np.shape(array)[:1] for array in flat(samples)]
    if not sizes or len(set(sizes)) > 1 or sizes[0] in ((), (0,)):
        shapes = [np.shape(array) for array in flat(samples)]
        raise ValueError(
            "Argument `samples` must hold one or more samples, the same number "
            f"for each input. Received: arrays of shapes {shapes}."
        )
    return samples


def run_student(student, samples):
    """The student's predictions for samples, as arrays in its structure."""
    count, parts = len(flat(samples)[0]), []
    for start in range(0, count, MANY):
        part = keras.tree.map_structure(
            lambda array, at=start: keras.ops.convert_to_tensor(
                array[at : at + MANY]
            ),
            samples,
        )
        with no_gradient():
            parts.append(untracked(student(part, training=False)))
    leaves = [map(keras.ops.convert_to_numpy, flat(part)) for part in parts]
    joined = [np.concatenate(each) for each in zip(*leaves)]
    return packed(parts[0], joined)


def flat(structure):
    """The leaves of dicts (by their sorted keys), lists and tuples."""
    if isinstance(structure, dict):
        return [x for key in sorted(structure) for x in flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [x for each in structure for x in flat(each)]
    return [structure]


def packed(structure, leaves):
    """The leaves of `flat` in a structure."""
    return _packed(structure, iter(leaves))


def _packed(structure, leaves):
    if isinstance(structure, dict):
        return {
            key: _packed(structure[key], leaves) for key in sorted(structure)
        }
    if isinstance(structure, (list, tuple)):
        return type(structure)(_packed(each, leaves) for each in structure)
    return next(leaves)
