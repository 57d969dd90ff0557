"""Losses of logits of a classifier, or of numbers of a regressor."""

import functools

import numpy as np
import pytest
from battery import assert_golden
from battery import assert_in_config
from battery import every_check
from battery import golden
from battery import random_features
from battery import refused
from battery import scaled
from battery import shifted
from battery import through_json
from keras import ops
from support import numpy

from keras_kd import losses
from keras_kd.losses import DIST
from keras_kd.losses import BoundedRegression
from keras_kd.losses import DecoupledKD
from keras_kd.losses import MarginMixedTeacher
from keras_kd.losses import OrdinalSoftTargets
from keras_kd.losses import StreamlinedDirection
from keras_kd.losses import TargetEnhancement
from keras_kd.losses import VirtualTeacher
from keras_kd.losses import bounded_regression
from keras_kd.losses import decoupled_kd
from keras_kd.losses import dist
from keras_kd.losses import margin_mixed_teacher
from keras_kd.losses import ordinal_soft_targets
from keras_kd.losses import streamlined_direction
from keras_kd.losses import target_enhancement
from keras_kd.losses import virtual_teacher
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient

LABELS = np.array([0, 2, 1, 4, 3, 0])
PARTLY = np.array([0, -1, 1, 4, -1, 0])

# --- the losses once more, in NumPy and float64, a sample at a time ---------


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def divergence(p, q):
    """Kullback-Leibler divergence of two lists of probabilities."""
    return sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)


def decoupled_values(
    teacher, student, labels, temperature, target_weight, non_target_weight
):
    values = []
    for t, s, label in zip(teacher, student, labels):
        p, q = softmax(t / temperature), softmax(s / temperature)
        if label < 0:
            values.append(divergence(p, q))
            continue
        target = divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        p, q = np.delete(p, label), np.delete(q, label)
        others = divergence(p / p.sum(), q / q.sum())
        values.append(target_weight * target + non_target_weight * others)
    return temperature**2 * np.array(values)


def pearson(first, second):
    return np.corrcoef(first, second)[0, 1]


def dist_values(teacher, student, temperature, inter_weight, intra_weight):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    inter = np.array([1 - pearson(*each) for each in zip(p, q)])
    intra = 1 - np.mean([pearson(*each) for each in zip(p.T, q.T)])
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def direction_values(teacher, student):
    samples = range(len(teacher))

    def cosine(rows, i, j):
        lengths = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
        return rows[i] @ rows[j] / lengths

    error = np.array(
        [
            [cosine(student, i, j) - cosine(teacher, i, j) for j in samples]
            for i in samples
        ]
    )
    inverse = np.linalg.inv(np.cov(error.T) + 0.1 * np.eye(len(teacher)))
    return np.array([np.sqrt(row @ inverse @ row) for row in error])


def virtual_values(teacher, student, labels, temperature, form):
    classes = student.shape[1]
    values = []
    for s, label in zip(student, labels):
        if label < 0:
            values.append(0.0)
            continue
        designed = np.full(classes, 0.01 / (classes - 1))
        designed[label] = 0.99
        if form == "code":
            tempered = softmax(designed / temperature)
            values.append(divergence(tempered, softmax(s)))
        else:
            tempered = designed ** (1 / temperature)
            tempered /= tempered.sum()
            value = divergence(tempered, softmax(s / temperature))
            values.append(temperature**2 * value)
    return np.array(values)


def least_share(p, label, margin):
    """The least share of the label that leads by the margin, by bisection."""
    one_hot = np.eye(len(p))[label]

    def lead(share):
        mixed = (1 - share) * p + share * one_hot
        return mixed[label] - np.delete(mixed, label).max()

    if lead(0.0) >= margin:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lead(middle) < margin else (low, middle)
    return high


def mixed_values(teacher, student, labels, temperature, margin):
    values = []
    for t, s, label in zip(teacher, student, labels):
        p = softmax(t / temperature)
        if label >= 0:
            share = least_share(p, label, margin)
            p = (1 - share) * p + share * np.eye(len(p))[label]
        values.append(divergence(p, softmax(s / temperature)))
    return temperature**2 * np.array(values)


