"""Rules that weigh samples: each one against NumPy, alone and in the loss."""

import numpy as np
import pytest
from keras import ops
from rule_cases import LABELS
from rule_cases import STUDENT
from rule_cases import TEACHER
from rule_cases import WEIGHT
from rule_cases import by_difficulty
from rule_cases import by_loss
from rule_cases import by_votes
from rule_cases import cross_entropy
from rule_cases import easiest
from rule_cases import entropy
from rule_cases import loss_of
from rule_cases import normalized_entropy
from rule_cases import rule_inputs
from rule_cases import soft_targets
from rule_cases import softmax
from rule_cases import weight_of
from support import numpy

import keras_kd as kd
from keras_kd.rules import apply_rules
from keras_kd.testing import assert_close
from keras_kd.testing import compiled
from keras_kd.testing import finite_differences
from keras_kd.testing import value_and_gradient

MEMBERS = {"a": TEACHER, "b": STUDENT, "c": TEACHER[:, ::-1].copy()}


def by_divergence():
    p = np.stack([softmax(member) for member in MEMBERS.values()])
    divergence = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
    return 1 - divergence / np.log(3)


PRESENT = WEIGHT > 0
LABELLED = PRESENT & (LABELS >= 0)
UNSURE = normalized_entropy(TEACHER, 4.0)
RULES = {
    "unsure": (kd.rules.WeighByEntropy("unsure"), UNSURE),
    "sure": (kd.rules.WeighByEntropy("sure"), 1.0 - UNSURE),
    "loss": (kd.rules.WeighByLoss(), by_loss()),
    "difficulty": (kd.rules.WeighByDifficulty(2.0), by_difficulty(2.0)),
    "gamma": (kd.rules.WeighByDifficulty(0.5), by_difficulty(0.5)),
    "divergence": (kd.rules.WeighByAgreement(list(MEMBERS)), by_divergence()),
    "votes": (
        kd.rules.WeighByAgreement(list(MEMBERS), by="votes"),
        by_votes(list(MEMBERS.values())),
    ),
    "easiest": (
        kd.rules.EasiestFirst(0.5),
        easiest(0.5, entropy(softmax(TEACHER)), PRESENT),
    ),
    "by_teacher": (
        kd.rules.EasiestFirst(0.5, by="teacher_loss"),
        easiest(0.5, cross_entropy(TEACHER), LABELLED),
    ),
    "by_student": (
        kd.rules.EasiestFirst(0.6, by="student_loss"),
        easiest(0.6, cross_entropy(STUDENT), LABELLED),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_weights_are_those_of_numpy(name):
    rule, factor = RULES[name]
    assert len(set(factor[PRESENT])) > 1  # it does something here
    weight = weight_of(rule, features=MEMBERS)
    np.testing.assert_allclose(weight, WEIGHT * factor, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_the_loss_and_its_gradient_take_the_weights_as_they_are(name):
    rule, factor = RULES[name]
    value, gradient = value_and_gradient(
        loss_of(rule, features=MEMBERS), STUDENT.astype("float32")
    )

    def expected(student):
        return soft_targets(TEACHER, student, WEIGHT * factor, 2.0)

    assert value == pytest.approx(expected(STUDENT), rel=1e-5)
    assert_close(gradient, finite_differences(expected, STUDENT), 2e-5)
    np.testing.assert_array_equal(gradient[~PRESENT], 0.0)


@pytest.mark.parametrize("name", RULES)
def test_an_absent_sample_changes_nothing_for_the_others(name):
    rule, _ = RULES[name]
    whole = apply_rules([rule], rule_inputs(features=MEMBERS))
    given = rule_inputs(features=MEMBERS)
    rest = np.flatnonzero(PRESENT)
    without = kd.rules.RuleInputs(
        *(ops.take(part, rest, axis=0) for part in given[:3]),
        LABELS[rest],
        teacher_features={
            tap: ops.take(feature, rest, axis=0)
            for tap, feature in given.teacher_features.items()
        },
    )
    np.testing.assert_allclose(
        numpy(whole.sample_weight)[rest],
        numpy(apply_rules([rule], without).sample_weight),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", RULES)
def test_compiled_with_the_batch_size_left_open(name):
    rule, factor = RULES[name]
    given = rule_inputs(features=MEMBERS)

    def run(teacher, student, weight, labels, *features):
        inputs = given._replace(
            teacher_logits=teacher,
            student_logits=student,
            sample_weight=weight,
            labels=labels,
            teacher_features=dict(zip(MEMBERS, features)),
        )
        return apply_rules([rule], inputs).sample_weight

    arguments = [
        TEACHER.astype("float32"),
        STUDENT.astype("float32"),
        WEIGHT.astype("float32"),
        LABELS,
        *(logits.astype("float32") for logits in MEMBERS.values()),
    ]
    run = compiled(run, *arguments)
    weight = numpy(run(*map(ops.convert_to_tensor, arguments)))
    np.testing.assert_allclose(weight, WEIGHT * factor, rtol=2e-5, atol=1e-6)
    # A batch of one: the label's or the first of all, always kept.
    one = numpy(run(*(ops.convert_to_tensor(part[:1]) for part in arguments)))
    assert one.shape == (1,)
    assert np.isfinite(one).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", RULES)
def test_half_precision_logits_are_weighed_in_full(name, dtype):
    rule, _ = RULES[name]
    weight = weight_of(rule, features=MEMBERS, dtype=dtype)
    assert weight.dtype == np.float32
    rounded = {
        tap: numpy(ops.cast(ops.convert_to_tensor(logits, dtype), "float32"))
        for tap, logits in {**MEMBERS, "t": TEACHER, "s": STUDENT}.items()
    }
    given = rule_inputs(
        features={text: rounded[text] for text in MEMBERS}
    )._replace(
        teacher_logits=ops.convert_to_tensor(rounded["t"]),
        student_logits=ops.convert_to_tensor(rounded["s"]),
    )
    expected = numpy(apply_rules([rule], given).sample_weight)
    np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_extreme_logits_give_finite_weights(name):
    rule, _ = RULES[name]
    extreme = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], "float32")
    given = kd.rules.RuleInputs(
        ops.convert_to_tensor(extreme),
        ops.convert_to_tensor(extreme),
        None,
        np.array([0, 0]),
        teacher_features={
            text: ops.convert_to_tensor(extreme) for text in "abc"
        },
    )
    weight = numpy(apply_rules([rule], given).sample_weight)
    assert np.isfinite(weight).all()
    assert (weight >= 0).all() and (weight <= 1).all()


def test_full_agreement_and_none():
    sure = np.array([[50.0, 0.0], [50.0, 0.0]])
    other = np.array([[50.0, 0.0], [0.0, 50.0]])
    given = kd.rules.RuleInputs(
        ops.zeros((2, 2)),
        None,
        None,
        teacher_features={
            "a": ops.convert_to_tensor(sure, "float32"),
            "b": ops.convert_to_tensor(other, "float32"),
        },
    )
    for by, least in [("divergence", 0.0), ("votes", 0.5)]:
        rule = kd.rules.WeighByAgreement(["a", "b"], by=by)
        weight = numpy(apply_rules([rule], given).sample_weight)
        np.testing.assert_allclose(weight, [1.0, least], atol=1e-6)


@pytest.mark.one_backend
def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`favor` must be one of 'unsure'"):
        kd.rules.WeighByEntropy("all")
    with pytest.raises(ValueError, match="`temperature` must be a finite"):
        kd.rules.WeighByEntropy(temperature=0.0)
    with pytest.raises(ValueError, match="`gamma` must be a finite"):
        kd.rules.WeighByDifficulty(-1.0)
    for teachers in ("members/0", ["members/0"], ["a", "b", "a"]):
        with pytest.raises(ValueError, match="two or more different taps"):
            kd.rules.WeighByAgreement(teachers)
    for rule in (kd.rules.WeighByLoss(), kd.rules.WeighByDifficulty()):
        with pytest.raises(ValueError, match="a batch without labels"):
            apply_rules([rule], rule_inputs()._replace(labels=None))
