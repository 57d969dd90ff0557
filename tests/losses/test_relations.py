"""Losses that compare samples, layers or scales with each other."""

import functools
import math

import numpy as np
import pytest
from battery import assert_golden
from battery import assert_in_config
from battery import every_check
from battery import golden
from battery import random_features
from support import numpy

from keras_kd.losses import CorrelationCongruence
from keras_kd.losses import FlowOfSolution
from keras_kd.losses import HierarchicalContext
from keras_kd.losses import ProbabilisticTransfer
from keras_kd.losses import RelationalAngle
from keras_kd.losses import RelationalDistance
from keras_kd.losses import SimilarityPreserving
from keras_kd.losses import correlation_congruence
from keras_kd.losses import flow_of_solution
from keras_kd.losses import hierarchical_context
from keras_kd.losses import probabilistic_transfer
from keras_kd.losses import relational_angle
from keras_kd.losses import relational_distance
from keras_kd.losses import similarity_preserving
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient

# --- the losses once more, in NumPy and float64 -----------------------------


def huber(error):
    error = abs(error)
    return error**2 / 2 if error < 1 else error - 0.5


def distance_reference(teacher, student):
    def relative(rows):
        n = len(rows)
        table = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        return table / (table.sum() / (n * n - n))

    return np.vectorize(huber)(relative(teacher) - relative(student)).mean(1)


def angle_reference(teacher, student):
    def cosine(rows, i, j, k):
        if i in (j, k):
            return 0.0
        to_j, to_k = rows[j] - rows[i], rows[k] - rows[i]
        return to_j @ to_k / np.linalg.norm(to_j) / np.linalg.norm(to_k)

    n = len(teacher)
    values = np.zeros(n)
    for i, j, k in np.ndindex(n, n, n):
        error = cosine(teacher, i, j, k) - cosine(student, i, j, k)
        values[i] += huber(error) / n**2
    return values


def similarity_reference(teacher, student):
    def similarities(array):
        gram = np.array([[np.sum(a * b) for b in array] for a in array])
        return [row / np.linalg.norm(row) for row in gram]

    gaps = [t - s for t, s in zip(similarities(teacher), similarities(student))]
    return np.array([np.mean(gap**2) for gap in gaps])


def neighbors_reference(teacher, student):
    def probs(rows):
        lengths = np.linalg.norm(rows, axis=1)
        affinities = rows @ rows.T / np.outer(lengths, lengths) / 2 + 0.5
        return affinities / affinities.sum(axis=1, keepdims=True)

    p, q = probs(teacher), probs(student)
    return np.mean(p * (np.log(p + 1e-7) - np.log(q + 1e-7)), axis=1)


def adjacent_reference(teacher, student):
    """One value a pair, of which there is one less than samples."""
    error = np.abs(teacher - student)
    return np.array([a @ b for a, b in zip(error[:-1], error[1:])])


def kernel_reference(gamma, order):
    def kernel(rows):
        table = np.zeros((len(rows), len(rows)))
        for i, j in np.ndindex(*table.shape):
            lengths = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
            exponent = 2 * gamma * (rows[i] @ rows[j]) / lengths
            table[i, j] = math.exp(-2 * gamma) * sum(
                exponent**p / math.factorial(p) for p in range(order + 1)
            )
        return table

    return lambda t, s: np.mean((kernel(t) - kernel(s)) ** 2, axis=1)