def enhanced_values(teacher, student, labels, exponent):
    values = []
    for t, s, label in zip(teacher, student, labels):
        value = 0.0
        for k, (p, q) in enumerate(zip(softmax(t), softmax(s))):
            if label < 0:
                target = p
            elif k == label:
                target = (1 + p) ** exponent - 1
            else:
                target = p**exponent
            value -= target * np.log(q)
        values.append(value)
    return np.array(values)


def bounded_values(teacher, student, labels, margin):
    values = []
    for t, s, y in zip(teacher, student, np.float64(labels)):
        bound, error = np.sum((t - y) ** 2), np.sum((s - y) ** 2)
        values.append(error if error + margin > bound else 0.0)
    return np.array(values)


def ordinal_values(teacher, student, temperature, power):
    values = []
    for t, s in zip(teacher, student):
        p, q = softmax(t / temperature), softmax(s / temperature)
        moved = [p[:k].sum() - q[:k].sum() for k in range(1, len(p))]
        values.append(sum(abs(each) ** power for each in moved))
    return temperature**power * np.array(values)


# --- the cases --------------------------------------------------------------


def decoupled_case(
    temperature=4.0, non_target_weight=8.0, labels=LABELS, classes=5
):
    # Of size T, as the logits of a trained model.
    teacher, student = random_features((classes,), (classes,), size=temperature)
    arguments = {
        "temperature": temperature,
        "target_weight": 1.0,
        "non_target_weight": non_target_weight,
    }
    return LossCase(
        functools.partial(DecoupledKD, **arguments),
        teacher,
        student,
        labels=labels,
        reference=functools.partial(decoupled_values, **arguments),
        invariances=(shifted,),
    )


def dist_case(temperature, weight):
    arguments = {
        "temperature": temperature,
        "inter_weight": weight,
        "intra_weight": weight,
    }
    return LossCase(
        functools.partial(DIST, **arguments),
        *random_features((5,), (5,), size=temperature),
        reference=functools.partial(dist_values, **arguments),
        invariances=(shifted,),
    )


def virtual_case(temperature, form, labels=LABELS, classes=5):
    arguments = {"temperature": temperature, "form": form}
    size = temperature if form == "paper" else 1.0
    return LossCase(
        functools.partial(VirtualTeacher, **arguments),
        *random_features((classes,), (classes,), size=size),
        labels=labels,
        reference=functools.partial(virtual_values, **arguments),
        identical=None,  # The teacher's array is of no importance.
        invariances=(shifted,),
    )


def mixed_case(temperature, margin, labels=LABELS, classes=5):
    arguments = {"temperature": temperature, "margin": margin}
    teacher, student = random_features((classes,), (classes,), size=temperature)
    # Right by the margin: as a teacher, it would be left as it is.
    student += 5 * temperature * np.eye(classes, dtype="float32")[labels]
    return LossCase(
        functools.partial(MarginMixedTeacher, **arguments),
        teacher,
        student,
        labels=labels,
        reference=functools.partial(mixed_values, **arguments),
        invariances=(shifted,),
    )


def enhanced_case(exponent, labels=LABELS, classes=5):
    return LossCase(
        functools.partial(TargetEnhancement, exponent=exponent),
        *random_features((classes,), (classes,)),
        labels=labels,
        reference=functools.partial(enhanced_values, exponent=exponent),
        identical=None,  # The enhanced target is not the teacher's array.
        invariances=(shifted,),
    )


def bounded_case(margin):
    teacher, student, labels = random_features((3,), (3,), (3,))
    return LossCase(
        functools.partial(BoundedRegression, margin=margin),
        teacher,
        student,
        labels=labels,
        reference=functools.partial(bounded_values, margin=margin),
        # A hopeless teacher: the student is better on all samples.
        identical=lambda student: student + 100.0,
    )


def ordinal_case(temperature, power, classes=5):
    arguments = {"temperature": temperature, "power": power}
    return LossCase(
        functools.partial(OrdinalSoftTargets, **arguments),
        *random_features((classes,), (classes,), size=temperature),
        reference=functools.partial(ordinal_values, **arguments),
        invariances=(shifted,),
    )


