"""Runs the teacher alone: its predictions, and the time that it takes."""

import time
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.backend import compiled_pass
from keras_kd._src.diagnosis.cost import MOST_BYTES
from keras_kd._src.diagnosis.input_range import moments_at
from keras_kd._src.diagnosis.input_range import watched_layers
from keras_kd._src.distillation.batch import split_batch
from keras_kd._src.distillation.batch import teacher_inputs
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import tapped

# About how many values of a sample's predictions are compared.
COMPARED = 4096
SEED = "seed_generator_state"  # Keras' name for the state of a generator.


class TeacherResult(NamedTuple):
    """A teacher's results for a batch, as arrays."""

    sampled: list  # Some values of each output, shape `(batch, ...)`.
    classes: list  # The most likely class of each output.
    features: dict  # By tap, if they are small enough.
    moments: dict  # By tap of `watched_layers`.


class TeacherPass:
    """Runs a teacher on batches, as the distiller does.

    Args:
        teacher: a `Teacher`.
        taps: its taps, besides the output.
    """

    def __init__(self, teacher, taps):
        self.teacher = teacher
        self.taps = [*taps, Tap("")]
        self.watched = watched_layers(teacher.wrapped)
        self._run = compiled_pass(
            self._predict, list(teacher.variables), teacher.supports_jit
        )

    def _predict(self, batch, pairs):
        batch = split_batch(batch, training=True)
        batch = batch._replace(inputs=teacher_inputs(batch.inputs))
        taps = [Tap(text) for text in self.watched]
        with tapped(self.teacher.wrapped, taps) as seen:
            found = self.teacher.predictions(batch, self.taps, pairs, True)
            seen = dict(seen)
        outputs = keras.tree.flatten(found.output)
        plain = [each for each in outputs if ops.is_tensor(each)]
        # Of logits in chunks, the hidden states that they come from.
        outputs = [getattr(each, "source", each) for each in outputs]
        return {
            "sampled": [_sampled(each) for each in outputs],
            "classes": [ops.argmax(each, axis=-1) for each in plain],
            "features": {
                text: value
                for text, value in found.features.items()
                if _is_small(value)
            },
            "moments": {
                text: moments_at(self.watched[text], value)
                for text, value in seen.items()
            },
        }

    def __call__(self, batch):
        found = keras.tree.map_structure(ops.convert_to_numpy, self._run(batch))
        return TeacherResult(**found)

    def timed(self, batch):
        """The result for a batch, and the time in seconds."""
        begin = time.perf_counter()
        found = self(batch)
        return found, time.perf_counter() - begin

    def with_other_seeds(self, batch):
        """The result for a batch with other random numbers, if any."""
        seeds = [v for v in self.teacher.variables if v.name == SEED]
        states = [ops.convert_to_numpy(seed) for seed in seeds]
        try:
            for seed, state in zip(seeds, states):
                seed.assign(state + 1)
            return self(batch)
        finally:
            for seed, state in zip(seeds, states):
                seed.assign(state)


def first_half_twice(batch):
    """A batch of the same size that holds the first half's samples twice."""
    size = size_of(batch)
    rows = np.resize(np.arange(max(size // 2, 1)), size)
    return keras.tree.map_structure(
        lambda each: None if each is None else each[rows], batch
    )


def size_of(batch):
    """The number of samples in a batch of arrays."""
    given = [each for each in keras.tree.flatten(batch) if each is not None]
    return len(given[0])


def _sampled(output):
    output = ops.reshape(output, (ops.shape(output)[0], -1))
    step = max(1, (output.shape[-1] or 1) // COMPARED)
    return output[:, ::step]


def _is_small(value):
    if not ops.is_tensor(value):
        return False
    return 4 * np.prod(tuple(value.shape), dtype="int64") <= MOST_BYTES