def halved(maps):
    """The mean of each block of 2 x 2 positions."""
    corners = [maps[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return sum(corners) / 4


def flow_reference(teacher, student):
    def flow(lower, upper):
        while lower.shape[1] > upper.shape[1]:
            lower = halved(lower)
        while lower.shape[1] < upper.shape[1]:
            upper = halved(upper)
        gram = np.einsum("bhwc,bhwd->bcd", lower, upper)
        return gram / lower.shape[1] / lower.shape[2]

    values = 0.0
    for i in range(len(teacher) - 1):
        gap = flow(*teacher[i : i + 2]) - flow(*student[i : i + 2])
        values = values + (gap**2).mean(axis=(1, 2))
    return values


def context_reference(teacher, student):
    """Of maps of 8 x 8."""

    def mean_square(t, s):
        return ((t - s) ** 2).mean(axis=(1, 2, 3))

    total = mean_square(teacher, student)
    for weight in (1 / 2, 1 / 4, 1 / 8):
        teacher, student = halved(teacher), halved(student)
        total = total + weight * mean_square(teacher, student)
    return total / (1 + 1 / 2 + 1 / 4 + 1 / 8)


# --- what changes nothing ---------------------------------------------------


def moved(array):
    """One constant vector added to all samples."""
    offset = np.arange(array[0].size, dtype="float32").reshape(array.shape[1:])
    return array + offset


def enlarged(array):
    """All samples multiplied by one number."""
    return array * np.float32(8.0)


def rotated(array):
    """All samples turned by one rotation, and mirrored."""
    rows = array.reshape(len(array), -1).astype("float64")
    random = np.random.default_rng(5)
    turn = np.linalg.qr(random.normal(size=(rows.shape[1],) * 2))[0]
    return (rows @ turn).reshape(array.shape).astype("float32")


def lengthened(array):
    """Each sample multiplied by a positive number of its own."""
    factors = np.resize(np.geomspace(0.01, 100.0, 6), len(array))
    return (array.T * factors).T.astype("float32")


def mirrored(array):
    """The first axis of positions reversed."""
    return array[:, ::-1].copy()


def negated(array):
    """The other sign."""
    return -array


ALWAYS = (enlarged, rotated)

CASES = {
    "relational_distance": LossCase(
        RelationalDistance,
        *random_features((5,), (4,)),
        reference=distance_reference,
        invariances=(*ALWAYS, moved),
    ),
    "relational_angle": LossCase(
        RelationalAngle,
        *random_features((5,), (4,)),
        reference=angle_reference,
        invariances=(*ALWAYS, moved),
    ),
    "similarity_preserving": LossCase(
        SimilarityPreserving,
        *random_features((5,), (4,)),
        reference=similarity_reference,
        invariances=ALWAYS,
    ),
    "similarity_preserving_map": LossCase(
        SimilarityPreserving,
        *random_features((2, 2, 3), (2, 1, 2)),
        reference=similarity_reference,
        invariances=ALWAYS,
    ),
    "pkt": LossCase(
        ProbabilisticTransfer,
        *random_features((5,), (4,)),
        reference=neighbors_reference,
        invariances=(*ALWAYS, lengthened),
    ),
    "correlation_adjacent": LossCase(
        CorrelationCongruence,
        *random_features((4,), (4,)),
        reference=adjacent_reference,
        any_order=False,
        # A sample twice is one more pair, of the sample and itself.
        mean_over_samples=False,
    ),
    "correlation_kernel": LossCase(
        functools.partial(CorrelationCongruence, "kernel"),
        *random_features((5,), (4,)),
        reference=kernel_reference(0.4, 2),
        invariances=(*ALWAYS, lengthened),
    ),
    "correlation_kernel_3": LossCase(
        functools.partial(CorrelationCongruence, "kernel", gamma=1.5, order=3),
        *random_features((5,), (4,)),
        reference=kernel_reference(1.5, 3),
        invariances=ALWAYS,
    ),
    "flow": LossCase(
        FlowOfSolution,
        random_features((4, 4, 2), (2, 2, 3), seed=1),
        random_features((4, 4, 2), (2, 2, 3), seed=2),
        reference=flow_reference,
        invariances=(mirrored, negated),
    ),
    "flow_of_three_layers": LossCase(
        FlowOfSolution,
        random_features((2, 2, 2), (4, 4, 3), (2, 2, 1), seed=1),
        random_features((4, 4, 2), (2, 2, 3), (2, 2, 1), seed=2),
        reference=flow_reference,
        invariances=(mirrored, negated),
    ),
    "hierarchical_context": LossCase(
        HierarchicalContext,
        *random_features((8, 8, 1), (8, 8, 1)),
        reference=context_reference,
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


@pytest.mark.parametrize(
    "name, published",
    [
        ("relational_distance", "rkd_distance"),
        ("relational_angle", "rkd_angle"),
        ("similarity_preserving", "similarity_preserving"),
        ("similarity_preserving_map", "similarity_preserving_map"),
        ("pkt", "pkt"),
        ("correlation_adjacent", "correlation_congruence"),
        ("hierarchical_context", "review_hcl"),
    ],
)
def test_value_and_gradient_are_those_of_the_published_code(name, published):
    assert_golden(CASES[name], published)


def test_flow_is_that_of_the_published_code():
    facts = golden("fsp")
    case = LossCase(
        FlowOfSolution,
        [facts["teacher0"], facts["teacher1"]],
        [facts["student0"], facts["student1"]],
    )
    value, slope = case.value_and_gradient(case.make())
    assert_close(value, facts["value"])
    assert_close(slope, [facts["grad0"], facts["grad1"]])


# --- losses that compare samples --------------------------------------------

FUNCTIONS = {
    "relational_distance": relational_distance,
    "relational_angle": relational_angle,
    "similarity_preserving": similarity_preserving,
    "pkt": probabilistic_transfer,
    "correlation_kernel": functools.partial(
        correlation_congruence, form="kernel"
    ),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def gradient(case, weights=None):
    return case.value_and_gradient(case.make(), weights)[1]


@every_function
def test_function_gives_one_value_a_sample(name):
    case = CASES[name]
    values = numpy(FUNCTIONS[name](case.teacher, case.student))
    expected = case.reference(
        case.teacher.astype("float64"), case.student.astype("float64")
    )
    assert_close(values, expected, tolerance=2e-5)
    unreduced = case.make(reduction=None)(case.teacher, case.student)
    assert_close(numpy(unreduced), expected, tolerance=2e-5)


@every_function
def test_maps_are_flattened(name):
    teacher, student = random_features((2, 3), (4, 1, 2))
    case = CASES[name]
    flat = case.make()(teacher.reshape(6, 6), student.reshape(6, 8))
    assert_close(numpy(case.make()(teacher, student)), numpy(flat))


@every_function
@pytest.mark.parametrize("absent", [1e30, np.inf, np.nan])
def test_an_absent_sample_may_hold_anything(name, absent):
    weights = np.array([1, 1, 0, 1, 1, 1], "float32")
    kept = weights > 0
    case = CASES[name]

    def spoil(array):
        return np.where(kept[:, None], array, np.float32(absent))

    spoilt = case.change(spoil, "teacher", "student")
    value, slope = spoilt.value_and_gradient(case.make(), weights)
    expected, expected_slope = case.take(kept).value_and_gradient(case.make())
    assert_close(value, expected)
    assert_close(slope[kept], expected_slope)
    assert np.all(slope[~kept] == 0.0)


@every_function
def test_pairs_count_by_the_product_of_their_weights(name):
    case = CASES[name]
    weights = np.array([1, 3, 1, 2, 1, 1], "float32")
    twice = np.repeat(np.arange(6), weights.astype(int))
    value, slope = case.value_and_gradient(case.make(), weights)
    expected, copies = case.take(twice).value_and_gradient(case.make())
    assert_close(value, expected)
    joined = np.zeros_like(slope)
    np.add.at(joined, twice, copies)
    assert_close(slope, joined)


@every_function
def test_silent_samples_do_not_explode(name):
    case = CASES[name]
    silent = case._replace(student=case.student.copy())
    silent.student[:2] = 0.0
    slope = gradient(silent)
    assert np.abs(slope).max() < 10.0
    assert np.abs(slope[2:]).max() > 1e-4


@every_function
@pytest.mark.parametrize("size", [1e-5, 1e4])
def test_the_size_of_the_features_is_no_matter(name, size):
    case = CASES[name]
    other = case.change(lambda array: array * np.float32(size), "student")
    assert_close(
        case.value(case.make()), other.value(case.make()), tolerance=1e-4
    )


@pytest.mark.one_backend
@every_function
def test_shapes_that_do_not_compare(name):
    loss = CASES[name].make()
    loss.check_shapes((None, 3), (None, 4, 4, 7))
    loss.check_shapes((8, None, 3), (None, 4))
    for shapes in [((4,), (4,)), ((4, 3), (4,)), ((4, 3), (5, 3)), ((), ())]:
        with pytest.raises(ValueError, match="samples of a batch.*Received"):
            loss.check_shapes(*shapes)


def test_close_samples_keep_their_distance():
    """A Gram matrix would lose it: 1e6 + 1e6 - 2e6 in float32."""
    teacher = np.array([[0.0], [1.0], [3.0]], "float32")
    student = np.array([[1000.0], [1000.25], [1000.75]], "float32")
    value, slope = value_and_gradient(
        functools.partial(RelationalDistance(), teacher), student
    )
    assert abs(value) < 1e-10
    assert np.abs(slope).max() < 1e-4


def test_the_angle_takes_no_more_than_batch_cubed():
    """160 x 160 x 160 x 2048 numbers would be 34 GB."""
    teacher, student = random_features((2048,), (8,), samples=160)
    value = RelationalAngle()(teacher, student)
    assert np.isfinite(float(numpy(value)))


@pytest.mark.parametrize(
    "name, power",
    [
        ("relational_distance", 0),
        ("relational_angle", 0),
        ("similarity_preserving", -1),
        ("pkt", -1),
        ("correlation_kernel", 0),
        ("correlation_adjacent", 0),
    ],
)
def test_the_scale_of_the_weights(name, power):
    """It is that of the batch size, in whose inverse SP and PKT go."""
    case = CASES[name]
    weights = np.array([1, 3, 0, 2, 0.5, 1], "float32")
    assert_close(
        case.value(case.make(), 10.0 * weights),
        case.value(case.make(), weights) * 10.0**power,
    )


# --- correlation congruence -------------------------------------------------


def test_neighbors_are_the_next_samples_that_are_present():
    teacher, student = random_features((4,), (4,), samples=5)
    weights = np.array([1, 0, 0, 1, 1], "float32")
    error = np.abs(teacher - student)
    value = CorrelationCongruence()(teacher, student, weights)
    expected = (error[0] @ error[3] + error[3] @ error[4]) / 2
    assert_close(numpy(value), expected)


def test_a_pair_counts_by_the_product_of_its_weights():
    teacher, student = random_features((4,), (4,), samples=3)
    weights = np.array([2.0, 0.5, 3.0], "float32")
    error = np.abs(teacher - student)
    value = CorrelationCongruence()(teacher, student, weights)
    expected = (1.0 * error[0] @ error[1] + 1.5 * error[1] @ error[2]) / 2.5
    assert_close(numpy(value), expected)


def test_each_pair_is_the_value_of_the_sample_that_begins_it():
    teacher, student = random_features((4,), (4,), samples=4)
    weights = np.array([1, 0, 1, 1], "float32")
    error = np.abs(teacher - student)
    values = correlation_congruence(teacher, student, sample_weight=weights)
    expected = [error[0] @ error[2], 0.0, error[2] @ error[3], 0.0]
    assert_close(numpy(values), np.multiply(expected, 3 / 2))


@pytest.mark.parametrize("weights", [None, [1.0], [0.0]])
def test_one_sample_has_no_neighbor(weights):
    teacher, student = random_features((4,), (4,), samples=1)
    value = CorrelationCongruence()(teacher, student, weights)
    assert float(numpy(value)) == 0.0


@pytest.mark.one_backend
def test_only_adjacent_samples_need_features_of_one_size():
    CorrelationCongruence("kernel").check_shapes((None, 3), (None, 4))
    with pytest.raises(ValueError, match="same shape.*Received"):
        CorrelationCongruence().check_shapes((None, 3), (None, 4))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments",
    [
        {"form": "paper"},
        {"gamma": 0},
        {"gamma": -1.0},
        {"gamma": float("nan")},
        {"gamma": float("inf")},
        {"gamma": "x"},
        {"order": 0},
        {"order": 1.5},
        {"order": None},
    ],
)
def test_arguments_that_are_none(arguments):
    ((name, value),) = arguments.items()
    message = f"`{name}` must be .*Received: {name}={value!r}"
    with pytest.raises(ValueError, match=message):
        CorrelationCongruence(**arguments)


# --- flow of the solution ---------------------------------------------------

FLOW = CASES["flow"]


def test_function_sums_over_the_pairs_of_layers():
    case = CASES["flow_of_three_layers"]
    values = flow_of_solution(case.teacher, case.student)
    parts = [
        flow_of_solution(case.teacher[i : i + 2], case.student[i : i + 2])
        for i in (0, 1)
    ]
    assert values.shape == (6,)
    assert_close(numpy(values), numpy(parts[0] + parts[1]))


def test_flow_of_sequences():
    teacher = random_features((8, 2), (4, 3), seed=1)
    student = random_features((8, 2), (4, 3), seed=2)

    def as_maps(sequences):
        return [np.stack([each, each], axis=2) for each in sequences]

    assert_close(
        numpy(flow_of_solution(teacher, student)),
        numpy(flow_of_solution(as_maps(teacher), as_maps(student))),
    )


def test_the_two_sides_may_have_maps_of_different_sizes():
    """Each position twice, which no mean over positions notices."""

    def doubled(array):
        return array.repeat(2, axis=1).repeat(2, axis=2)

    other = FLOW.change(doubled, "teacher")
    loss = FLOW.make()
    loss.check_shapes(*([v.shape for v in side] for side in other[1:3]))
    assert_close(other.value(loss), FLOW.value(loss))


def test_which_pair_of_layers_matters():
    """A student with the upper layer's sign wrong has another flow."""
    student = [FLOW.student[0], -FLOW.student[1]]
    other = FLOW._replace(teacher=FLOW.student, student=student)
    assert other.value(FLOW.make()) > 0.1


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ([(4, 8, 8, 2)], [(4, 8, 8, 2)], "two taps or more.*stage1"),
        ([(4, 8, 2)] * 2, [(4, 8, 2)] * 3, "two taps or more"),
        ([(4, 2)] * 2, [(4, 2)] * 2, "maps or token sequences"),
        ([(4, 8, 2), (4, 8, 8, 2)], [(4, 8, 2)] * 2, "of the same rank"),
        ([(4, 8, 2)] * 2, [(4, 8, 2), (4, 8, 3)], "same number of channels"),
    ],
)
def test_layers_that_have_no_flow_to_compare(teacher, student, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        FlowOfSolution().check_shapes(teacher, student)
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        FlowOfSolution()(
            [np.ones(shape, "float32") for shape in teacher],
            [np.ones(shape, "float32") for shape in student],
        )


# --- hierarchical context ---------------------------------------------------

CONTEXT = CASES["hierarchical_context"]


def test_function_gives_one_value_a_map():
    values = hierarchical_context(CONTEXT.teacher, CONTEXT.student)
    expected = context_reference(
        CONTEXT.teacher.astype("float64"), CONTEXT.student.astype("float64")
    )
    assert_close(numpy(values), expected)


def test_windows_of_maps_that_no_size_divides():
    """5 positions in 2 windows: 0-2 and 2-4; the axis of 3, too: 0-1, 1-2."""
    teacher, student = random_features((5, 3, 2), (5, 3, 2))
    error = (teacher - student).astype("float64")
    total = (error**2).mean(axis=(1, 2, 3))
    pooled = 0.0
    for rows in (slice(0, 3), slice(2, 5)):
        for columns in (slice(0, 2), slice(1, 3)):
            window = error[:, rows, columns].mean(axis=(1, 2))
            pooled = pooled + (window**2).mean(axis=-1) / 4
    values = hierarchical_context(teacher, student, sizes=(8, 2))
    assert_close(numpy(values), (total + pooled / 2) / 1.5)


def test_an_axis_shorter_than_a_size_stays():
    teacher, student = random_features((8, 2, 1), (8, 2, 1))
    error = (teacher - student).astype("float64")
    pooled = (error[:, 0::2] + error[:, 1::2]) / 2
    expected = (error**2).mean(axis=(1, 2, 3))
    expected = expected + (pooled**2).mean(axis=(1, 2, 3)) / 2
    values = hierarchical_context(teacher, student, sizes=(4,))
    assert_close(numpy(values), expected / 1.5)


def test_a_map_as_small_as_a_size_is_left_out():
    teacher, student = random_features((4, 4, 1), (4, 4, 1))
    assert_close(
        numpy(hierarchical_context(teacher, student)),
        numpy(hierarchical_context(teacher, student, sizes=(2, 1))),
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("sizes", [(0,), (4, -2), (2.0,), (None,)])
def test_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match="`sizes` must be .*Received: sizes="):
        HierarchicalContext(sizes=sizes)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ((4, 8, 8, 2), (4, 8, 8, 3), "same shape.*FeatureAdapter"),
        ((4, 2), (4, 2), "need positions"),
        ((4, None, 2), (4, None, 2), "a known number"),
    ],
)
def test_maps_without_a_context(teacher, student, message):
    with pytest.raises(ValueError, match=message) as error:
        HierarchicalContext().check_shapes(teacher, student)
    assert "Received" in str(error.value)


@pytest.mark.one_backend
def test_maps_with_a_context():
    HierarchicalContext().check_shapes((None, 8, 8, 2), (None, 8, 8, 2))
    HierarchicalContext(axis=1).check_shapes((None, 2, 8), (None, None, 8))


# --- of both ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["flow", "hierarchical_context"])
def test_channels_first_is_channels_last_transposed(name):
    case = CASES[name]
    first = case.change(
        lambda array: np.moveaxis(array, -1, 1).copy(), "teacher", "student"
    )
    weights = np.array([1, 3, 0, 0.5, 2, 1], "float32")
    assert_close(
        first.value(case.make(axis=1), weights),
        case.value(case.make(), weights),
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, arguments",
    [
        (
            CorrelationCongruence,
            {"form": "kernel", "gamma": 1.5, "order": 3},
        ),
        (FlowOfSolution, {"axis": 1}),
        (HierarchicalContext, {"sizes": [3, 1], "axis": 1}),
    ],
)
def test_each_argument_is_in_the_config(loss, arguments):
    assert_in_config(loss, **arguments)