CASES = {
    "decoupled_T4": decoupled_case(),
    "decoupled_T1": decoupled_case(1.0, 0.5),
    "decoupled_partly_labeled": decoupled_case(2.0, 3.0, PARTLY),
    "decoupled_two_classes": decoupled_case(1.0, 8.0, LABELS % 2, 2),
    "dist_T1": dist_case(1.0, 1.0),
    "dist_T4": dist_case(4.0, 2.0),
    "direction": LossCase(
        StreamlinedDirection,
        *random_features((5,), (4,)),
        reference=direction_values,
        invariances=(scaled,),
        # The covariance knows how many samples there are.
        mean_over_samples=False,
        # Lengths: at 0 they have a corner.
        smooth=False,
    ),
    "virtual_code": virtual_case(20.0, "code"),
    "virtual_paper": virtual_case(20.0, "paper", PARTLY),
    "virtual_two_classes": virtual_case(20.0, "code", LABELS % 2, 2),
    "mixed": mixed_case(1.0, 0.2),
    "mixed_T2_partly_labeled": mixed_case(2.0, 0.6, PARTLY),
    "mixed_two_classes": mixed_case(1.0, 0.2, LABELS % 2, 2),
    "enhanced": enhanced_case(1.5),
    "enhanced_partly_labeled": enhanced_case(1.2, PARTLY),
    "enhanced_two_classes": enhanced_case(1.5, LABELS % 2, 2),
    "bounded": bounded_case(0.0),
    "bounded_by_a_margin": bounded_case(1.5),
    "ordinal": ordinal_case(1.0, 2),
    "ordinal_T4_power_1": ordinal_case(4.0, 1),
    "ordinal_two_classes": ordinal_case(2.0, 2, classes=2),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


# --- decoupled distillation -------------------------------------------------


@pytest.mark.parametrize(
    "case, name",
    [("decoupled_T4", "dkd_a1_b8_T4"), ("decoupled_T1", "dkd_a1_b0.5_T1")],
)
def test_decoupled_kd_is_that_of_the_published_code(case, name):
    facts = golden(name)
    config = CASES[case].make().get_config()
    assert config["temperature"] == facts["temperature"]
    assert config["target_weight"] == facts["alpha"]
    assert config["non_target_weight"] == facts["beta"]
    assert_golden(CASES[case], name)


def test_decoupled_parts_make_up_plain_soft_targets():
    teacher, student = CASES["decoupled_T1"][1:3]
    target, others = (
        numpy(
            decoupled_kd(
                teacher,
                student,
                LABELS,
                temperature=1.0,
                target_weight=target_weight,
                non_target_weight=1.0 - target_weight,
            )
        )
        for target_weight in (1.0, 0.0)
    )
    sure = softmax(teacher.astype("float64"))[np.arange(6), LABELS]
    plain = losses.soft_targets(teacher, student, temperature=1.0)
    assert_close(target + (1.0 - sure) * others, numpy(plain))


def test_decoupled_kd_without_labels_is_plain_soft_targets():
    teacher, student = CASES["decoupled_T4"][1:3]
    nobody = np.full(6, -1)
    assert_close(
        numpy(decoupled_kd(teacher, student, nobody)),
        numpy(losses.soft_targets(teacher, student)),
    )


def test_non_target_part_of_two_classes_is_0():
    case = CASES["decoupled_two_classes"]
    loss = DecoupledKD(1.0, target_weight=0.0)
    value_of_it, slope = case.value_and_gradient(loss)
    assert value_of_it == 0.0
    assert np.all(slope == 0.0)


def test_decoupled_kd_of_a_confidently_wrong_student():
    # log(1 - p) and log(softmax) would be log(0) here.
    teacher = np.array([[2e3, 0.0, 1e3]], "float32")
    student = np.array([[0.0, 2e3, 1e3]], "float32")
    loss = DecoupledKD(temperature=1.0)

    def function(student):
        return loss(teacher, student, labels=np.array([0]))

    found, slope = value_and_gradient(function, student)
    assert_close(found, 2e3 + 8.0 * 1e3)
    assert_close(slope, np.array([[-1.0, 1.0 + 8.0, -8.0]]))


def test_decoupled_kd_of_tokens():
    teacher, student = random_features((4, 5), (4, 5))
    labels = np.arange(24).reshape(6, 4) % 6 - 1
    flat = [array.reshape(24, 5) for array in (teacher, student)]
    assert_close(
        numpy(decoupled_kd(teacher, student, labels)).reshape(24),
        numpy(decoupled_kd(*flat, labels.reshape(24))),
    )
    # A label a sample is that of each of its tokens.
    each = np.repeat(LABELS[:, None], 4, axis=1)
    assert_close(
        numpy(decoupled_kd(teacher, student, LABELS)),
        numpy(decoupled_kd(teacher, student, each)),
    )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
def test_labels_of_any_dtype(dtype):
    case = CASES["decoupled_T4"]
    labels = LABELS.astype(dtype)
    for shape in ((6,), (6, 1)):
        other = case._replace(labels=labels.reshape(shape))
        assert other.value(case.make()) == case.value(case.make())


@pytest.mark.one_backend
def test_labels_that_are_no_class_numbers():
    logits = np.zeros((6, 5), "float32")
    refused(
        lambda: decoupled_kd(logits, logits, np.eye(6, 5)), "numbers.*argmax"
    )
    loss = DecoupledKD()
    refused(lambda: loss(logits, logits, labels=np.eye(6, 5)), "class numbers")
    refused(lambda: loss(logits, logits), "needs `labels`")


@pytest.mark.one_backend
def test_arguments_of_decoupled_kd():
    arguments = {
        "temperature": 2.0,
        "target_weight": 0.5,
        "non_target_weight": 3.0,
    }
    assert_in_config(DecoupledKD, **arguments)
    for bad in (-1.0, float("nan"), float("inf"), "x", None):
        refused(lambda bad=bad: DecoupledKD(target_weight=bad), "target_weight")
        refused(
            lambda bad=bad: DecoupledKD(non_target_weight=bad),
            "non_target_weight",
        )
    refused(lambda: DecoupledKD(temperature=0.0), "temperature")


def test_temperature_of_decoupled_kd_can_be_assigned():
    case = CASES["decoupled_T4"]
    moved = DecoupledKD(temperature=1.0)
    moved.temperature = 4.0
    assert case.value(moved) == case.value(DecoupledKD(temperature=4.0))


# --- DIST -------------------------------------------------------------------


@pytest.mark.parametrize(
    "case, name", [("dist_T1", "dist_b1_g1_T1"), ("dist_T4", "dist_b2_g2_T4")]
)
def test_dist_is_that_of_the_published_code(case, name):
    facts = golden(name)
    config = CASES[case].make().get_config()
    assert config["temperature"] == facts["temperature"]
    assert config["inter_weight"] == facts["beta"]
    assert config["intra_weight"] == facts["gamma"]
    assert_golden(CASES[case], name)


@pytest.mark.parametrize("inter_weight, intra_weight", [(1.0, 0.0), (0.0, 1.0)])
def test_each_part_of_dist(inter_weight, intra_weight):
    case = CASES["dist_T1"]
    teacher, student = (array.astype("float64") for array in case[1:3])
    assert_close(
        numpy(
            dist(
                *case[1:3],
                inter_weight=inter_weight,
                intra_weight=intra_weight,
            )
        ),
        np.broadcast_to(
            dist_values(teacher, student, 1.0, inter_weight, intra_weight), 6
        ),
    )


def test_dist_does_not_mind_the_scale_of_the_weights():
    case = CASES["dist_T4"]
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 0.5], "float32")
    found = case.value_and_gradient(case.make(), weights)
    for scale in (1e-6, 1e6):
        rescaled = np.float32(scale) * weights
        assert_close(case.value_and_gradient(case.make(), rescaled), found)


