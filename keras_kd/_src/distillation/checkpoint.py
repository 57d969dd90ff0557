"""Saves and restores the training state that is a distiller's own.

A file holds the student, the adapters, the optimizer, the hyperparameters and
the seeds; of the teacher only its fingerprint, unless it follows the student.
"""

import contextlib

import numpy as np
from keras import ops

from keras_kd._src.backend import kept_value
from keras_kd._src.backend import random_states
from keras_kd._src.backend import set_random_states

TEACHER = "teacher_"
STEP = "training_step"


def save(distiller, store, teacher_state):
    """Writes the step, the seeds and the teacher's state to a store."""
    store[STEP] = np.int32(distiller.training_step)
    for number, seed in enumerate(_seeds(distiller)):
        store[f"seed_{number}"] = ops.convert_to_numpy(seed)
    for name, value in random_states().items():
        store[name] = value
    for name, value in teacher_state.items():
        store[TEACHER + name] = value


def read(store):
    """All arrays in a store, and those among them of the teacher's state."""
    saved = {key: np.array(store[key]) for key in store.keys()}  # noqa: SIM118
    teacher_state = {
        name.removeprefix(TEACHER): value
        for name, value in saved.items()
        if name.startswith(TEACHER)
    }
    return saved, teacher_state


def restore_seeds(distiller, saved):
    """Restores the saved states of the random generators."""
    for number, seed in enumerate(_seeds(distiller)):
        seed.assign(saved[f"seed_{number}"])
    set_random_states(saved)


def _seeds(distiller):
    # Keras doesn't save the states of random layers. Without them, a resumed
    # run would draw other dropout masks.
    weights = {id(weight) for weight in distiller.weights}
    return [v for v in distiller.variables if id(v) not in weights]


@contextlib.contextmanager
def restored_on_error(variables):
    """Restores the variables' values if loading fails halfway."""
    values = [kept_value(variable) for variable in variables]
    try:
        yield
    except Exception:
        for variable, value in zip(variables, values):
            variable.assign(value)
        raise
