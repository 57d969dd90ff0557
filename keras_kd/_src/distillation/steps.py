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
    """A batch's inputs, marked: the student's taps are wanted, too.

    Example:
    >>> StudentInputs(keras.ops.ones((2, 4))).inputs.shape == (2, 4)
    True
    """

    inputs: Any


class Answer(NamedTuple):
    """What a model said of a batch: its output, and a view for each tap.

    Example:
    >>> output = keras.ops.ones((2, 3))
    >>> list(Answer(output, {"head": output}).views)
    ['head']
    """

    output: Any
    views: dict


class Targets(NamedTuple):
    """A batch's targets: the labels, if any, and the teacher's answer.

    Example:
    >>> Targets(None, Answer(keras.ops.ones((2, 3)), {})).labels is None
    True
    """

    labels: Any
    teacher: Answer
    sample_index: Any = None


def split_targets(targets, sample_weight=None):
    """`(labels, sample_index, sample_weight)` of what the data has as `y`.

    Example:
    >>> split_targets({"labels": [3, 1], "sample_index": [40, 7]})
    ([3, 1], [40, 7], None)
    >>> split_targets([3, 1], [1.0, 0.5])
    ([3, 1], None, [1.0, 0.5])
    """
    if not (isinstance(targets, dict) and "sample_index" in targets):
        return targets, None, sample_weight
    if isinstance(sample_weight, dict) and "sample_index" in sample_weight:
        # `fit` copies weights for each entry of `y`.
        sample_weight = sample_weight["sample_index"]
    return targets.get("labels"), targets["sample_index"], sample_weight


def carries_answers(targets):
    """Whether a batch's targets bring a teacher's answers along.

    Example:
    >>> carries_answers({"sample_index": [4]}), carries_answers(None)
    (False, False)
    """
    return isinstance(targets, dict) and "predictions" in targets


def one_for_all(sample_weight):
    """The weights of the samples, where each output was given its own copy.

    `fit` copies them for each entry of labels that are told apart.

    Example:
    >>> one_for_all({"small": [1.0, 0.5], "large": [1.0, 0.5]})
    [1.0, 0.5]
    >>> one_for_all([1.0, 0.5])
    [1.0, 0.5]
    """
    if isinstance(sample_weight, dict):
        return next(iter(sample_weight.values()))
    return sample_weight


if BACKEND == "jax":

    class Steps:
        """`train_step` and `test_step` on JAX: `(state, data)`."""

        def train_step(self, state, data):
            data = self._with_state(state, data)
            logs, state = super().train_step(state, data)
            return logs, self._after_step(state)

        def test_step(self, state, data):
            data = self._with_state(state, data, training=False)
            logs, state = super().test_step(state, data)
            return self.answered(data, logs), state

        @contextlib.contextmanager
        def usable_after_errors(self):
            """Gives the model its values back if a batch is refused.

            Not if a step fails while it runs: it was given the values' memory.
            """
            self.jax_state_sync()
            self._jax_state = None  # What was noted of earlier steps.
            try:
                yield
            finally:
                self.jax_state_sync()

        def _get_jax_state(self, **wanted):
            state = super()._get_jax_state(**wanted)
            if wanted.pop("purge_model_variables", False):
                # The model is empty now. Keras notes what goes back into it
                # after the first step; one that refuses its batch comes to an
                # end before.
                names = [name for name in wanted if wanted[name]]
                self._jax_state = dict(zip(names, state))
            return state

        def _with_state(self, state, data, training=True):
            # The teacher's variables are empty in the step: their values
            # travel in the state.
            return self.ask_teacher(data, self._values_of(state), training)

        def _after_step(self, state):
            values = self._values_of(state)
            with keras.StatelessScope(state_mapping=values) as scope:
                self.follow_student()
            moved = [
                scope.get_current_value(variable)
                for variable in self.non_trainable_variables
            ]
            return state[0], moved, *state[2:]

        def _values_of(self, state):
            """Pairs of the variables and the values that they have there."""
            variables = self.trainable_variables + self.non_trainable_variables
            return list(zip(variables, [*state[0], *state[1]]))

else:

    class Steps:
        """`train_step` and `test_step` on TensorFlow and PyTorch: `(data)`."""

        def train_step(self, data):
            logs = super().train_step(self.ask_teacher(data))
            self.follow_student()
            return logs

        def test_step(self, data):
            data = self.ask_teacher(data, training=False)
            return self.answered(data, super().test_step(data))

        @contextlib.contextmanager
        def usable_after_errors(self):
            """Forgets a step that TensorFlow has traced by half."""
            try:
                yield
            except BaseException:
                self.train_function = self.test_function = None
                raise

        def zero_grad(self, set_to_none=True):
            # PyTorch only. Keras holds parameters by path: of two variables
            # of one path PyTorch knows one, and would let the other's
            # gradients pile up.
            for variable in self.trainable_variables:
                variable.value.grad = None


def no_gradient():
    """A context in which no backend records operations for a gradient."""
    if BACKEND == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()


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
