"""A temperature for each sample: in the losses, by rules, and learned."""

import numpy as np
import pytest
from keras import ops
from rule_cases import LABELS
from rule_cases import STUDENT
from rule_cases import TEACHER
from rule_cases import WEIGHT
from rule_cases import applied
from rule_cases import loss_of
from rule_cases import normalized_entropy
from rule_cases import rule_inputs
from rule_cases import soft_targets
from support import numpy

import keras_kd as kd
from keras_kd.rules import apply_rules
from keras_kd.testing import assert_close
from keras_kd.testing import finite_differences
from keras_kd.testing import value_and_gradient

TEMPERATURES = np.array([1.0, 2.0, 3.5, 9.0, 0.5, 4.0])

# --- in the losses ------------------------------------------------------------


def test_soft_targets_take_a_temperature_a_sample():
    loss = kd.losses.SoftTargets(7.0)

    def value(student):
        return loss(
            TEACHER.astype("float32"),
            student,
            WEIGHT.astype("float32"),
            temperature=ops.convert_to_tensor(TEMPERATURES, "float32"),
        )

    def expected(student):
        return soft_targets(TEACHER, student, WEIGHT, TEMPERATURES)

    found, gradient = value_and_gradient(value, STUDENT.astype("float32"))
    assert found == pytest.approx(expected(STUDENT), rel=1e-5)
    assert_close(gradient, finite_differences(expected, STUDENT), 2e-5)


@pytest.mark.parametrize("make", [kd.losses.SoftTargets, kd.losses.DecoupledKD])
def test_equal_temperatures_are_the_loss_s_own(make):
    labels = {"labels": LABELS} if make is kd.losses.DecoupledKD else {}
    sides = [
        ops.convert_to_tensor(side, "float32") for side in (TEACHER, STUDENT)
    ]
    one = make(3.0, reduction=None)(*sides, **labels)
    each = make(7.0, reduction=None)(
        *sides, temperature=ops.full((6,), 3.0), **labels
    )
    np.testing.assert_allclose(numpy(one), numpy(each), rtol=1e-5, atol=1e-6)
    # Sample by sample, each at its own.
    each = make(7.0, reduction=None)(
        *sides,
        temperature=ops.convert_to_tensor(TEMPERATURES, "float32"),
        **labels,
    )
    for place, temperature in enumerate(TEMPERATURES):
        one = make(temperature, reduction=None)(*sides, **labels)
        assert numpy(each)[place] == pytest.approx(numpy(one)[place], rel=1e-4)


def test_tokens_share_the_temperature_of_their_sample():
    random = np.random.default_rng(0)
    teacher, student = random.normal(size=(2, 2, 5, 4)).astype("float32")
    loss = kd.losses.SoftTargets(reduction=None)
    each = numpy(loss(teacher, student, temperature=ops.array([2.0, 5.0])))
    assert each.shape == (2, 5)
    for place, temperature in enumerate((2.0, 5.0)):
        one = kd.losses.SoftTargets(temperature, reduction=None)
        np.testing.assert_allclose(
            each[place], numpy(one(teacher, student))[place], rtol=1e-4
        )


# --- by the entropy -----------------------------------------------------------


@pytest.mark.parametrize("sharp", ["unsure", "sure"])
def test_temperature_by_entropy(sharp):
    share = normalized_entropy(TEACHER)
    if sharp == "unsure":
        share = 1 - share
    expected = 1.5 + 4.5 * share
    rule = kd.rules.TemperatureByEntropy(1.5, 6.0, sharp=sharp)
    result = applied(rule)
    np.testing.assert_allclose(numpy(result.temperature), expected, rtol=1e-5)
    np.testing.assert_allclose(numpy(result.sample_weight), WEIGHT)
    value, gradient = value_and_gradient(
        loss_of(rule), STUDENT.astype("float32")
    )

    def reference(student):
        return soft_targets(TEACHER, student, WEIGHT, expected)

    assert value == pytest.approx(reference(STUDENT), rel=1e-5)
    assert_close(gradient, finite_differences(reference, STUDENT), 2e-5)
    # The surest answer of all, and the one that is not.
    assert (numpy(result.temperature)[2] > 5.0) == (sharp == "unsure")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_temperatures_are_in_full_precision(dtype):
    rule = kd.rules.TemperatureByEntropy()
    temperature = numpy(applied(rule, dtype=dtype).temperature)
    assert temperature.dtype == np.float32
    full = numpy(applied(rule).temperature)
    np.testing.assert_allclose(temperature, full, rtol=0.02)


# --- errors -------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_loss_without_a_temperature_is_refused():
    rule = kd.rules.TemperatureByEntropy()
    with pytest.raises(ValueError, match="LogitMatching|does not compare"):
        kd.Transfer(kd.losses.LogitMatching(), rules=[rule])
    with pytest.raises(ValueError, match="ReverseKL, which takes none"):
        kd.Transfer(kd.losses.ReverseKL(), rules=[rule])
    with pytest.raises(ValueError, match="One rule of a transfer may set"):
        kd.Transfer(
            kd.losses.SoftTargets(),
            rules=[rule, kd.rules.LearnedTemperature(1.0)],
        )


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`low` must be a finite"):
        kd.rules.TemperatureByEntropy(0.0)
    with pytest.raises(ValueError, match="`high` must.*of at least 4"):
        kd.rules.TemperatureByEntropy(4.0, 2.0)
    with pytest.raises(ValueError, match="`sharp` must be one of"):
        kd.rules.TemperatureByEntropy(sharp="both")


@pytest.mark.one_backend
def test_rules_that_share_a_hyperparameter_are_refused():
    rules = [
        kd.rules.EasiestFirst(0.5),
        kd.rules.EasiestFirst(0.5, by="student_loss"),
    ]
    with pytest.raises(ValueError, match="two rules with 'share'"):
        kd.Transfer(kd.losses.SoftTargets(), rules=rules)


def test_a_rule_without_a_temperature_leaves_the_loss_s_own():
    result = apply_rules([kd.rules.WeighByEntropy()], rule_inputs())
    assert result.temperature is None
