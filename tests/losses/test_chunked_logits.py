"""Losses of logits in chunks are the losses of the logits."""

import keras
import numpy as np
import pytest
from support import numpy

from keras_kd import losses
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient

CLASSES, LENGTH = 11, 7
WEIGHTS = np.random.default_rng(1).uniform(0.0, 2.0, (2, LENGTH))
WEIGHTS[0, 2:4] = 0.0
LABELS = np.random.default_rng(2).integers(0, CLASSES, (2, LENGTH))
DIVERGENCES = {
    "soft targets": lambda **k: losses.SoftTargets(3.0, **k),
    "standardized": lambda **k: losses.SoftTargets(2.0, standardize=True, **k),
    "reverse KL": lambda **k: losses.ReverseKL(**k),
    "skew KL": lambda **k: losses.SkewKL(**k),
    "skew reverse KL": lambda **k: losses.SkewReverseKL(**k),
    "JSD": lambda **k: losses.JensenShannon(0.1, **k),
    "top k": lambda **k: losses.TopKTargets(3, **k),
    "decoupled": lambda **k: losses.DecoupledKD(**k),
    "squared error": lambda **k: losses.LogitMatching(**k),
}


def hidden_states(units, seed, shape=(2, LENGTH)):
    return keras.random.normal((*shape, units), seed=seed)


def head(units, seed, **arguments):
    initializer = keras.initializers.RandomNormal(stddev=0.7, seed=seed)
    arguments = {"kernel_initializer": initializer, **arguments}
    layer = keras.layers.Dense(CLASSES, **arguments)
    layer.build((None, None, units))
    return layer


def gradients(function, student_hidden, layer):
    """A loss's value; its gradient of the hidden states and of the head."""
    variables = layer.trainable_variables

    def of(arrays):
        hidden, *values = arrays
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return function(hidden, layer)

    arrays = [numpy(student_hidden), *(numpy(v) for v in variables)]
    return value_and_gradient(of, arrays)


def compare(loss, chunk_size, weights=WEIGHTS, shape=(2, LENGTH), **context):
    teacher_hidden, student_hidden = (
        hidden_states(units, units, shape) for units in (5, 4)
    )
    teacher_head, student_head = head(5, 1), head(4, 2)

    def chunked(hidden, layer):
        sides = [
            losses.ChunkedLogits(*side, chunk_size=chunk_size)
            for side in ((teacher_hidden, teacher_head), (hidden, layer))
        ]
        return loss(*sides, weights, **context)

    def dense(hidden, layer):
        return loss(
            teacher_head(teacher_hidden), layer(hidden), weights, **context
        )

    found = gradients(chunked, student_hidden, student_head)
    expected = gradients(dense, student_hidden, student_head)
    assert_close(found[0], expected[0], 1e-5)
    for one, other in zip(found[1], expected[1]):
        assert np.abs(numpy(other)).max() > 1e-3
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_value_and_gradient_are_those_of_dense_logits(name):
    context = {"labels": LABELS} if name == "decoupled" else {}
    compare(DIVERGENCES[name](), 3, **context)


@pytest.mark.parametrize("chunk_size", [1, LENGTH, 100])
def test_any_size_of_chunks_gives_the_same(chunk_size):
    compare(losses.SoftTargets(1.0), chunk_size)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_reductions_are_those_of_keras(reduction):
    compare(losses.ReverseKL(reduction=reduction), 3)


def test_weights_of_samples_and_none():
    compare(losses.ReverseKL(), 3, weights=None)
    compare(losses.ReverseKL(), 3, weights=np.array([0.5, 2.0]))


def test_logits_of_samples_come_in_chunks_of_samples():
    compare(losses.ReverseKL(), 4, weights=WEIGHTS[0], shape=(LENGTH,))
