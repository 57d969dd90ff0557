"""What is saved of a teacher: a fingerprint, or what it has become."""

import numpy as np
from keras import ops

from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.specs import finalize

FINGERPRINT = "teacher_fingerprint"
WEIGHT = "teacher_weight_"


def moves(teacher):
    """Whether a teacher changes while it teaches, as a `MovingAverage` does.

    Example:
    >>> import keras
    >>> moves(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    False
    """
    return hasattr(teacher, "moving_weights")


def state_of(teacher):
    """What a training state holds of its teacher, as a dict of arrays.

    Of a teacher that never changes a fingerprint, by which another one is
    refused; of one that moves its weights.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> list(state_of(model))
    ['teacher_fingerprint']
    """
    if not moves(teacher):
        return {FINGERPRINT: fingerprint(teacher)}
    return {
        f"{WEIGHT}{number}": ops.convert_to_numpy(weight.value)
        for number, weight in enumerate(teacher.moving_weights)
    }


def check_state(teacher, state):
    """Raises a `ValueError` unless it is the state of this teacher.

    Args:
        teacher: a built Keras model.
        state: from `state_of`; empty, if any teacher will do.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> check_state(model, state_of(model))
    """
    if not state:
        return
    if moves(teacher) != (FINGERPRINT not in state):
        kinds = ["that stays as it is", "that follows its student"]
        raise ValueError(
            f"The teacher {teacher.name!r} is not of the kind that this "
            f"training state was made with. Received a teacher "
            f"{kinds[moves(teacher)]}, expected one "
            f"{kinds[not moves(teacher)]} (`keras_kd.teachers.MovingAverage`)."
        )
    if moves(teacher):
        _check_shapes(teacher, state)
    else:
        _check_fingerprint(teacher, state[FINGERPRINT])


def give_state(teacher, state):
    """Gives a teacher that moves the weights of a state, if there are any.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> give_state(model, state_of(model))  # stays as it is
    """
    if state and moves(teacher):
        for number, weight in enumerate(teacher.moving_weights):
            weight.assign(state[f"{WEIGHT}{number}"])
        finalize(teacher)


def _check_shapes(teacher, state):
    shapes = [state[f"{WEIGHT}{n}"].shape for n in range(len(state))]
    expected = [tuple(weight.shape) for weight in teacher.moving_weights]
    if shapes != expected:
        raise ValueError(
            f"The teacher {teacher.name!r} follows another student than the "
            "one of this training state. Received a teacher with weights of "
            f"the shapes {expected}, expected {shapes}. Make it of the "
            "student: `keras_kd.teachers.MovingAverage(distiller.student)`."
        )


def _check_fingerprint(teacher, expected):
    found = fingerprint(teacher)
    if not np.array_equal(found, expected):
        raise ValueError(
            f"The teacher {teacher.name!r} is not the one that this training "
            "state was made with: a student would go on with other targets. "
            f"Received a teacher with fingerprint {_short(found)}, expected "
            f"{_short(expected)}. Load the weights of the first teacher into "
            "it (or open the cache of its answers), or start a new run "
            "(another `backup_dir` or file); to begin with the trained "
            "student and a new teacher, make a new Distiller from "
            "`distiller.student`."
        )


def _short(fingerprint):
    return bytes(fingerprint[:6]).hex()
