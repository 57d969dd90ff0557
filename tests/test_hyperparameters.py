"""Temperatures and weights that change while training, in compiled steps."""

import keras
import numpy as np
import pytest
from support import cross_entropy

import keras_kd as kd

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = np.arange(24) % 3


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def make(temperature=4.0, weight=0.9, hard_weight=0.1):
    """A distiller that learns nothing: only what is annealed can differ."""
    distiller = kd.Distiller(
        model(),
        model(),
        [kd.Transfer(kd.losses.SoftTargets(temperature), weight=weight)],
        hard_weight=hard_weight,
    )
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    return distiller


def fit(distiller, **arguments):
    arguments = {"batch_size": 8, "verbose": 0, **arguments}
    return distiller.fit(X, Y, shuffle=False, **arguments).history


@pytest.fixture(scope="module")
def compiled_once():
    return make()


@pytest.fixture
def count_traces(monkeypatch):
    """Counts how often the step's Python runs."""
    traces = []
    original = kd.Distiller.compute_loss

    def counted(self, *args, **kwargs):
        traces.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kd.Distiller, "compute_loss", counted)
    return traces


@pytest.mark.parametrize(
    "curve, middle",
    [
        ("linear", 4.5),
        ("cosine", 4.5),
        ("exponential", 8.0**0.5),
        (lambda progress, start, end: start - 2.0 * progress, 7.0),
    ],
)
def test_temperature_annealing(compiled_once, curve, middle):
    distiller = compiled_once
    annealing = kd.callbacks.TemperatureAnnealing(
        8.0, 1.0, epochs=3, curve=curve
    )
    logs = fit(distiller, epochs=4, callbacks=[annealing])
    end = 6.0 if callable(curve) else 1.0
    np.testing.assert_allclose(
        logs["soft_targets_temperature"], [8.0, middle, end, end], rtol=1e-5
    )
    # The compiled step follows: at learning rate 0 only it can differ.
    losses = np.array(logs["soft_targets_loss"])
    assert abs(losses[0] - losses[1]) > 1e-6
    np.testing.assert_allclose(losses[2], losses[3], rtol=1e-6)
    assert float(distiller.transfers[0].loss.temperature) == pytest.approx(end)


def test_a_compiled_step_follows_without_a_new_trace(count_traces):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs eagerly: nothing is traced")
    distiller = make()
    fit(distiller, epochs=1)
    before = len(count_traces)
    annealing = kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=3)
    logs = fit(distiller, epochs=3, callbacks=[annealing])
    assert len(count_traces) == before
    assert len(set(np.round(logs["soft_targets_loss"], 6))) == 3


def test_assigning_by_hand_takes_effect_in_the_next_fit():
    distiller = make()
    first = fit(distiller)["soft_targets_loss"][0]
    distiller.transfers[0].loss.temperature = 1.0
    second = fit(distiller)["soft_targets_loss"][0]
    distiller.transfers[0].weight = 0.0
    distiller.hard_weight = 2.0
    third = fit(distiller)
    assert abs(first - second) > 1e-6
    assert third["soft_targets_loss"] == [0.0]
    fourth = make(hard_weight=1.0)
    fourth.student.set_weights(distiller.student.get_weights())
    np.testing.assert_allclose(
        third["hard_loss"][0], 2.0 * fit(fourth)["hard_loss"][0], rtol=1e-5
    )


def test_a_schedule_in_the_place_of_the_number():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [2, 5], [8.0, 4.0, 2.0]
    )
    distiller = make(temperature=schedule)
    logs = fit(distiller, epochs=3)
    # Three steps an epoch: the last steps are 2, 5 and 8.
    assert logs["soft_targets_temperature"] == [8.0, 4.0, 2.0]
    assert distiller.training_step == 9
    fit(distiller, epochs=1)
    assert distiller.training_step == 12


