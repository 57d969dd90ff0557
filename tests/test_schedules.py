"""Annealing curves against their closed forms."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND

from keras_kd.schedules import Annealing

START, END = 8.0, 2.0
# progress -> value
CLOSED_FORMS = {
    "linear": lambda p: START + (END - START) * p,
    "cosine": lambda p: END + (START - END) * (1 + math.cos(math.pi * p)) / 2,
    "exponential": lambda p: math.exp(
        (1 - p) * math.log(START) + p * math.log(END)
    ),
}
every_curve = pytest.mark.parametrize("curve", CLOSED_FORMS)


@keras.saving.register_keras_serializable(package="keras_kd_tests")
def step_down(progress, start, end):
    return ops.where(progress < 0.5, start, end)


@every_curve
@pytest.mark.parametrize("step", [0, 1, 25, 50, 99, 100])
def test_curve(curve, step):
    value = float(Annealing(START, END, steps=100, curve=curve)(step))
    assert value == pytest.approx(CLOSED_FORMS[curve](step / 100), rel=1e-5)


def test_middle_by_hand():
    middles = {
        curve: float(Annealing(START, END, steps=10, curve=curve)(5))
        for curve in CLOSED_FORMS
    }
    assert middles == pytest.approx(
        {"linear": 5.0, "cosine": 5.0, "exponential": 4.0}, rel=1e-5
    )


@every_curve
def test_before_and_after(curve):
    schedule = Annealing(START, END, steps=10, curve=curve, offset=5)
    values = [float(schedule(step)) for step in (0, 4, 5, 15, 16, 10**6)]
    assert values == pytest.approx([8.0, 8.0, 8.0, 2.0, 2.0, 2.0], rel=1e-5)
    middle = float(schedule(10))
    assert middle == pytest.approx(CLOSED_FORMS[curve](0.5), rel=1e-5)


@pytest.mark.parametrize("curve", ["linear", "cosine"])
def test_upwards_and_from_0(curve):
    schedule = Annealing(0.0, 1.0, steps=4, curve=curve)
    values = [float(schedule(step)) for step in range(6)]
    assert values[0] == pytest.approx(0.0, abs=1e-7)
    assert values[2] == pytest.approx(0.5)
    assert values[4:] == pytest.approx([1.0, 1.0])
    assert values == sorted(values)


def test_linear_is_the_default():
    assert float(Annealing(8.0, 2.0, steps=4)(1)) == 6.5


def test_curve_of_ones_own():
    schedule = Annealing(START, END, steps=10, curve=step_down)
    assert [float(schedule(step)) for step in (0, 4, 5, 10)] == [8, 8, 2, 2]


@every_curve
def test_steps_are_tensors_of_any_type(curve):
    schedule = Annealing(START, END, steps=10, curve=curve)
    for dtype in ("uint8", "int32", "float32"):
        value = schedule(ops.cast(5, dtype))
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert tuple(value.shape) == ()
        assert float(value) == pytest.approx(CLOSED_FORMS[curve](0.5), rel=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras runs PyTorch eagerly")
@every_curve
def test_compiled_once_for_all_steps(curve):
    schedule = Annealing(START, END, steps=10, curve=curve)
    traces = []

    def traced(step):
        traces.append(step)
        return schedule(step)

    if BACKEND == "jax":
        import jax

        compiled = jax.jit(traced)
    else:
        import tensorflow as tf

        compiled = tf.function(traced)
    values = [float(compiled(ops.cast(step, "int32"))) for step in range(11)]
    expected = [CLOSED_FORMS[curve](step / 10) for step in range(11)]
    assert values == pytest.approx(expected, rel=1e-5)
    assert len(traces) == 1


@every_curve
def test_as_an_optimizers_learning_rate(curve):
    schedule = Annealing(START, END, steps=10, curve=curve)
    optimizer = keras.optimizers.SGD(learning_rate=schedule)
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == START


@pytest.mark.one_backend
@pytest.mark.parametrize("curve", [*CLOSED_FORMS, step_down])
def test_serialization(curve):
    schedule = Annealing(START, END, steps=100, curve=curve, offset=7)
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is Annealing
    assert copy.get_config() == schedule.get_config()
    steps = np.arange(0, 120, 10)
    assert [float(copy(s)) for s in steps] == [
        float(schedule(s)) for s in steps
    ]


@pytest.mark.one_backend
def test_config_round_trip():
    config = Annealing(8.0, 1.0, steps=100, curve="cosine", offset=3)
    config = config.get_config()
    assert config == {
        "start": 8.0,
        "end": 1.0,
        "steps": 100,
        "curve": "cosine",
        "offset": 3,
    }
    assert Annealing.from_config(config).get_config() == config


@pytest.mark.one_backend
@pytest.mark.parametrize("steps", [0, -1, float("nan")])
def test_steps_that_are_not_positive(steps):
    with pytest.raises(ValueError, match="`steps` must be.*Received: steps="):
        Annealing(1.0, 0.0, steps=steps)


@pytest.mark.one_backend
def test_unknown_curve():
    with pytest.raises(ValueError, match="'cosine'.*Received: curve='round'"):
        Annealing(1.0, 0.5, steps=10, curve="round")


@pytest.mark.one_backend
@pytest.mark.parametrize("start, end", [(1.0, 0.0), (0.0, 1.0), (-1.0, 1.0)])
def test_exponential_curve_through_0(start, end):
    with pytest.raises(ValueError, match=f"Received: start={start}, end={end}"):
        Annealing(start, end, steps=10, curve="exponential")
