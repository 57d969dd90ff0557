"""Losses of sequences: one value a token, over a vocabulary."""

import functools

import numpy as np
import pytest
from battery import MaskTokens
from battery import assert_in_config
from battery import every_check
from battery import golden
from battery import random_features
from battery import refused
from battery import shifted
from battery import through_json
from keras import ops
from support import numpy

from keras_kd import losses
from keras_kd.losses import JensenShannon
from keras_kd.losses import ReverseKL
from keras_kd.losses import SkewKL
from keras_kd.losses import SkewReverseKL
from keras_kd.losses import TopKTargets
from keras_kd.losses import jensen_shannon
from keras_kd.losses import keep_top_k
from keras_kd.losses import reverse_kl
from keras_kd.losses import skew_kl
from keras_kd.losses import skew_reverse_kl
from keras_kd.losses import top_k_targets
from keras_kd.schedules import Annealing
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import checks_of
from keras_kd.testing import value_and_gradient

# --- the losses once more, in NumPy and float64, a token at a time ----------


def probabilities(logits, temperature=1.0):
    powers = np.exp((logits - logits.max()) / temperature)
    return powers / powers.sum()


def kullback_leibler(first, second):
    return sum(a * np.log(a / b) for a, b in zip(first, second) if a > 0)


def a_token_at_a_time(divergence, temperature=1.0):
    """The mean over tokens of a divergence of two distributions."""

    def values(teacher, student):
        found = np.empty(teacher.shape[:-1])
        for token in np.ndindex(found.shape):
            found[token] = temperature**2 * divergence(
                probabilities(teacher[token], temperature),
                probabilities(student[token], temperature),
            )
        return found

    return values


forward_divergence = kullback_leibler


def reverse_divergence(teacher, student):
    return kullback_leibler(student, teacher)


def mixture_divergence(beta, normalize=False):
    def divergence(teacher, student):
        mixture = beta * teacher + (1 - beta) * student
        found = beta * kullback_leibler(teacher, mixture)
        found += (1 - beta) * kullback_leibler(student, mixture)
        return found / (beta * (1 - beta)) if normalize else found

    return divergence


def skew_divergence(skew):
    def divergence(teacher, student):
        mixture = skew * teacher + (1 - skew) * student
        return kullback_leibler(teacher, mixture)

    return divergence


def skew_reverse_divergence(skew):
    def divergence(teacher, student):
        return skew_divergence(skew)(student, teacher)

    return divergence


def bucket_divergence(k):
    def divergence(teacher, student):
        kept = np.argsort(-teacher)[:k]
        rest = np.argsort(-teacher)[k:]
        return kullback_leibler(
            [*teacher[kept], teacher[rest].sum()],
            [*student[kept], student[rest].sum()],
        )

    return divergence


# --- the contract -----------------------------------------------------------

TOKENS = random_features((3, 4), (3, 4))


def case(make, divergence, temperature=1.0, classes=TOKENS):
    return LossCase(
        make,
        *(temperature * array for array in classes),
        reference=a_token_at_a_time(divergence, temperature),
        invariances=(shifted,),
    )


def tempered(loss, temperature, **arguments):
    return lambda **kwargs: loss(temperature=temperature, **arguments, **kwargs)