@pytest.mark.parametrize("weights", [None, np.array([0.0, 1.0], "float32")])
def test_dist_over_one_sample_is_uncorrelated(weights):
    case = CASES["dist_T1"].take(slice(1 if weights is None else 2))
    found, slope = case.value_and_gradient(DIST(inter_weight=0.0), weights)
    assert_close(found, 1.0)
    assert np.abs(slope).max() < 1e-6


def test_dist_of_two_classes_has_only_the_term_over_samples():
    teacher, student = random_features((2,), (2,))

    def slope(**weights):
        loss = DIST(**weights)
        return value_and_gradient(lambda s: loss(teacher, s), student)[1]

    assert np.abs(slope(intra_weight=0.0)).max() < 1e-5
    assert np.abs(slope(inter_weight=0.0)).max() > 1e-2


@pytest.mark.one_backend
def test_arguments_of_dist():
    arguments = {"temperature": 2.0, "inter_weight": 0.5, "intra_weight": 3.0}
    assert_in_config(DIST, **arguments)
    refused(lambda: DIST(inter_weight=-1.0), "inter_weight")
    refused(lambda: DIST(intra_weight=float("nan")), "intra_weight")
    refused(lambda: DIST(temperature=-1.0), "temperature")
    refused(lambda: DIST().check_shapes((4, 7, 5), (4, 7, 5)), "one predict")


