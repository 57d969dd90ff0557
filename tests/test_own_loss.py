"""Students that keep their loss in `compute_loss`."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import numpy

import keras_kd as kd


def data(seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(12, 4)).astype("float32")
    return x, random.normal(size=(12, 3)).astype("float32")


def plain(name):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(inputs), name=name)


class Cubed(keras.Model):
    """A loss and a metric of its own, and a regularizer in it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.largest = keras.metrics.Mean(name="largest")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        error = ops.sum(ops.abs(y_pred - y) ** 3, axis=-1)
        self.largest.update_state(ops.max(error))
        if sample_weight is not None:
            error = error * sample_weight
        return ops.mean(error) + ops.sum(x) * 0.0 + sum(self.losses)


def cubed(name="student"):
    inputs = keras.Input((4,))
    outputs = layers.Dense(3, kernel_regularizer="l2")(inputs)
    return Cubed(inputs, outputs, name=name)


def pair(student, hard_weight=0.5):
    transfer = kd.Transfer(kd.losses.FeatureMatching(), weight=0.25)
    distiller = kd.Distiller(
        plain("teacher"), student, transfer, hard_weight=hard_weight
    )
    distiller.compile(keras.optimizers.SGD(0.1))
    return distiller


def test_it_is_the_hard_loss():
    (x, y), student = data(), cubed()
    weight = np.linspace(0.0, 2.0, 12, dtype="float32")
    error = np.sum(np.abs(student.predict(x, verbose=0) - y) ** 3, axis=-1)
    penalty = 0.01 * np.sum(numpy(student.layers[-1].kernel.value) ** 2)
    distiller = pair(student)
    logs = distiller.evaluate(
        x, y, 12, 0, sample_weight=weight, return_dict=True
    )
    expected = 0.5 * (np.mean(error * weight) + penalty)
    np.testing.assert_allclose(logs["hard_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["largest"], np.max(error), rtol=1e-5)
    assert logs["student_losses"] == 0.0  # They are in it.
    np.testing.assert_allclose(
        logs["loss"], logs["hard_loss"] + logs["feature_matching_loss"]
    )


def test_without_terms_it_trains_as_by_itself():
    x, y = data()
    alone, student = cubed(), cubed()
    student.set_weights(alone.get_weights())
    alone.compile(keras.optimizers.SGD(0.1))
    alone.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    transfer = kd.Transfer(kd.losses.FeatureMatching(), weight=0.0)
    distiller = kd.Distiller(
        plain("teacher"), student, transfer, hard_weight=1.0
    )
    distiller.compile(keras.optimizers.SGD(0.1))
    distiller.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(student.get_weights(), alone.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


class Weighed(keras.Model):
    """Hands its labels on to the compiled loss, as detectors do."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        y = {name: 2.0 * value for name, value in y.items()}
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def weighed(name="student"):
    inputs = keras.Input((4,))
    outputs = {
        "one": layers.Dense(3, name="one")(inputs),
        "two": layers.Dense(3, name="two")(inputs),
    }
    return Weighed(inputs, outputs, name=name)


@pytest.mark.parametrize("compiled", ["student", "distiller"])
def test_the_compiled_loss_that_it_uses(compiled):
    (x, y), student = data(), weighed()
    teacher = keras.Model(student.input, student.output)
    teacher = keras.models.clone_model(teacher)
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="[one]", student="[one]"
    )
    loss = {"one": "mae", "two": "mse"}
    if compiled == "student":
        student.compile("sgd", loss)
    distiller = kd.Distiller(teacher, student, transfer, hard_weight=1.0)
    distiller.compile("sgd", None if compiled == "student" else loss)
    out = student.predict(x, verbose=0)
    logs = distiller.fit(x, {"one": y, "two": y}, 12, verbose=0).history
    one = np.mean(np.abs(out["one"] - 2 * y))
    two = np.mean((out["two"] - 2 * y) ** 2)
    np.testing.assert_allclose(logs["hard_loss"], [one + two], rtol=1e-5)
    np.testing.assert_allclose(logs["one_loss"], [one], rtol=1e-5)
    np.testing.assert_allclose(logs["two_loss"], [two], rtol=1e-5)


@pytest.mark.one_backend
def test_a_step_of_ones_own_is_refused():
    class Steps(keras.Model):
        def train_step(self, data):
            return {}

    inputs = keras.Input((4,))
    student = Steps(inputs, layers.Dense(3)(inputs), name="stepping")
    message = "never be called.*Received.*'stepping'.*compute_loss"
    with pytest.raises(ValueError, match=message):
        kd.Distiller(plain("teacher"), student)


@pytest.mark.one_backend
def test_the_summary_names_it():
    assert "hard_loss: Cubed.compute_loss" in repr(pair(cubed()))