CASES = {
    "forward_kl": case(tempered(losses.SoftTargets, 1.0), forward_divergence),
    "reverse_kl": case(ReverseKL, reverse_divergence),
    "reverse_kl_T3": case(tempered(ReverseKL, 3.0), reverse_divergence, 3.0),
    "jensen_shannon": case(JensenShannon, mixture_divergence(0.5)),
    **{
        f"jensen_shannon_beta{beta}": case(
            tempered(JensenShannon, 2.0, beta=beta, normalize=True),
            mixture_divergence(beta, normalize=True),
            2.0,
        )
        for beta in (0.001, 0.9)
    },
    "skew_kl": case(SkewKL, skew_divergence(0.1)),
    "skew_kl_T2": case(
        tempered(SkewKL, 2.0, skew=0.7), skew_divergence(0.7), 2.0
    ),
    "skew_reverse_kl": case(SkewReverseKL, skew_reverse_divergence(0.1)),
    "top_k_targets": case(
        tempered(TopKTargets, 1.0, k=2), bucket_divergence(2)
    ),
    "top_k_targets_T3": case(
        tempered(TopKTargets, 3.0, k=1), bucket_divergence(1), 3.0
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


@pytest.mark.parametrize(
    "loss, divergence",
    [
        (ReverseKL(), reverse_divergence),
        (JensenShannon(), mixture_divergence(0.5)),
        (SkewKL(), skew_divergence(0.1)),
        (SkewReverseKL(), skew_reverse_divergence(0.1)),
        (TopKTargets(k=1), bucket_divergence(1)),
    ],
)
def test_two_classes(loss, divergence):
    two = case(lambda: loss, divergence, classes=random_features((2,), (2,)))
    checks_of(two)["numpy"](two)


# --- the published numbers, and masks ---------------------------------------


GOLDEN = {
    "token_forward_kl": lambda facts: losses.SoftTargets(temperature=1.0),
    "token_reverse_kl": lambda facts: ReverseKL(),
    **{
        f"token_jsd_b{beta}": lambda facts: JensenShannon(facts["beta"].item())
        for beta in (0.1, 0.5, 0.9)
    },
    "token_skew_kl": lambda facts: SkewKL(facts["skew"].item()),
    "token_skew_reverse_kl": lambda facts: SkewReverseKL(facts["skew"].item()),
}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("way", ["sample_weight", "Keras mask"])
def test_published_value_and_gradient(name, way):
    facts = golden(name)
    loss, mask = GOLDEN[name](facts), facts["mask"]
    assert 0 < mask.sum() < mask.size  # else it would not matter

    def function(student):
        if way == "sample_weight":
            return loss(facts["teacher"], student, mask)
        return loss(facts["teacher"], MaskTokens(mask > 0)(student))

    value, gradient = value_and_gradient(function, facts["student"])
    assert_close(value, facts["value"])
    assert_close(gradient, facts["grad"])
    assert np.all(gradient[mask == 0] == 0.0)


MAKERS = {
    "reverse_kl": ReverseKL,
    "jensen_shannon": JensenShannon,
    "skew_kl": SkewKL,
    "skew_reverse_kl": SkewReverseKL,
    "top_k_targets": functools.partial(TopKTargets, 2),
}
every_loss = pytest.mark.parametrize("name", MAKERS)
MASK = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]] * 2, "float32")


def slope_of(loss, teacher, student, weights=None):
    return LossCase(None, teacher, student).value_and_gradient(loss, weights)


@every_loss
def test_masked_tokens_are_absent_whatever_they_hold(name):
    teacher, student = (array.copy() for array in TOKENS)
    teacher[MASK == 0] = 1e4
    student[MASK == 0, 0] = -1e4
    value, gradient = slope_of(MAKERS[name](), teacher, student, MASK)
    kept = MASK > 0
    expected = slope_of(MAKERS[name](), TOKENS[0][kept], TOKENS[1][kept])
    assert_close(value, expected[0])
    assert_close(gradient[kept], expected[1])
    assert np.all(gradient[~kept] == 0.0)


@every_loss
def test_no_valid_token_gives_0(name):
    value, gradient = slope_of(MAKERS[name](), *TOKENS, np.zeros_like(MASK))
    assert value == 0.0
    assert np.all(gradient == 0.0)


# --- arguments --------------------------------------------------------------


@every_loss
def test_temperature_can_be_annealed_and_assigned(name):
    make = MAKERS[name]
    schedule = Annealing(8.0, 1.0, steps=10)
    loss = through_json(make(temperature=schedule))
    assert loss.get_config()["temperature"].get_config() == (
        schedule.get_config()
    )
    assert float(loss(*TOKENS)) == float(make(temperature=8.0)(*TOKENS))
    loss.temperature = 2.0
    assert float(loss(*TOKENS)) == float(make(temperature=2.0)(*TOKENS))
    assert float(loss(*TOKENS)) != float(make(temperature=8.0)(*TOKENS))
    refused(lambda: make(temperature=0.0), "`temperature` must be .*positive")