# --- the direction term of streamlined distillation -------------------------


def test_direction_is_that_of_the_published_code():
    facts = golden("skd_direction")
    assert StreamlinedDirection().tikhonov == facts["tikhonov"]
    assert_golden(CASES["direction"], "skd_direction")


def test_direction_does_not_mind_the_scale_of_the_weights():
    case = CASES["direction"]
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 0.5], "float32")
    found = case.value_and_gradient(case.make(), weights)
    for scale in (1e-6, 1e6):
        rescaled = np.float32(scale) * weights
        assert_close(case.value_and_gradient(case.make(), rescaled), found)


def test_a_whole_weight_counts_columns_of_the_direction():
    # Mean weight 1, so that the relative weights are the weights: twice the
    # column, twice the row in the covariance, of as many samples.
    teacher, student = (
        x.astype("float64") for x in random_features((5,), (4,))
    )
    weights = np.array([2.0, 1.0, 0.5, 0.5, 1.5, 0.5])

    def cosines(rows):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows @ rows.T

    error = cosines(student) - cosines(teacher)
    covariance = np.cov(error.T, aweights=weights, ddof=0) * 6 / 5
    # D S^1/2 (S^1/2 C S^1/2 + aI)^-1 S^1/2 D = D (C + a S^-1)^-1 D
    inverse = np.linalg.inv(covariance + 0.1 * np.diag(1 / weights))
    expected = [np.sqrt(row @ inverse @ row) for row in error]
    found = streamlined_direction(*CASES["direction"][1:3], weights)
    assert_close(numpy(found), np.array(expected))


def test_silent_logits_do_not_explode_the_direction():
    case = CASES["direction"]
    student = case.student.copy()
    student[0] = 0.0
    _, slope = case._replace(student=student).value_and_gradient(case.make())
    assert np.abs(slope).max() < 10.0
    assert np.abs(slope[1:]).max() > 1e-3


def test_one_sample_has_no_direction():
    case = CASES["direction"].take(slice(1))
    assert case.value(case.make()) < 1e-6


@pytest.mark.one_backend
def test_arguments_of_the_direction():
    loss = through_json(StreamlinedDirection(tikhonov=0.5))
    assert loss.get_config()["tikhonov"] == 0.5
    for bad in (0.0, -1.0, float("nan"), None):
        refused(lambda bad=bad: StreamlinedDirection(tikhonov=bad), "tikhonov")
    refused(
        lambda: StreamlinedDirection().check_shapes((4, 7, 5), (4, 5)),
        "one vector per sample",
    )
    StreamlinedDirection().check_shapes((None, 7), (None, 5))


# --- the virtual teacher ----------------------------------------------------


def test_virtual_teacher_ignores_the_teacher():
    case = CASES["virtual_code"]
    other = case._replace(teacher=case.teacher[::-1] * 7.0)
    assert other.value(case.make()) == case.value(case.make())