def test_schedules_of_weights():
    distiller = make(
        weight=kd.schedules.Annealing(1.0, 0.0, steps=4),
        hard_weight=kd.schedules.Annealing(0.0, 2.0, steps=4),
    )
    logs = fit(distiller, epochs=2)
    np.testing.assert_allclose(logs["soft_targets_weight"], [0.5, 0.0])
    np.testing.assert_allclose(logs["hard_weight"], [1.0, 2.0])


def test_a_schedule_in_each_step_equals_the_closed_form():
    # Three steps an epoch: it begins with the third epoch.
    schedule = kd.schedules.Annealing(1.0, 0.0, steps=5, offset=6)
    distiller = make(weight=schedule)
    assert fit(distiller, epochs=2)["soft_targets_weight"] == [1.0, 1.0]
    logs = fit(distiller, epochs=3)
    expected = 1.0 - np.array([2.0, 5.0, 5.0]) / 5.0
    np.testing.assert_allclose(logs["soft_targets_weight"], expected, atol=1e-6)
    assert float(distiller.transfers[0].loss.temperature) == 4.0
    assert "soft_targets_weight" in fit(distiller)
    assert float(distiller.transfers[0].weight) == 0.0


def test_a_schedule_goes_on_from_initial_epoch():
    distiller = make(temperature=kd.schedules.Annealing(10.0, 1.0, steps=11))
    first = fit(distiller, epochs=2)
    second = fit(distiller, epochs=4, initial_epoch=2)
    both = (
        first["soft_targets_temperature"] + second["soft_targets_temperature"]
    )
    expected = 10.0 - 9.0 * np.array([2, 5, 8, 11]) / 11.0
    np.testing.assert_allclose(both, expected, rtol=1e-5)


def test_weight_annealing_of_the_hard_loss():
    distiller = make()
    fade = kd.callbacks.WeightAnnealing(1.0, 0.0, transfer="hard", epochs=2)
    logs = fit(distiller, epochs=2, callbacks=[fade])
    assert logs["hard_weight"] == [1.0, 0.0]
    assert logs["hard_loss"][1] == 0.0


def test_only_the_named_transfer_is_annealed():
    distiller = kd.Distiller(
        model(),
        model(),
        [
            kd.Transfer(kd.losses.SoftTargets(4.0), name=name)
            for name in ("first", "second")
        ],
    )
    distiller.compile("sgd", cross_entropy())
    annealing = kd.callbacks.TemperatureAnnealing(
        8.0, 1.0, epochs=2, transfer="second"
    )
    logs = fit(distiller, epochs=2, callbacks=[annealing])
    assert logs["second_temperature"] == [8.0, 1.0]
    assert "first_temperature" not in logs
    assert float(distiller.transfers[0].loss.temperature) == 4.0


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make_callback, match",
    [
        (
            lambda: kd.callbacks.TemperatureAnnealing(0.0, 1.0, epochs=2),
            "`start`.*above 0.*Received",
        ),
        (
            lambda: kd.callbacks.TemperatureAnnealing(
                1.0, 1.0, epochs=2, curve="wavy"
            ),
            "`curve`.*Received.*wavy",
        ),
        (
            lambda: kd.callbacks.WeightAnnealing(
                -1.0, 1.0, transfer="soft_targets", epochs=2
            ),
            "`start`.*at least 0.*Received",
        ),
        (
            lambda: kd.callbacks.WeightAnnealing(
                1.0, 0.0, transfer="hard", epochs=2, curve="exponential"
            ),
            "exponential.*positive.*Received",
        ),
    ],
)
def test_bad_arguments(make_callback, match):
    with pytest.raises(ValueError, match=match):
        make_callback()


@pytest.mark.one_backend
def test_annealing_in_each_step_is_a_schedule():
    with pytest.raises(TypeError, match="unexpected keyword argument 'per'"):
        kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=2, per="step")


@pytest.mark.one_backend
def test_a_transfer_that_does_not_exist():
    fade = kd.callbacks.WeightAnnealing(1.0, 0.0, transfer="gone", epochs=2)
    with pytest.raises(
        ValueError, match="nothing to anneal.*gone.*soft_targets"
    ):
        fit(make(), callbacks=[fade])
