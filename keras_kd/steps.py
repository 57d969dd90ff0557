"""The one place that depends on the backend: who asks the teacher, and when.

Each step asks the teacher before Keras' own step begins, so before a gradient
is recorded, and hands Keras a batch that holds the answer in its targets.
"""

import contextlib
from typing import Any
from typing import NamedTuple

import keras

BACKEND = keras.backend.backend()


class StudentInputs(NamedTuple):
    """A batch's inputs, marked: the student's taps are wanted, too."""

    inputs: Any


class Answer(NamedTuple):
    """What a model said of a batch: its output, and a view for each tap."""

    output: Any
    views: dict


class Targets(NamedTuple):
    """A batch's targets: the labels, if any, and the teacher's answer."""

    labels: Any
    teacher: Answer


if BACKEND == "jax":

    class Steps:
        """`train_step` and `test_step` on JAX: `(state, data)`."""

        def train_step(self, state, data):
            return super().train_step(state, self._with_state(state, data))

        def test_step(self, state, data):
            return super().test_step(state, self._with_state(state, data))

        def _with_state(self, state, data):
            # The teacher's variables are empty in the step: their values
            # travel in the state.
            variables = [
                *self.trainable_variables,
                *self.non_trainable_variables,
            ]
            values = [*state[0], *state[1]]
            return self.ask_teacher(data, list(zip(variables, values)))

else:

    class Steps:
        """`train_step` and `test_step` on TensorFlow and PyTorch: `(data)`."""

        def train_step(self, data):
            return super().train_step(self.ask_teacher(data))

        def test_step(self, data):
            return super().test_step(self.ask_teacher(data))


def no_gradient():
    """A context in which no backend records operations for a gradient."""
    if BACKEND == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()


def after(answer, inputs):
    """The inputs, available only once the answer is.

    TensorFlow runs independent parts of a graph at once; on a CPU, teacher
    and student would fight for the same cores and caches.
    """
    if BACKEND != "tensorflow":
        return inputs
    import tensorflow as tf

    with tf.control_dependencies(keras.tree.flatten(answer)):
        return keras.tree.map_structure(
            lambda x: tf.identity(x) if tf.is_tensor(x) else x, inputs
        )


def unscaled(loss):
    """A replica's loss as if it were alone: Keras divides by their number."""
    if BACKEND != "tensorflow":
        return loss
    import tensorflow as tf

    return loss * tf.distribute.get_strategy().num_replicas_in_sync


def separate_buffers(variables):
    """Gives each variable a buffer of its own.

    On JAX, `student_variable.assign(teacher_variable.value)` shares one, and
    a step, which gives its buffers away, can't give one away twice.
    """
    if BACKEND != "jax":
        return
    seen = set()
    for variable in variables:
        if id(variable.value) in seen:
            variable.assign(keras.ops.copy(variable.value))
        seen.add(id(variable.value))


def random_states():
    """States of the random generators that are no Keras variables, by name.

    On PyTorch, Keras' dropout draws from PyTorch's own generators.
    """
    if BACKEND != "torch":
        return {}
    import torch

    states = {"random_state": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda_random_state"] = torch.cuda.get_rng_state()
    return {name: state.numpy() for name, state in states.items()}


def set_random_states(states):
    """Puts back what `random_states` returned."""
    if BACKEND != "torch":
        return
    import torch

    if "random_state" in states:
        torch.set_rng_state(torch.tensor(states["random_state"]))
    if "cuda_random_state" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(states["cuda_random_state"]))