@pytest.mark.one_backend
@every_loss
def test_shapes_that_do_not_compare(name):
    loss = MAKERS[name]()
    kind = type(loss).__name__
    same = f"{kind} needs the same classes"
    refused(lambda: loss.check_shapes((4, 7, 9), (4, 7, 8)), same)
    refused(lambda: loss(np.ones((4, 7, 9)), np.ones((4, 7, 8))), same)
    one = f"{kind} needs two or more classes.*BinarySoftTargets"
    refused(lambda: loss.check_shapes((4, 1), (4, 1)), one)
    loss.check_shapes((None, None, 9), (None, 7, 9))


# --- reverse KL -------------------------------------------------------------


def test_reverse_kl_is_forward_kl_of_the_other_side():
    teacher, student = TOKENS
    assert_close(
        numpy(reverse_kl(teacher, student, temperature=2.0)),
        numpy(losses.soft_targets(student, teacher, temperature=2.0)),
    )


def test_a_student_on_one_mode_costs_little_in_reverse_only():
    teacher = np.array([[10.0, 10.0, 0.0]], "float32")
    student = np.array([[10.0, 0.0, -10.0]], "float32")
    one_mode = float(ReverseKL()(teacher, student))
    assert abs(one_mode - np.log(2.0)) < 0.01
    assert float(losses.SoftTargets(1.0)(teacher, student)) > 4.0


# --- mixtures ---------------------------------------------------------------


def log_of_mixture(share, first, second):
    return np.logaddexp(np.log(share) + first, np.log1p(-share) + second)


@pytest.mark.parametrize("place", ["teacher", "student"])
@pytest.mark.parametrize("share", [1e-6, 0.1, 0.5])
def test_mixtures_are_exact_and_finite(share, place):
    """However small the share is, and however far the two sides are apart."""
    sizes = [-1e5, -90, -1, -1e-4, 0, 1e-4, 1, 59, 61, 90, 1e5]
    moved = np.stack([sizes, np.zeros(len(sizes))], axis=1).astype("float32")
    sides = [moved, np.zeros_like(moved)]
    teacher, student = sides if place == "teacher" else sides[::-1]
    # -logaddexp: the logarithm of softmax, exact on both of its ends.
    p, q = (-np.logaddexp(0.0, x[:, ::-1] - x) for x in np.float64(sides))
    p, q = (p, q) if place == "teacher" else (q, p)
    mixture = log_of_mixture(share, p, q)
    skewed = np.sum(np.exp(p) * (p - mixture), axis=1)
    of_student = np.sum(np.exp(q) * (q - mixture), axis=1)
    mixed = skewed / (1 - share) + of_student / share
    # The roundings of log-probabilities, and of a difference of 60 at most.
    apart = np.minimum(np.abs(np.float64(sizes)), 60.0)
    allowed = 2.0**-23 * (1.0 + 4.0 * apart)
    for found, expected in (
        (skew_kl(teacher, student, skew=share), skewed),
        (jensen_shannon(teacher, student, beta=share, normalize=True), mixed),
    ):
        error = np.abs(numpy(found) - expected)
        assert np.all(error <= allowed + 1e-6 * np.abs(expected))