@pytest.mark.parametrize(
    "form, target",
    [("code", [0.0, 0.99 - 0.005, 0.0]), ("paper", np.log([1, 198, 1]))],
)
def test_virtual_teacher_is_matched_by_a_student_like_it(form, target):
    # The code tempers the teacher alone, the paper both: then T drops out.
    scale = 1.0 / 20.0 if form == "code" else 1.0
    student = scale * np.array([target], "float32")
    value, slope = value_and_gradient(
        lambda s: ops.sum(virtual_teacher(s, [1], form=form)), student
    )
    assert abs(value) < 400 * 3e-7  # T^2 times the rounding of log(1/3)
    assert np.abs(slope).max() < 20 * 3e-7


def test_virtual_teacher_of_an_unlabeled_sample_is_0():
    student = np.array([[3.0, 0.0, 1.0]], "float32")
    for form in ("code", "paper"):
        assert numpy(virtual_teacher(student, [-1], form=form)) == 0.0


@pytest.mark.one_backend
def test_arguments_of_the_virtual_teacher():
    arguments = {
        "temperature": 2.0,
        "true_class_probability": 0.9,
        "form": "paper",
    }
    assert_in_config(VirtualTeacher, **arguments)
    for bad in (0.0, 1.0, -0.5, float("nan"), None):
        refused(
            lambda bad=bad: VirtualTeacher(true_class_probability=bad),
            "true_class_probability",
        )
    refused(lambda: VirtualTeacher(form="book"), "'code'.*'paper'")


# --- the teacher mixed with the label ---------------------------------------


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.9])
def test_the_mixed_teacher_leads_by_the_margin_and_no_more(margin):
    # Least where the student is the target: there it leads by the margin.
    p = np.array([0.5, 0.3, 0.2])
    share = (margin + 0.2) / 1.2
    target = (1 - share) * p + share * np.array([0.0, 1.0, 0.0])
    assert abs(target[1] - target[0] - margin) < 1e-12
    value, slope = value_and_gradient(
        lambda s: ops.sum(
            margin_mixed_teacher(
                np.log(p)[None].astype("float32"), s, [1], margin=margin
            )
        ),
        np.log(target)[None].astype("float32"),
    )
    assert abs(value) < 1e-6
    assert np.abs(slope).max() < 1e-6


def test_a_teacher_that_is_right_by_the_margin_is_left_as_it_is():
    teacher, student = random_features((5,), (5,))
    teacher += 9.0 * np.eye(5, dtype="float32")[LABELS]
    assert_close(
        numpy(margin_mixed_teacher(teacher, student, LABELS)),
        numpy(losses.soft_targets(teacher, student, temperature=1.0)),
    )


def test_a_teacher_of_probability_1_for_the_wrong_class():
    # lead = -1: the share is 1.2 / 2, and the target 0.4 against 0.6.
    teacher = np.array([[1e4, 0.0, -1e4]], "float32")
    student = np.zeros((1, 3), "float32")
    found = numpy(margin_mixed_teacher(teacher, student, [2]))
    expected = 0.4 * np.log(0.4) + 0.6 * np.log(0.6) + np.log(3)
    assert_close(found, np.array([expected]))


@pytest.mark.one_backend
def test_arguments_of_the_mixed_teacher():
    arguments = {"temperature": 2.0, "margin": 0.5}
    assert_in_config(MarginMixedTeacher, **arguments)
    for bad in (-0.1, 1.0, float("nan"), None):
        refused(lambda bad=bad: MarginMixedTeacher(margin=bad), "`margin`")


# --- target enhancement -----------------------------------------------------


def test_target_enhancement_of_exponent_1_is_cross_entropy():
    teacher, student = random_features((5,), (5,))
    p = softmax(teacher.astype("float64"))
    log_q = np.log(softmax(student.astype("float64")))
    for labels in (LABELS, np.full(6, -1)):
        assert_close(
            numpy(target_enhancement(teacher, student, labels, exponent=1.0)),
            -(p * log_q).sum(axis=-1),
        )


