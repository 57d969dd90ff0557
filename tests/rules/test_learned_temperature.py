"""LearnedTemperature: its gradient against NumPy, and how it trains."""

import keras
import numpy as np
import pytest
from rule_cases import STUDENT
from rule_cases import TEACHER
from rule_cases import WEIGHT
from rule_cases import applied
from rule_cases import loss_of
from rule_cases import soft_loss
from rule_cases import soft_targets
from rule_cases import softmax
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.testing import assert_close
from keras_kd.testing import finite_differences
from keras_kd.testing import value_and_gradient


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_temperature_s_gradient_is_reversed():
    rule = kd.rules.LearnedTemperature(0.5, low=1.0, high=9.0)
    rule.build((None, 3))

    def value(logit):
        with keras.StatelessScope(state_mapping=[(rule.logit, logit)]):
            return soft_loss(applied(rule))

    def reference(logit):
        temperature = 1.0 + 8.0 * sigmoid(logit[()])
        return soft_targets(TEACHER, STUDENT, WEIGHT, temperature)

    found, gradient = value_and_gradient(value, np.array(1.0, "float32"))
    slope = finite_differences(reference, np.array(1.0))
    assert found == pytest.approx(reference(np.array(1.0)), rel=1e-5)
    assert abs(slope) > 1e-3
    assert gradient == pytest.approx(-0.5 * slope, rel=1e-4)


def dense_reference(weights, inputs):
    hidden = np.maximum(inputs @ weights[0] + weights[1], 0.0)
    return (hidden @ weights[2] + weights[3])[:, 0]


def test_the_temperature_of_each_sample_is_reversed_too():
    rule = kd.rules.LearnedTemperature(0.7, per_sample=True, units=5)
    rule.build((None, 3))
    random = np.random.default_rng(0)
    start = [random.normal(size=v.shape) for v in rule.trainable_variables]
    inputs = np.concatenate([softmax(TEACHER), softmax(STUDENT)], axis=-1)
    variables = rule.trainable_variables

    def value(arrays):
        mapping = list(zip(variables, arrays))
        with keras.StatelessScope(state_mapping=mapping):
            return soft_loss(applied(rule))

    def reference(arrays):
        temperature = 1.0 + 20.0 * sigmoid(dense_reference(arrays, inputs))
        return soft_targets(TEACHER, STUDENT, WEIGHT, temperature)

    found, gradient = value_and_gradient(
        value, [array.astype("float32") for array in start]
    )
    assert found == pytest.approx(reference(start), rel=1e-5)
    for one, slope in zip(gradient, finite_differences(reference, start)):
        assert_close(one, -0.7 * slope, 1e-3)
        assert np.abs(slope).max() > 1e-3


def test_no_gradient_flows_to_the_student_by_way_of_the_temperature():
    rule = kd.rules.LearnedTemperature(1.0, per_sample=True, units=4)
    rule.build((None, 3))
    random = np.random.default_rng(1)
    rule.set_weights(
        [random.normal(size=weight.shape) for weight in rule.get_weights()]
    )
    temperature = numpy(applied(rule).temperature).astype("float64")
    assert len(set(temperature.round(3))) > 3
    _, gradient = value_and_gradient(loss_of(rule), STUDENT.astype("float32"))

    def held(student):
        return soft_targets(TEACHER, student, WEIGHT, temperature)

    assert_close(gradient, finite_differences(held, STUDENT), 2e-5)


def test_it_begins_at_the_authors_temperature_between_the_bounds():
    for per_sample in (False, True):
        rule = kd.rules.LearnedTemperature(1.0, per_sample=per_sample)
        rule.build((None, 3))
        temperature = numpy(applied(rule).temperature)
        np.testing.assert_allclose(
            temperature, 1 + 20 * sigmoid(1.0), rtol=1e-5
        )


# --- in training --------------------------------------------------------------


def sure_teacher():
    """With logits large enough that the temperature matters."""
    teacher = functional_model(8, name="teacher")
    head = teacher.get_layer("head")
    head.kernel.assign(10.0 * head.kernel)
    return teacher


def distiller(rule, optimizer=None, hard_weight=0.1):
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        sure_teacher(),
        functional_model(4, name="student"),
        [kd.Transfer(kd.losses.SoftTargets(), rules=[rule], name="soft")],
        hard_weight=hard_weight,
    )
    model.compile(optimizer or keras.optimizers.SGD(0.05), cross_entropy())
    return model


def weights_of(rule):
    return [numpy(variable.value) for variable in rule.trainable_variables]