@pytest.mark.parametrize("certain", ["teacher", "student"])
@pytest.mark.parametrize("share", [1e-6, 0.1, 0.5])
def test_mixtures_are_exact_relative_to_their_own_size(share, certain):
    """A side that is certain shows each ratio by itself, however small."""
    sizes = np.array([1e-4, 1e-2, 1.0, 20.0, 59.0, 61.0, 90.0, 1e5])
    # Softmax of these gives the first class exp(-size).
    other = np.where(sizes < 50, np.log(np.expm1(np.minimum(sizes, 50))), sizes)
    spread = np.stack([0 * sizes, other], axis=1).astype("float32")
    sure = np.full_like(spread, [0.0, -2e5])
    teacher, student = (
        (sure, spread) if certain == "teacher" else (spread, sure)
    )
    p, q = (
        -np.logaddexp(0.0, np.float64(x)[:, ::-1] - x)
        for x in (teacher, student)
    )
    mixture = log_of_mixture(share, p, q)
    skewed = np.sum(np.exp(p) * (p - mixture), axis=1)
    of_student = np.sum(np.exp(q) * (q - mixture), axis=1)
    mixed = skewed / (1 - share) + of_student / share
    # Log-probabilities of about 10 are rounded by 1e-6, in up to four places.
    found = jensen_shannon(teacher, student, beta=share, normalize=True)
    np.testing.assert_allclose(numpy(found), mixed, rtol=4e-6)
    if certain == "teacher":
        found = numpy(skew_kl(teacher, student, skew=share))
        # A log-probability near 0 is exact to the rounding of 1.
        np.testing.assert_allclose(found, skewed, rtol=4e-6, atol=2.0**-23)


@functools.cache
def one_token(beta, normalize=True):
    teacher, student = TOKENS
    return value_and_gradient(
        lambda student: ops.mean(
            jensen_shannon(teacher, student, beta=beta, normalize=normalize)
        ),
        student,
    )


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_normalized_divergence_is_continuous_at_its_ends(end):
    value, gradient = one_token(end)
    other_end, _ = one_token(1.0 - end)
    assert abs(value - other_end) > 1e-3  # they are two divergences
    for distance in (1e-2, 1e-4, 1e-6, 1e-9):
        near, slope = one_token(abs(end - distance))
        # Proportional to the distance, by the third moment of p / q: up to
        # 20 for these features. Nothing is left of it at 1e-9 but rounding.
        allowed = 20.0 * distance + 1e-6
        assert abs(near - value) <= allowed * value
        assert np.abs(slope - gradient).max() <= (
            allowed * np.abs(gradient).max()
        )


def test_published_divergence_vanishes_at_its_ends():
    forward, _ = one_token(0.0)
    for beta in (1e-3, 1e-5, 1 - 1e-3, 1 - 1e-5):
        assert 0.0 <= one_token(beta, False)[0] <= 1.5e-3 * forward


@pytest.mark.parametrize("normalize", [True, False])
def test_jensen_shannon_is_symmetric(normalize):
    teacher, student = TOKENS
    assert_close(
        numpy(jensen_shannon(teacher, student, beta=0.3, normalize=normalize)),
        numpy(jensen_shannon(student, teacher, beta=0.7, normalize=normalize)),
    )


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_a_confidently_wrong_student_costs_a_coins_entropy(beta):
    teacher = np.array([[0.0, 0.0, 1e4]], "float32")
    student = np.array([[1e4, 0.0, 0.0]], "float32")
    entropy = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
    assert_close(float(JensenShannon(beta)(teacher, student)), entropy)


@pytest.mark.parametrize("loss", [SkewKL, SkewReverseKL])
def test_a_confidently_wrong_student_costs_no_more_than_the_skew(loss):
    teacher = np.array([[0.0, 0.0, 1e4]], "float32")
    student = np.array([[1e4, 0.0, 0.0]], "float32")
    assert_close(float(loss()(teacher, student)), -np.log(0.1))