def test_target_enhancement_of_a_sure_teacher():
    teacher = np.array([[1e4, 0.0, 0.0]], "float32")
    student = np.array([[-1e4, 0.0, 1.0]], "float32")

    def slope(label):
        def function(student):
            return ops.sum(target_enhancement(teacher, student, [label]))

        return value_and_gradient(function, student)[1]

    q = softmax(student)
    right = 2.0**1.5 - 1.0
    assert_close(slope(0), right * (q - np.eye(3)[:1]))
    # The true class is 2, of p = 0: only the wrong class has a target, in full.
    assert_close(slope(2), q - np.eye(3)[:1])


@pytest.mark.one_backend
def test_arguments_of_target_enhancement():
    arguments = {"temperature": 2.0, "exponent": 1.25}
    assert_in_config(TargetEnhancement, **arguments)
    for bad in (0.9, -1.0, float("inf"), None):
        refused(lambda bad=bad: TargetEnhancement(exponent=bad), "`exponent`")


# --- bounded regression -----------------------------------------------------


def test_the_cases_of_bounded_regression_have_samples_on_either_side():
    for name, count in (("bounded", 1), ("bounded_by_a_margin", 1)):
        case = CASES[name]
        loss = case.make(reduction=None)
        values = numpy(loss(case.teacher, case.student, labels=case.labels))
        assert count <= np.sum(values == 0.0) <= 5


def test_a_student_as_good_as_the_teacher_is_left_alone_within_the_margin():
    teacher, student = [[2.0, 0.0]], [[1.0, 1.0]]  # errors of 4 and 2
    labels = np.zeros((1, 2))
    for margin, expected in ((0.0, 0.0), (1.9, 0.0), (2.1, 2.0)):
        found = bounded_regression(teacher, student, labels, margin=margin)
        assert_close(numpy(found), np.array([expected]))


def test_labels_of_bounded_regression():
    teacher, student = random_features((1,), (1,))
    labels = np.arange(6.0)
    assert_close(
        numpy(bounded_regression(teacher, student, labels)),
        numpy(bounded_regression(teacher, student, labels[:, None])),
    )
    pair = np.zeros((6, 2), "float32")
    for bad in (labels, labels[:, None]):
        refused(
            lambda bad=bad: bounded_regression(pair, pair, bad),
            "labels of the outputs' shape",
        )
    loss = through_json(BoundedRegression(margin=0.5))
    assert loss.get_config()["margin"] == 0.5
    refused(lambda: BoundedRegression(margin=-0.5), "`margin`")
    refused(lambda: BoundedRegression().check_shapes((6, 1), (6, 2)), "same")


# --- ordinal soft targets ---------------------------------------------------


@pytest.mark.parametrize("power", [1, 2])
def test_probability_far_away_costs_more(power):
    rows = 99.0 * np.eye(4, dtype="float32")
    found = ordinal_soft_targets(rows[[0, 0, 0]], rows[1:], power=power)
    assert_close(numpy(found), np.array([1.0, 2.0, 3.0]))


def test_ordinal_soft_targets_do_not_mind_the_direction_of_the_order():
    case = CASES["ordinal"]
    other = case.change(lambda x: x[:, ::-1].copy(), "teacher", "student")
    assert_close(other.value(case.make()), case.value(case.make()))
    middle = case.change(lambda x: x[:, [1, 0, 2, 3, 4]], "teacher", "student")
    assert abs(middle.value(case.make()) - case.value(case.make())) > 1e-3


@pytest.mark.one_backend
def test_arguments_of_ordinal_soft_targets():
    arguments = {"temperature": 2.0, "power": 1}
    assert_in_config(OrdinalSoftTargets, **arguments)
    refused(lambda: OrdinalSoftTargets(power=3), "`power` must be one of 1, 2")


CLASS_LOSSES = [
    DecoupledKD,
    VirtualTeacher,
    MarginMixedTeacher,
    TargetEnhancement,
    DIST,
    OrdinalSoftTargets,
]


@pytest.mark.one_backend
@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_shapes_that_do_not_compare(loss):
    refused(lambda: loss().check_shapes((4, 10), (4, 5)), "same classes")
    refused(lambda: loss().check_shapes((4, 7, 5), (4, 8, 5)), "same shape")
    refused(lambda: loss().check_shapes((4, 1), (4, 1)), "two or more")
    loss().check_shapes((None, 5), (None, 5))
