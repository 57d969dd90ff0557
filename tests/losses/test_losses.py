"""One battery for all losses: a row of the table is a loss."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import pytest
from battery import MaskTokens
from battery import assert_golden
from battery import assert_in_config
from battery import every_check
from battery import gradient
from battery import random_features
from battery import refused
from battery import scaled
from battery import shifted
from battery import through_json
from battery import value
from keras import ops
from support import numpy

from keras_kd import losses
from keras_kd.schedules import Annealing
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import finite_differences

# --- the losses once more, in NumPy and float64 -----------------------------


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def z_scores(logits):
    mean = logits.mean(axis=-1, keepdims=True)
    return (logits - mean) / (logits.std(axis=-1, ddof=1, keepdims=True) + 1e-7)


def soft_targets(temperature, prepare=lambda logits: logits):
    def values(teacher, student):
        teacher = log_softmax(prepare(teacher) / temperature)
        student = log_softmax(prepare(student) / temperature)
        divergence = (np.exp(teacher) * (teacher - student)).sum(axis=-1)
        return temperature**2 * divergence

    return values


def binary_soft_targets(temperature):
    def values(teacher, student):
        teacher, student = teacher / temperature, student / temperature
        yes = np.exp(-np.logaddexp(0.0, -teacher))
        no = np.exp(-np.logaddexp(0.0, teacher))
        cross_entropy = yes * np.logaddexp(0.0, -student)
        cross_entropy += no * np.logaddexp(0.0, student)
        entropy = yes * np.logaddexp(0.0, -teacher)
        entropy += no * np.logaddexp(0.0, teacher)
        return temperature**2 * (cross_entropy - entropy).sum(axis=-1)

    return values


def squared_error(teacher, student):
    return ((teacher - student) ** 2).mean(axis=-1)


def absolute_error(teacher, student):
    return np.abs(teacher - student).mean(axis=-1)


def huber_error(teacher, student):
    error = np.abs(teacher - student)
    return np.where(error < 1, error**2 / 2, error - 0.5).mean(axis=-1)


def cosine_distance(teacher, student):
    lengths = np.linalg.norm(teacher, axis=-1) * np.linalg.norm(
        student, axis=-1
    )
    return 1.0 - (teacher * student).sum(axis=-1) / lengths


def attention_difference(teacher, student):
    if teacher.shape[1] != student.shape[1]:
        batch, height, width, channels = teacher.shape
        blocks = (batch, height // 2, 2, width // 2, 2, channels)
        teacher = teacher.reshape(blocks).mean(axis=(2, 4))
    maps = []
    for features in (teacher, student):
        strength = (features**2).sum(axis=-1).reshape(len(features), -1)
        length = np.linalg.norm(strength, axis=1, keepdims=True)
        maps.append(strength / length)
    return maps[0] - maps[1]


def attention_code(teacher, student):
    return (attention_difference(teacher, student) ** 2).mean(axis=1)


def attention_paper(teacher, student):
    return np.linalg.norm(attention_difference(teacher, student), axis=1)


# --- the table --------------------------------------------------------------


class Row(NamedTuple):
    loss: type  # the class
    arguments: dict  # of its constructor
    reference: Callable  # NumPy: (teacher, student) -> values per sample
    pure: Callable  # the function under the class
    teacher: tuple  # shape of a sample
    student: tuple
    golden: str | None = None  # case in the file of reference values
    size: float = 1.0  # standard deviation of the features
    shift: bool = False  # adding a constant to a sample changes nothing
    scale: bool = False  # multiplying a sample changes nothing
    identical: Callable = lambda student: student  # the teacher's array of it
    smooth: bool = True  # flat at the minimum

    def make(self, **kwargs):
        return self.loss(**self.arguments, **kwargs)

    def function(self, teacher, student):
        return self.pure(teacher, student, **self.arguments)

    def features(self, samples=6):
        return random_features(
            self.teacher, self.student, samples=samples, size=self.size
        )

    def case(self):
        return LossCase(
            self.make,
            *self.features(),
            reference=self.reference,
            independent=True,
            identical=self.identical,
            exact_minimum=1e-6,
            smooth=self.smooth,
            invariances=(shifted,) * self.shift + (scaled,) * self.scale,
        )


def logits_row(loss, pure, reference, classes=5, **kwargs):
    arguments = kwargs.pop("arguments", {})
    shape = (classes,)
    # Of size T: see `test_rounding_at_a_high_temperature`.
    size = arguments.get("temperature", 1.0)
    return Row(
        loss, arguments, reference, pure, shape, shape, size=size, **kwargs
    )


def soft_row(temperature, **kwargs):
    return logits_row(
        losses.SoftTargets,
        losses.soft_targets,
        soft_targets(temperature),
        arguments={"temperature": temperature},
        golden=f"kd_T{temperature:g}",
        shift=True,
        **kwargs,
    )


def feature_row(distance, reference, **kwargs):
    return Row(
        losses.FeatureMatching,
        {"distance": distance},
        reference,
        losses.feature_matching,
        (3, 2, 4),
        (3, 2, 4),
        **kwargs,
    )


def attention_row(form, reference, teacher=(4, 4, 5), **kwargs):
    return Row(
        losses.AttentionTransfer,
        {"form": form},
        reference,
        losses.attention_transfer,
        teacher,
        (4, 4, 3),
        scale=True,
        **kwargs,
    )


LOSSES = {
    "soft_targets_T1": soft_row(1.0),
    "soft_targets_T4": soft_row(4.0),
    "soft_targets_T20": soft_row(20.0),
    "standardized": logits_row(
        losses.SoftTargets,
        losses.soft_targets,
        soft_targets(2.0, z_scores),
        arguments={"temperature": 2.0, "standardize": True},
        golden="logit_std_T2",
        shift=True,
        scale=True,
    ),
    "binary_soft_targets": logits_row(
        losses.BinarySoftTargets,
        losses.binary_soft_targets,
        binary_soft_targets(3.0),
        arguments={"temperature": 3.0},
    ),
    "logit_matching": logits_row(
        losses.LogitMatching, losses.logit_matching, squared_error
    ),
    "mse": feature_row("mse", squared_error, golden="hint_mse"),
    "l1": feature_row("l1", absolute_error),
    "huber": feature_row("huber", huber_error),
    "cosine": feature_row("cosine", cosine_distance, scale=True),
    "attention_code": attention_row("code", attention_code, golden="at_code"),
    "attention_paper": attention_row(
        "paper", attention_paper, golden="at_paper", smooth=False
    ),
    "attention_resized": attention_row(
        "code",
        attention_code,
        teacher=(8, 8, 5),
        golden="at_code_resize",
        identical=lambda student: student.repeat(2, axis=1).repeat(2, axis=2),
    ),
}

every_loss = pytest.mark.parametrize("name", LOSSES)


# --- the right numbers ------------------------------------------------------


@every_check({name: row.case() for name, row in LOSSES.items()})
def test_contract(case, check):
    check(case)


@pytest.mark.parametrize(
    "name", [name for name, row in LOSSES.items() if row.golden]
)
def test_value_and_gradient_are_those_of_the_published_code(name):
    assert_golden(LOSSES[name].case(), LOSSES[name].golden)


@pytest.mark.parametrize(
    "name", [name for name, row in LOSSES.items() if row.shift]
)
def test_the_gradient_has_no_part_along_a_shift(name):
    row = LOSSES[name]
    sums = gradient(row.make(), *row.features()).sum(axis=-1)
    assert np.abs(sums).max() < 1e-6


@every_loss
def test_function_gives_one_value_a_sample_or_position(name):
    row = LOSSES[name]
    teacher, student = row.features()
    expected = row.reference(
        teacher.astype("float64"), student.astype("float64")
    )
    assert_close(numpy(row.function(teacher, student)), expected)
    per_sample = row.make(reduction=None)(teacher, student)
    assert_close(numpy(per_sample), expected)
    assert_close(
        value(row.make(reduction="sum"), teacher, student), expected.sum()
    )


def test_rounding_at_a_high_temperature():
    # Log-probabilities near log(classes) round at 2^-23 of it, and T^2
    # multiplies that: for small logits, some 1e-5 of the value. The gradient
    # is a difference of probabilities, and stays exact.
    row = LOSSES["soft_targets_T20"]._replace(size=1.0)
    teacher, student = row.features()
    exact = teacher.astype("float64")
    expected = row.reference(exact, student.astype("float64"))
    error = np.abs(numpy(row.function(teacher, student)) - expected)
    assert np.all(error <= 20.0**2 * 2 * np.log(5) * 2.0**-23)
    assert_close(
        gradient(row.make(), teacher, student),
        finite_differences(lambda s: row.reference(exact, s).mean(), student),
    )


@pytest.mark.parametrize(
    "name", [name for name, row in LOSSES.items() if len(row.student) == 1]
)
def test_two_classes(name):
    two = LOSSES[name]._replace(teacher=(2,), student=(2,)).case()
    found, slope = two.value_and_gradient(two.make())
    assert_close(found, np.mean(two.expected()))
    expected = finite_differences(
        lambda student: np.mean(two.expected(student)), two.student
    )
    if name == "standardized":
        # Two z-scores are always +-0.707: nothing is left to learn from.
        assert np.abs(expected).max() < 1e-5
        assert np.abs(slope).max() < 1e-5
    else:
        assert_close(slope, expected)


# --- weights and masks ------------------------------------------------------


# As many tokens as samples: a wrong broadcast would go unnoticed by shapes.
TOKENS = (4, 4, 5)


def token_features():
    random = np.random.default_rng(1)
    return random.normal(size=(2, *TOKENS)).astype("float32")


TOKEN_LOSSES = {
    "soft_targets": losses.SoftTargets,
    "binary_soft_targets": losses.BinarySoftTargets,
    "logit_matching": losses.LogitMatching,
    "mse": losses.FeatureMatching,
    "cosine": lambda: losses.FeatureMatching("cosine"),
}
every_token_loss = pytest.mark.parametrize("name", TOKEN_LOSSES)


@every_token_loss
def test_weights_of_samples_and_of_tokens_agree(name):
    teacher, student = token_features()
    loss = TOKEN_LOSSES[name]()
    weights = np.array([1.0, 0.0, 3.0, 0.5], "float32")
    each = np.repeat(weights[:, None], 4, axis=1)
    assert_close(
        value(loss, teacher, student, weights),
        value(loss, teacher, student, each),
    )
    each[0, 1:] = 0.0
    kept = each > 0
    assert_close(
        value(loss, teacher, student, each),
        value(loss, teacher[kept], student[kept], each[kept]),
    )


MASK = np.array(
    [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], "bool"
)


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "mean"])
@every_token_loss
def test_masked_tokens_are_absent(name, reduction):
    teacher, student = token_features()
    loss = TOKEN_LOSSES[name]()
    loss.reduction = reduction

    def masked(teacher, student, weights=None):
        return loss(teacher, MaskTokens(MASK)(student), weights)

    assert_close(
        value(masked, teacher, student),
        value(loss, teacher[MASK], student[MASK]),
    )
    slope = gradient(masked, teacher, student)
    assert_close(slope[MASK], gradient(loss, teacher[MASK], student[MASK]))
    assert np.all(slope[~MASK] == 0.0)


@every_token_loss
def test_weights_and_masks_join(name):
    teacher, student = token_features()
    loss = TOKEN_LOSSES[name]()
    weights = np.array([1.0, 2.0, 1.0, 0.0], "float32")
    each = np.repeat(weights[:, None], 4, axis=1)[MASK]
    assert_close(
        value(loss, teacher, MaskTokens(MASK)(student), weights),
        value(loss, teacher[MASK], student[MASK], each),
    )


@every_token_loss
def test_the_callers_weights_stay_as_they_are(name):
    teacher, student = token_features()
    weights = ops.convert_to_tensor(np.ones((4, 4), "float32"))
    TOKEN_LOSSES[name]()(teacher, MaskTokens(MASK)(student), weights)
    assert np.all(numpy(weights) == 1.0)


@every_token_loss
def test_mask_of_an_embedding_is_heard(name):
    tokens = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])
    student = keras.layers.Embedding(5, 5, mask_zero=True)(tokens)
    teacher = token_features()[0][:2]
    kept = tokens > 0
    loss = TOKEN_LOSSES[name]()
    assert_close(
        value(loss, teacher, ops.stop_gradient(student) + 0.0),
        value(loss, teacher, numpy(student)),
    )
    assert_close(
        numpy(loss(teacher, student)),
        value(loss, teacher[kept], numpy(student)[kept]),
    )


@pytest.mark.parametrize("form", ["code", "paper"])
def test_masked_tokens_draw_no_attention(form):
    teacher, student = token_features()
    mask = np.array([[1, 1, 1, 0]] * 4, "bool")
    loss = losses.AttentionTransfer(form=form)

    def masked(teacher, student, weights=None):
        return loss(teacher, MaskTokens(mask)(student), weights)

    other_teacher, other_student = teacher.copy(), student.copy()
    other_teacher[:, 3] += 10.0
    other_student[:, 3] -= 10.0
    assert_close(
        value(masked, other_teacher, other_student),
        value(masked, teacher, student),
    )
    slope = gradient(masked, teacher, student)
    assert np.all(slope[:, 3] == 0.0)
    assert np.abs(slope[:, :3]).max() > 1e-3


def test_eq_2_of_attention_transfer_is_that_of_the_shorter_sequence():
    teacher, student = token_features()
    mask = np.array([[1, 1, 1, 0]] * 4, "bool")
    loss = losses.AttentionTransfer(form="paper")
    assert_close(
        value(loss, teacher, MaskTokens(mask)(student)),
        value(loss, teacher[:, :3], student[:, :3]),
    )


@pytest.mark.parametrize("form", ["code", "paper"])
def test_a_sample_masked_altogether_is_absent(form):
    teacher, student = token_features()
    mask = np.array([[True] * 4] * 3 + [[False] * 4])
    loss = losses.AttentionTransfer(form=form)
    assert_close(
        value(loss, teacher, MaskTokens(mask)(student)),
        value(loss, teacher[:3], student[:3]),
    )


def test_a_mask_of_the_students_tokens_is_not_the_teachers():
    teacher, student = token_features()
    teacher = np.concatenate([teacher, teacher[:, ::-1]], axis=1)
    mask = np.array([[1, 1, 1, 0]] * 4, "bool")
    emptied = np.where(mask[..., None], student, 0.0).astype("float32")
    loss = losses.AttentionTransfer(form="paper")
    assert_close(
        value(loss, teacher, MaskTokens(mask)(student)),
        value(loss, teacher, emptied),
    )


# --- extreme inputs ---------------------------------------------------------


def extreme_features(row, magnitude, dtype):
    random = np.random.default_rng(2)
    features = []
    for shape in (row.teacher, row.student):
        array = random.uniform(-magnitude, magnitude, size=(4, *shape))
        array[0] = magnitude * np.sign(array[0])
        features.append(ops.cast(array.astype("float32"), dtype))
    return features


@pytest.mark.parametrize(
    "dtype, magnitude",
    [("float32", 1e4), ("float16", 100.0), ("bfloat16", 100.0)],
)
@every_loss
def test_extreme_features(name, dtype, magnitude):
    row = LOSSES[name]
    teacher, student = extreme_features(row, magnitude, dtype)
    exact = [
        numpy(ops.cast(array, "float32")).astype("float64")
        for array in (teacher, student)
    ]
    expected = row.reference(*exact).mean()

    def mean_of_function(teacher, student, weights=None):
        return ops.mean(row.function(teacher, student))

    for loss in (row.make(), mean_of_function):
        assert_close(value(loss, teacher, student), expected)
        slope = gradient(loss, teacher, student).astype("float32")
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0.0


@pytest.mark.parametrize(
    "name", ["cosine", "attention_code", "attention_paper"]
)
def test_silent_features_do_not_explode(name):
    row = LOSSES[name]
    teacher, student = row.features()
    student[0] = 0.0
    slope = gradient(row.make(), teacher, student)
    assert np.abs(slope).max() < 10.0
    assert np.abs(slope[1:]).max() > 1e-3


@pytest.mark.parametrize("scale", [1e-10, 1e10, 1e25])
def test_cosine_of_tiny_and_huge_features(scale):
    row = LOSSES["cosine"]
    teacher, student = row.features()
    assert_close(
        value(row.make(), teacher, student * np.float32(scale)),
        value(row.make(), teacher, student),
    )


def test_a_confidently_wrong_student_gets_a_full_gradient():
    teacher = np.array([[0.0, 0.0, 20.0]], "float32")
    student = np.array([[20.0, 0.0, 0.0]], "float32")
    ours = gradient(losses.SoftTargets(temperature=1.0), teacher, student)
    np.testing.assert_allclose(ours, [[1.0, 0.0, -1.0]], atol=1e-3)

    def of_keras(teacher, student, weights=None):
        divergence = keras.losses.KLDivergence()
        return divergence(ops.softmax(teacher), ops.softmax(student))

    theirs = gradient(of_keras, ops.convert_to_tensor(teacher), student)
    assert np.abs(theirs).max() < 1e-15


# --- arguments --------------------------------------------------------------


@pytest.mark.parametrize("teacher_from_logits", [True, False])
@pytest.mark.parametrize("student_from_logits", [True, False])
def test_probabilities_in_the_place_of_logits(
    teacher_from_logits, student_from_logits
):
    teacher, student = LOSSES["soft_targets_T4"].features()
    loss = losses.SoftTargets(
        teacher_from_logits=teacher_from_logits,
        student_from_logits=student_from_logits,
    )

    def with_softmax(teacher, student, weights=None):
        if not teacher_from_logits:
            teacher = ops.softmax(ops.convert_to_tensor(teacher))
        if not student_from_logits:
            student = ops.softmax(student)
        return loss(teacher, student, weights)

    plain = losses.SoftTargets()
    as_tensor = ops.convert_to_tensor(student)
    assert_close(
        value(with_softmax, teacher, as_tensor), value(plain, teacher, student)
    )
    assert_close(
        gradient(with_softmax, teacher, student),
        gradient(plain, teacher, student),
    )


def test_probabilities_of_exactly_0_are_finite():
    loss = losses.SoftTargets(
        teacher_from_logits=False, student_from_logits=False
    )
    teacher = np.array([[1.0, 0.0, 0.0]], "float32")
    student = np.array([[0.0, 0.5, 0.5]], "float32")
    assert np.isfinite(value(loss, teacher, student))
    assert np.isfinite(gradient(loss, teacher, student)).all()


def test_channels_first_is_channels_last_transposed():
    teacher, student = LOSSES["mse"].features()
    first = [np.moveaxis(array, -1, 1) for array in (teacher, student)]
    weights = np.array([1.0, 3.0, 0.0, 0.5, 2.0, 1.0], "float32")
    for loss in (losses.FeatureMatching, losses.AttentionTransfer):
        assert_close(
            value(loss(axis=1), *first, weights),
            value(loss(), teacher, student, weights),
        )


@pytest.mark.parametrize("power", [1, 3])
def test_power_of_attention_transfer(power):
    teacher, student = LOSSES["attention_code"].features()
    maps = []
    for features in (teacher, student):
        strength = (np.abs(features) ** power).mean(-1).reshape(6, -1)
        maps.append(strength / np.linalg.norm(strength, axis=1, keepdims=True))
    assert_close(
        value(losses.AttentionTransfer(power=power), teacher, student),
        np.mean((maps[0] - maps[1]) ** 2),
    )


@pytest.mark.parametrize("loss", [losses.SoftTargets, losses.BinarySoftTargets])
def test_temperature_can_be_assigned(loss):
    teacher, student = LOSSES["soft_targets_T1"].features()
    moved = loss(temperature=1.0)
    before = value(moved, teacher, student)
    moved.temperature = 3.0
    after = value(moved, teacher, student)
    assert after == value(loss(temperature=3.0), teacher, student)
    assert after != before


def test_a_loss_of_ones_own():
    class LargestGap(losses.DistillationLoss):
        def call(self, teacher_features, student_features):
            return ops.max(
                ops.abs(teacher_features - student_features), axis=-1
            )

    teacher, student = token_features()
    weights = np.array([1.0, 0.0, 3.0, 0.5], "float32")
    gaps = np.abs(teacher - student).max(axis=-1).mean(axis=1)
    assert_close(
        value(LargestGap(), teacher, student, weights),
        np.sum(weights * gaps) / np.sum(weights),
    )


# --- compiled, saved, refused -----------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, arguments",
    [
        (losses.FeatureMatching, {"distance": "l1", "axis": 1}),
        (losses.AttentionTransfer, {"form": "paper", "axis": 1, "power": 4}),
        (
            losses.SoftTargets,
            {
                "temperature": 0.1,
                "standardize": True,
                "teacher_from_logits": False,
                "student_from_logits": False,
            },
        ),
    ],
)
def test_each_argument_is_in_the_config(loss, arguments):
    assert_in_config(loss, **arguments)


@pytest.mark.parametrize(
    "schedule",
    [
        Annealing(8.0, 1.0, steps=10, curve="cosine"),
        keras.optimizers.schedules.ExponentialDecay(8.0, 10, 0.5),
    ],
)
@pytest.mark.parametrize("loss", [losses.SoftTargets, losses.BinarySoftTargets])
def test_serialization_of_a_scheduled_temperature(loss, schedule):
    first = loss(temperature=schedule)
    copy = through_json(first)
    found = copy.get_config()["temperature"]
    assert type(found) is type(schedule)
    assert found.get_config() == schedule.get_config()
    features = LOSSES["soft_targets_T1"].features()
    assert value(copy, *features) == value(first, *features)
    assert value(first, *features) == value(loss(temperature=8.0), *features)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "temperature", [0, -1, float("nan"), float("inf"), "x", None]
)
@pytest.mark.parametrize("loss", [losses.SoftTargets, losses.BinarySoftTargets])
def test_temperature_that_is_none(loss, temperature):
    message = r"`temperature` must be a finite positive.*Received: temperature="
    with pytest.raises(ValueError, match=message):
        loss(temperature=temperature)
    with pytest.raises(ValueError, match=message):
        loss().temperature = temperature


@pytest.mark.one_backend
def test_unknown_distance_and_form():
    refused(
        lambda: losses.FeatureMatching("l3"),
        "`distance` must be one of 'mse', 'l1', 'huber', 'cosine'. "
        "Received: distance='l3'",
    )
    refused(
        lambda: losses.AttentionTransfer(form="book"),
        "'code'.*'paper'.*Received: form='book'",
    )


CLASS_LOSSES = [
    losses.SoftTargets,
    losses.BinarySoftTargets,
    losses.LogitMatching,
]
MISFITS: list[tuple[Any, tuple, tuple, str]] = [
    *[
        (loss, (4, 10), (4, 5), r"same classes.*\(10 classes\).*\(5 classes\)")
        for loss in CLASS_LOSSES
    ],
    *[
        (loss, (4, 7, 5), (4, 8, 5), "outputs of the same shape")
        for loss in CLASS_LOSSES
    ],
    *[
        (loss, (4, 5), (4, 8, 5), "outputs of the same shape")
        for loss in CLASS_LOSSES
    ],
    (losses.SoftTargets, (4, 1), (4, 1), "two or more.*BinarySoftTargets"),
    (losses.SoftTargets, (4, 1), (4, 5), "same classes"),
    (losses.FeatureMatching, (4, 8, 6), (4, 8, 5), "FeatureAdapter"),
    (losses.FeatureMatching, (4, 8, 1), (4, 8, 5), "FeatureAdapter"),
    (losses.FeatureMatching, (4, 5), (4, 8, 5), "features of the same shape"),
    (losses.AttentionTransfer, (4, 5), (4, 5), "rank, 3 or more"),
    (losses.AttentionTransfer, (4, 16, 5), (4, 4, 4, 5), "the same rank"),
]


@pytest.mark.one_backend
@pytest.mark.parametrize("loss, teacher, student, message", MISFITS)
def test_shapes_that_do_not_compare(loss, teacher, student, message):
    refused(lambda: loss().check_shapes(teacher, student), message)
    # Likewise where the loss is used alone: no silent broadcasting.
    features = np.ones(teacher, "float32"), np.ones(student, "float32")
    refused(lambda: loss()(*features), message)


@pytest.mark.one_backend
@pytest.mark.parametrize("loss", [*CLASS_LOSSES, losses.FeatureMatching])
def test_unknown_sizes_are_no_misfit(loss):
    loss().check_shapes((None, None, 5), (None, 8, 5))
