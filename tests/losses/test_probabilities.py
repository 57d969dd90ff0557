"""Each loss of logits, given probabilities, and given masked classes."""

import functools

import numpy as np
import pytest
from battery import gradient
from battery import value
from keras import ops
from test_losses import LOSSES
from test_online import CASES as ONLINE
from test_other_tokens import CASES as OTHER_TOKENS
from test_responses import CASES as RESPONSES
from test_sequences import CASES as SEQUENCES

from keras_kd import losses
from keras_kd.testing import assert_close

LOWEST = np.finfo("float32").min
ROWS = {name: row.case() for name, row in LOSSES.items()}
SORTED = {
    name: case
    for name, case in OTHER_TOKENS.items()
    if name.startswith("universal")
}
ALL = {**ROWS, **ONLINE, **RESPONSES, **SEQUENCES, **SORTED}
CASES = {
    name: case
    for name, case in ALL.items()
    if getattr(case.make(), "expects_logits", False) and case.reference
}
every_case = pytest.mark.parametrize("name", CASES)
PROBABLE = {"teacher_from_logits": False, "student_from_logits": False}


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def logit(p):
    return np.log(p) - np.log1p(-p)


def of_probabilities(case):
    """The case of a loss that is given the probabilities of its logits."""
    binary = case.make().activation == "sigmoid"
    to_probabilities = sigmoid if binary else softmax
    to_logits = logit if binary else np.log
    many = isinstance(case.student, (list, tuple))

    def apply(function, side):
        return [function(each) for each in side] if many else function(side)

    def reference(teacher, student, **context):
        sides = [apply(to_logits, side) for side in (teacher, student)]
        return case.reference(*sides, **context)

    return case.change(
        # Mild logits: 1 - p has to keep its digits in float32.
        lambda array: to_probabilities(array / np.abs(array).max()).astype(
            "float32"
        ),
        "teacher",
        "student",
    )._replace(
        make=functools.partial(case.make, **PROBABLE), reference=reference
    )


def test_every_loss_of_logits_is_here():
    names = {type(case.make()).__name__ for case in CASES.values()}
    every = {
        name
        for name, loss in vars(losses).items()
        if getattr(loss, "expects_logits", False)
    }
    # A base class, one whose targets come from its memory, and one that needs
    # aligned texts.
    elsewhere = {"LogitDivergence", "PastPredictions", "LikelihoodMatching"}
    assert every - elsewhere <= names


@every_case
def test_probabilities(name):
    case = of_probabilities(CASES[name])
    expected = np.mean(case.expected())
    assert_close(case.eager_value(case.make()), expected, 1e-4)


@pytest.mark.parametrize(
    "make", [losses.SoftTargets, losses.BinarySoftTargets, losses.ReverseKL]
)
def test_gradients_through_an_activation(make):
    case = {type(case.make()): case for case in CASES.values()}[make]
    end = ops.sigmoid if make().activation == "sigmoid" else ops.softmax

    def with_end(teacher, student, weights=None):
        loss = make(**PROBABLE)
        return loss(end(ops.convert_to_tensor(teacher)), end(student), weights)

    assert_close(
        gradient(with_end, case.teacher, case.student),
        gradient(make(), case.teacher, case.student),
        1e-4,
    )


@pytest.mark.parametrize("make", [losses.SoftTargets, losses.BinarySoftTargets])
def test_certain_probabilities(make):
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    unsure = np.array([[0.5, 0.5], [0.25, 0.75]], "float32")
    loss = make(temperature=1.0, **PROBABLE)
    assert value(loss, certain, certain) == 0.0
    # sum p log(p / q), where 0 log 0 is 0.
    both = 2.0 if make is losses.BinarySoftTargets else 1.0
    expected = -both * np.mean(np.log([0.5, 0.75]))
    assert_close(value(loss, certain, unsure), expected, 1e-5)
    for sides in ((certain, unsure), (unsure, certain), (certain, certain)):
        assert np.isfinite(value(loss, *sides))
        assert np.isfinite(gradient(loss, *sides)).all()


def masked(case, *sides):
    def mask(array):
        array = array.copy()
        array[..., -1] = LOWEST
        return array

    case = case.change(mask, *sides)
    # The class of a label can't be one that is masked.
    classes = (case.student if not many(case) else case.student[0]).shape[-1]
    return case.change(lambda y: np.where(y == classes - 1, 0, y), "labels")


def many(case):
    return isinstance(case.student, (list, tuple))


@every_case
def test_masked_classes(name):
    for sides in (("teacher",), ("student",), ("teacher", "student")):
        case = masked(CASES[name], *sides)
        loss = case.make()
        found, slope = case.value_and_gradient(loss)
        assert np.isfinite(found), sides
        for each in slope if many(case) else [slope]:
            assert np.isfinite(each).all(), sides
    if name == "standardized":
        return  # See `test_masked_classes_have_no_part_in_z_scores`.
    # Of both: values are those in float64, where these are finite.
    with np.errstate(all="ignore"):
        expected = np.mean(case.expected())
    if np.isfinite(expected) and abs(expected) < 1e20:
        assert_close(found, expected, 1e-5)


def test_masked_classes_have_no_part_in_z_scores():
    teacher, student = LOSSES["soft_targets_T4"].features()
    loss = losses.SoftTargets(2.0, standardize=True)
    for array in (teacher, student):
        array[:, -1] = LOWEST
    assert_close(
        value(loss, teacher, student),
        value(loss, teacher[:, :-1], student[:, :-1]),
    )


@pytest.mark.one_backend
def test_flags_are_for_losses_of_logits():
    with pytest.raises(ValueError, match="does not compare logits.*Received"):
        losses.FeatureMatching(teacher_from_logits=False)
    with pytest.raises(ValueError, match="`student_from_logits` must be one"):
        losses.ReverseKL(student_from_logits="no")
    for make in {type(case.make()) for case in CASES.values()}:
        loss = make(**PROBABLE)
        config = make.from_config(loss.get_config()).get_config()
        assert {key: config[key] for key in PROBABLE} == PROBABLE
        assert not PROBABLE.keys() & make().get_config().keys()