def test_skew_0_is_kl():
    teacher, student = TOKENS
    assert_close(
        numpy(skew_kl(teacher, student, skew=0.0)),
        numpy(losses.soft_targets(teacher, student, temperature=1.0)),
    )
    assert_close(
        numpy(skew_reverse_kl(teacher, student, skew=0.0)),
        numpy(reverse_kl(teacher, student)),
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("beta", [0, 1, 0.0, -0.1, 1.1, np.nan, "x", None])
def test_beta_out_of_range(beta):
    refused(
        lambda: JensenShannon(beta),
        "`beta` must be .*Received: beta=",
    )
    if beta not in (0, 1):
        refused(lambda: JensenShannon(beta, normalize=True), "`beta` must be")


@pytest.mark.one_backend
@pytest.mark.parametrize("skew", [1, 1.5, -0.1, np.nan, "x", None])
@pytest.mark.parametrize("loss", [SkewKL, SkewReverseKL])
def test_skew_out_of_range(loss, skew):
    refused(
        lambda: loss(skew),
        "`skew` must be .*of at least 0 and below 1. Received: skew",
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, arguments",
    [
        (JensenShannon, {"beta": 0.2, "normalize": True, "temperature": 3.0}),
        (SkewKL, {"skew": 0.3, "temperature": 2.0}),
        (SkewReverseKL, {"skew": 0.3, "temperature": 2.0}),
        (TopKTargets, {"k": 3, "temperature": 2.0}),
    ],
)
def test_each_argument_is_in_the_config(loss, arguments):
    assert_in_config(loss, **arguments)


# --- top-k targets ----------------------------------------------------------


def test_stored_targets_are_those_of_the_teacher():
    teacher, student = TOKENS
    indices, log_probs = keep_top_k(teacher, k=2, temperature=3.0)
    assert numpy(indices).dtype == "int32"
    np.testing.assert_array_equal(
        numpy(indices), np.argsort(-teacher, axis=-1)[..., :2]
    )
    stored = numpy(indices).astype("uint16"), numpy(log_probs)
    loss = TopKTargets(2, temperature=3.0, reduction=None)
    assert_close(
        numpy(top_k_targets(*stored, student, temperature=3.0)),
        numpy(loss(teacher, student)),
    )


def test_all_but_one_class_is_all_classes():
    teacher, student = TOKENS
    loss = TopKTargets(3, reduction=None)
    assert_close(
        numpy(loss(teacher, student)),
        numpy(losses.soft_targets(teacher, student, temperature=1.0)),
    )


def test_more_classes_kept_never_lower_the_value():
    teacher, student = random_features((50,), (50,))
    values = [float(TopKTargets(k)(teacher, student)) for k in (1, 5, 20, 49)]
    assert values == sorted(values)
    assert_close(values[-1], float(losses.SoftTargets(1.0)(teacher, student)))


def test_rest_of_a_student_that_is_sure_of_the_kept_classes():
    teacher = np.array([[1.0, 1.0, 1.0]], "float32")
    student = np.array([[200.0, 0.0, 0.0]], "float32")
    indices = np.array([[0]])
    log_probs = np.log(np.full((1, 1), 1 / 3, "float32"))
    value, gradient = value_and_gradient(
        lambda student: ops.sum(top_k_targets(indices, log_probs, student)),
        student,
    )
    # 2/3 of the mass lie where the student has 2 e^-200.
    entropy = np.log(3.0) - 2 / 3 * np.log(2.0)
    assert_close(value, 2 / 3 * (200.0 - np.log(2.0)) - entropy, 1e-5)
    assert_close(gradient, np.array([[2 / 3, -1 / 3, -1 / 3]]))
    assert np.isfinite(float(TopKTargets(1)(teacher, student)))


def test_targets_that_leave_nothing_over_are_finite():
    # In half precision stored probabilities may sum to more than 1.
    log_probs = np.log(np.array([[0.75, 0.2502]])).astype("float16")
    value, gradient = value_and_gradient(
        lambda student: ops.sum(
            top_k_targets(np.array([[2, 0]]), log_probs, student)
        ),
        np.array([[1.0, 2.0, 3.0]], "float32"),
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.one_backend
@pytest.mark.parametrize("k", [0, -1, 1.5, True, None, "x"])
def test_k_that_is_no_count(k):
    refused(lambda: TopKTargets(k), "`k` must be a positive integer.*k=")


@pytest.mark.one_backend
def test_k_that_leaves_no_class():
    message = "more classes than are kept.*Received: k=4.*SoftTargets"
    refused(lambda: TopKTargets(4).check_shapes((6, 4), (6, 4)), message)
    refused(lambda: TopKTargets(4)(*TOKENS), message)
    indices = np.tile(np.arange(4), (6, 3, 1))
    refused(lambda: top_k_targets(indices, TOKENS[0], TOKENS[1]), message)