@pytest.mark.parametrize("per_sample", [False, True])
def test_it_trains_with_the_student_and_is_no_part_of_it(per_sample):
    rule = kd.rules.LearnedTemperature(1.0, per_sample=per_sample, units=8)
    model = distiller(rule)
    names = {id(variable) for variable in model.student.variables}
    assert not names & {id(variable) for variable in rule.variables}
    trained = {id(variable) for variable in model.trainable_variables}
    assert trained >= {id(variable) for variable in rule.trainable_variables}
    start = weights_of(rule)
    logs = model.fit(*data(), batch_size=8, epochs=3, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(start, weights_of(rule)))


def test_one_step_moves_it_against_the_student():
    rule = kd.rules.LearnedTemperature(0.5)
    model = distiller(rule, keras.optimizers.SGD(1.0), hard_weight=0.0)
    model.student.get_layer("norm").trainable = False
    x, y = data(8)
    teacher, student = numpy(model.teacher(x)), numpy(model.student(x))

    def reference(logit):
        temperature = 1.0 + 20.0 * sigmoid(logit[()])
        teacher64, student64 = teacher.astype("f8"), student.astype("f8")
        return soft_targets(teacher64, student64, np.ones(8), temperature)

    slope = finite_differences(reference, np.array(1.0))
    assert abs(slope) > 1e-3
    model.train_on_batch(x, y)
    moved = float(weights_of(rule)[0]) - 1.0
    # Gradient descent would go down the slope; this goes up, at half speed.
    assert moved == pytest.approx(0.5 * slope, rel=1e-3)


def test_without_reversal_it_stays():
    rule = kd.rules.LearnedTemperature(0.0)
    distiller(rule).fit(*data(), batch_size=8, verbose=0)
    assert rule.temperature == pytest.approx(15.6212, rel=1e-4)


def test_the_strength_follows_its_schedule_and_is_logged():
    curve = kd.schedules.Annealing(0.0, 1.0, steps=6, curve="cosine")
    rule = kd.rules.LearnedTemperature(curve)
    model = distiller(rule)
    logs = model.fit(*data(), batch_size=8, epochs=3, verbose=0).history
    # The last step of each epoch of three.
    expected = [(1 - np.cos(np.pi * step / 6)) / 2 for step in (2, 5, 6)]
    np.testing.assert_allclose(logs["soft_reversal"], expected, rtol=1e-5)
    assert float(rule.reversal) == pytest.approx(1.0)


@pytest.mark.parametrize("per_sample", [False, True])
def test_saved_and_resumed_it_goes_on_as_it_would_have(per_sample, tmp_path):
    curve = kd.schedules.Annealing(0.0, 1.0, steps=8)
    rule = kd.rules.LearnedTemperature(curve, per_sample=per_sample, units=4)
    model = distiller(rule, keras.optimizers.Adam(0.05))
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "distiller.keras")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    loaded.set_teacher(model.teacher)
    loaded.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    (other,) = loaded.transfers[0].rules
    for one, two in zip(weights_of(rule), weights_of(other)):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    for one, two in zip(
        model.student.get_weights(), loaded.student.get_weights()
    ):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_two_learned_temperatures_learn_apart():
    rules = [kd.rules.LearnedTemperature(1.0) for _ in range(2)]
    keras.utils.set_random_seed(0)
    model = kd.Distiller(
        sure_teacher(),
        functional_model(4, name="student"),
        [
            kd.Transfer(kd.losses.SoftTargets(), rules=[rule], weight=weight)
            for rule, weight in zip(rules, (1.0, 0.0))
        ],
        hard_weight=0.0,
    )
    model.compile(keras.optimizers.SGD(0.05), cross_entropy())
    model.fit(*data(), batch_size=8, epochs=2, verbose=0)
    assert rules[0].temperature != pytest.approx(15.6212, rel=1e-4)
    assert rules[1].temperature == pytest.approx(15.6212, rel=1e-4)


def test_a_half_precision_student_learns_with_it():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        rule = kd.rules.LearnedTemperature(1.0, per_sample=True, units=4)
        model = distiller(rule)
    finally:
        keras.config.set_dtype_policy("float32")
    logs = model.fit(*data(), batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert {v.dtype for v in rule.variables} == {"float32"}


# --- errors -------------------------------------------------------------------


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`reversal` must be a finite"):
        kd.rules.LearnedTemperature(-1.0)
    with pytest.raises(ValueError, match="`high` must.*of at least 5"):
        kd.rules.LearnedTemperature(1.0, low=5.0, high=1.0)
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        kd.rules.LearnedTemperature(1.0, per_sample=True, units=0)
    rule = kd.rules.LearnedTemperature(1.0, per_sample=True)
    with pytest.raises(ValueError, match="a temperature of its own"):
        _ = rule.temperature
