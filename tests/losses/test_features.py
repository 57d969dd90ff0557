"""Losses on hidden features: against NumPy, published values, and traps."""

import keras
import numpy as np
import pytest
from battery import assert_golden
from battery import every_check
from battery import golden
from battery import gradient
from battery import random_features
from battery import scaled
from battery import value

from keras_kd import Transfer
from keras_kd.losses import ActivationBoundaries
from keras_kd.losses import ChannelWiseDistillation
from keras_kd.losses import FactorTransfer
from keras_kd.losses import InterChannelCorrelation
from keras_kd.losses import LogSumDistance
from keras_kd.losses import MarginReLU
from keras_kd.losses import NeuronSelectivity
from keras_kd.losses import log_sum_distance
from keras_kd.losses import margin_of_batch_norm
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close

# --- the losses once more, in NumPy and float64 -----------------------------


def boundaries(margin):
    def values(teacher, student):
        total = np.zeros(len(teacher))
        for index in np.ndindex(teacher.shape):
            t, s = teacher[index], student[index]
            if t > 0 and s < margin:
                total[index[0]] += (margin - s) ** 2
            if t <= 0 and s > -margin:
                total[index[0]] += (s + margin) ** 2
        return total

    return values


def partial_distance(margins):
    def values(teacher, student):
        total = np.zeros(len(teacher))
        for index in np.ndindex(teacher.shape):
            t, s = teacher[index], student[index]
            t = t if t > margins[index[-1]] else margins[index[-1]]
            if not (s <= t and t <= 0):
                total[index[0]] += (s - t) ** 2
        return total

    return values


def channel_divergence(temperature):
    def values(teacher, student):
        total = np.zeros(len(teacher))
        for n in range(len(teacher)):
            for c in range(teacher.shape[-1]):
                p = np.exp(teacher[n, ..., c].ravel() / temperature)
                q = np.exp(student[n, ..., c].ravel() / temperature)
                p, q = p / p.sum(), q / q.sum()
                total[n] += np.sum(p * np.log(p / q)) / teacher.shape[-1]
        return temperature**2 * total

    return values


def pooled(array, factor):
    """Means over blocks of a map of (batch, height, width, channels)."""
    batch, height, width, channels = array.shape
    blocks = (batch, height // factor, factor, width // factor, factor)
    return array.reshape(*blocks, channels).mean(axis=(2, 4))


def discrepancy(teacher, student):
    def kernel(first, second):
        return np.mean(
            [
                [
                    (a.ravel() @ b.ravel()) ** 2 / (a**2).sum() / (b**2).sum()
                    for b in np.moveaxis(second, -1, 0)
                ]
                for a in np.moveaxis(first, -1, 0)
            ]
        )

    return np.array(
        [
            kernel(t, t) + kernel(s, s) - 2 * kernel(t, s)
            for t, s in zip(teacher, student)
        ]
    )


def correlation_distance(teacher, student):
    def correlations(features):
        channels = np.moveaxis(features, -1, 0)
        rows = np.array([[(a * b).sum() for b in channels] for a in channels])
        return np.array([row / np.linalg.norm(row) for row in rows])

    return np.array(
        [
            np.sum((correlations(t) - correlations(s)) ** 2) / t.shape[-1]
            for t, s in zip(teacher, student)
        ]
    )


def log_of_sum(exponent):
    def values(teacher, student):
        total = np.sum(np.abs(teacher - student) ** exponent)
        return np.full(len(teacher), 2.0 * np.log(total))

    return values


def factor_distance(distance, prepare=lambda features: features):
    def values(teacher, student):
        result = []
        for t, s in zip(prepare(teacher), prepare(student)):
            error = t / np.linalg.norm(t) - s / np.linalg.norm(s)
            result.append((np.abs(error) ** distance).mean())
        return np.array(result)

    return values


def energy(features):
    return (features**2).mean(axis=-1).reshape(len(features), -1)


def flat(features):
    return features.reshape(len(features), -1)


# --- what changes nothing ---------------------------------------------------


def shifted_channels(array):
    """A number added to each channel of each sample."""
    random = np.random.default_rng(1)
    shape = (len(array), *[1] * (array.ndim - 2), array.shape[-1])
    return array + random.normal(size=shape).astype("float32")


def scaled_channels(array):
    """Each channel of each sample multiplied by a number other than 0."""
    random = np.random.default_rng(1)
    shape = (len(array), *[1] * (array.ndim - 2), array.shape[-1])
    factors = random.uniform(0.1, 9.0, shape) * random.choice([-1, 1], shape)
    return array * factors.astype("float32")


def reversed_channels(array):
    """The channels in another order."""
    return array[..., ::-1].copy()


def twice_as_wide(student):
    return student.repeat(2, axis=1).repeat(2, axis=2)


# --- the cases --------------------------------------------------------------

MAPS = (3, 2, 4)
MARGINS = [-0.5, -1.0, -0.2, 0.0]


def case(make, reference, student=MAPS, teacher=MAPS, **facts):
    sizes = facts.pop("size", 1.0)
    return LossCase(
        make,
        *random_features(teacher, student, size=sizes),
        reference=reference,
        **facts,
    )


CASES = {
    "boundaries": case(
        ActivationBoundaries,
        boundaries(1.0),
        identical=None,  # see `test_boundaries_ask_for_the_sign_alone`
    ),
    "boundaries_wide": case(
        lambda **kwargs: ActivationBoundaries(2.5, **kwargs),
        boundaries(2.5),
        identical=None,
    ),
    "margin_relu": case(
        lambda **kwargs: MarginReLU(MARGINS, **kwargs),
        partial_distance(MARGINS),
    ),
    "margin_relu_one": case(
        lambda **kwargs: MarginReLU(-0.3, **kwargs),
        partial_distance([-0.3] * 4),
    ),
    "channel_wise": case(
        ChannelWiseDistillation,
        channel_divergence(4.0),
        size=4.0,  # that of T: smaller logits lose digits in the logarithm
        invariances=(shifted_channels,),
    ),
    "channel_wise_T1": case(
        lambda **kwargs: ChannelWiseDistillation(1.0, **kwargs),
        channel_divergence(1.0),
        student=(5, 3),
        teacher=(5, 3),
        invariances=(shifted_channels,),
    ),
    "selectivity": case(
        NeuronSelectivity,
        discrepancy,
        student=(4, 3, 5),
        teacher=(4, 3, 4),
        identical=reversed_channels,
        invariances=(scaled, scaled_channels, reversed_channels),
    ),
    "selectivity_few_positions": case(
        NeuronSelectivity,
        discrepancy,
        student=(2, 3),
        teacher=(2, 5),
        identical=lambda student: np.concatenate([student, -student], -1),
        invariances=(scaled, scaled_channels, reversed_channels),
    ),
    "selectivity_pooled": case(
        NeuronSelectivity,
        lambda teacher, student: discrepancy(pooled(teacher, 2), student),
        student=(2, 2, 3),
        teacher=(4, 4, 5),
        identical=twice_as_wide,
    ),
    "correlation": case(
        InterChannelCorrelation, correlation_distance, invariances=(scaled,)
    ),
    "correlation_of_other_positions": case(
        InterChannelCorrelation,
        correlation_distance,
        student=(3, 4),
        teacher=(3, 2, 4),
        invariances=(scaled,),
    ),
    "log_sum": case(
        LogSumDistance,
        log_of_sum(4.0),
        student=(5,),
        teacher=(5,),
        minimum=2.0 * np.log(1e-24),
    ),
    "log_sum_cubes": case(
        lambda **kwargs: LogSumDistance(3.0, **kwargs),
        log_of_sum(3.0),
        minimum=2.0 * np.log(1e-24),
    ),
    "factor_l1": case(
        FactorTransfer,
        factor_distance(1, flat),
        invariances=(scaled,),
        smooth=False,
    ),
    "factor_l2": case(
        lambda **kwargs: FactorTransfer(distance="l2", **kwargs),
        factor_distance(2, flat),
        invariances=(scaled,),
    ),
    "factor_map": case(
        lambda **kwargs: FactorTransfer(form="map", **kwargs),
        factor_distance(1, energy),
        student=(3, 2, 4),
        teacher=(3, 2, 5),
        identical=np.negative,
        invariances=(scaled, reversed_channels),
        smooth=False,
    ),
    "factor_map_pooled": case(
        lambda **kwargs: FactorTransfer(form="map", distance="l2", **kwargs),
        lambda teacher, student: factor_distance(2, energy)(
            pooled(teacher, 2), student
        ),
        student=(2, 2, 3),
        teacher=(4, 4, 5),
        identical=twice_as_wide,
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


# --- the published values ---------------------------------------------------


def test_activation_boundaries_of_the_published_code():
    margin = float(golden("ab")["margin"])
    make = CASES["boundaries"]._replace(
        make=lambda **kwargs: ActivationBoundaries(margin, **kwargs)
    )
    assert_golden(make, "ab")


def test_margin_relu_of_the_published_code():
    margin = golden("ofd_partial_l2")["margin"]
    make = CASES["margin_relu"]._replace(
        make=lambda **kwargs: MarginReLU(margin, **kwargs)
    )
    assert_golden(make, "ofd_partial_l2")


@pytest.mark.parametrize(
    "name, published",
    [
        ("selectivity", "nst"),
        ("log_sum", "srd_feature"),
        ("factor_map", "factor_transfer"),
    ],
)
def test_value_and_gradient_are_those_of_the_published_code(name, published):
    assert_golden(CASES[name], published)


def test_correlation_of_the_published_port():
    # The port divides by the batch size, here 8, once more.
    facts = golden("ickd")
    case = CASES["correlation"]._replace(
        teacher=facts["teacher"], student=facts["student"]
    )
    found, slope = case.value_and_gradient(case.make())
    assert_close(found / 8, facts["value"])
    assert_close(slope / 8, facts["grad"])


# --- activation boundaries --------------------------------------------------


def test_boundaries_ask_for_the_sign_alone():
    teacher, student = random_features(MAPS, MAPS)
    loss = ActivationBoundaries()
    assert value(loss, teacher * 100, student) == value(loss, teacher, student)
    assert value(loss, teacher, 9.0 * np.sign(teacher)) == 0.0


def test_a_teacher_at_0_does_not_fire():
    assert value(ActivationBoundaries(), [[0.0]], [[0.5]]) == 2.25


# --- margin ReLU ------------------------------------------------------------


def test_a_student_below_a_negative_teacher_is_let_be():
    student = np.array([[-9.0, -0.4, 0.1]], "float32")
    teacher = np.array([[-2.0, -2.0, -2.0]], "float32")
    slope = gradient(MarginReLU(-0.5), teacher, student)
    assert_close(slope, np.array([[0.0, 0.2, 1.2]]))


@pytest.mark.one_backend
def test_margin_is_the_mean_of_the_negative_responses():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 4))
    gamma, beta = [1.0, -2.0, 0.5, 1.5], [0.3, -1.0, 0.0, 2.0]
    layer.set_weights([np.array(gamma), np.array(beta), *np.ones((2, 4))])
    # By numbers: the mean over a fine grid of quantiles below 0.
    grid = np.linspace(-12.0, 12.0, 2_000_001)
    density = np.exp(-(grid**2) / 2)
    expected = []
    for scale, mean in zip(gamma, beta):
        responses = mean + abs(scale) * grid
        share = density * (responses < 0)
        expected.append((responses * share).sum() / share.sum())
    assert_close(margin_of_batch_norm(layer), expected)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "gamma, beta, expected",
    [
        (0.5, 2.0, -1.5),  # 4 deviations above 0: the authors' -3 deviations
        (0.5, 1e9, -1.5),
        (0.0, 1.0, 0.0),
        (0.0, -1.0, -1.0),
        (1.0, -1e9, -1e9),
    ],
)
def test_margin_of_improbable_responses(gamma, beta, expected):
    layer = keras.layers.BatchNormalization()
    layer.build((None, 1))
    layer.set_weights([np.array([each]) for each in (gamma, beta, 0.0, 1.0)])
    assert_close(margin_of_batch_norm(layer), [expected])


@pytest.mark.one_backend
@pytest.mark.parametrize("scale, center", [(True, False), (False, True)])
def test_margin_of_a_batch_norm_without_gamma_or_beta(scale, center):
    layer = keras.layers.BatchNormalization(scale=scale, center=center)
    layer.build((None, 2))
    assert_close(margin_of_batch_norm(layer), [-np.sqrt(2.0 / np.pi)] * 2)


@pytest.mark.one_backend
def test_margin_of_a_layer_without_statistics():
    layer = keras.layers.BatchNormalization(scale=False, center=False)
    layer.build((None, 2))
    with pytest.raises(ValueError, match="has neither. Give"):
        margin_of_batch_norm(layer)


# --- channel-wise distillation ----------------------------------------------


def test_temperature_can_be_assigned():
    case = CASES["channel_wise"]
    loss = ChannelWiseDistillation(1.0)
    before = value(loss, case.teacher, case.student)
    loss.temperature = 4.0
    after = value(loss, case.teacher, case.student)
    assert after == value(case.make(), case.teacher, case.student) != before


# --- the other losses -------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["selectivity", "correlation", "factor_l1", "factor_map"]
)
def test_silent_channels_and_samples_do_not_explode(name):
    case = CASES[name]
    student = case.student.copy()
    student[0] = 0.0
    student[1, ..., 2] = 0.0
    slope = gradient(case.make(), case.teacher, student)
    assert np.abs(slope).max() < 10.0
    assert np.abs(slope[1:]).max() > 1e-4


@pytest.mark.parametrize("name", ["selectivity", "correlation", "factor_l1"])
@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_tiny_and_huge_features(name, scale):
    case = CASES[name]
    loss = case.make()
    assert_close(
        value(loss, case.teacher, case.student * np.float32(scale)),
        value(loss, case.teacher, case.student),
    )


def test_a_larger_batch_leaves_the_gradient_of_the_log_sum():
    case = CASES["log_sum"]
    loss = case.make()
    weights = np.full(6, 4.0, "float32")
    once, slope = case.value_and_gradient(loss)
    more, same = case.value_and_gradient(loss, weights)
    assert_close(more, once + 2.0 * np.log(4.0))
    assert_close(same, slope)


def test_log_sum_without_weights_is_the_function():
    case = CASES["log_sum"]
    found = log_sum_distance(case.teacher, case.student)
    expected = log_of_sum(4.0)(
        case.teacher.astype("float64"), case.student.astype("float64")
    )
    assert_close(keras.ops.convert_to_numpy(found), expected)


def test_log_sum_of_normalized_projections_trains():
    def normalization():
        return keras.layers.BatchNormalization(center=False, scale=False)

    transfer = Transfer(
        LogSumDistance(),
        adapter=keras.Sequential(
            [keras.layers.Dense(5, use_bias=False), normalization()]
        ),
        teacher_adapter=normalization(),
    )
    transfer.match([(None, 5)], [(None, 3)])
    teacher, student = random_features((5,), (3,))
    large = 100.0 * teacher + 7.0
    found = [
        transfer.term({"": array}, {"": student}, None, training=True)
        for array in (teacher, large)
    ]
    found = [float(keras.ops.convert_to_numpy(each)) for each in found]
    # The normalization takes the teacher's scale away (but for its epsilon).
    assert_close(found[1], found[0], tolerance=1e-2)


# --- arguments --------------------------------------------------------------

AXES = [
    MarginReLU(MARGINS, axis=1),
    ChannelWiseDistillation(axis=1),
    NeuronSelectivity(axis=1),
    InterChannelCorrelation(axis=1),
    FactorTransfer(form="map", axis=1),
]


@pytest.mark.parametrize("first", AXES, ids=lambda loss: loss.name)
def test_channels_first_is_channels_last_transposed(first):
    teacher, student = random_features(MAPS, MAPS)
    last = type(first).from_config({**first.get_config(), "axis": -1})
    assert_close(
        value(first, np.moveaxis(teacher, -1, 1), np.moveaxis(student, -1, 1)),
        value(last, teacher, student),
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("loss", AXES, ids=lambda loss: loss.name)
def test_axis_is_in_the_config(loss):
    assert type(loss).from_config(loss.get_config()).axis == 1


@pytest.mark.one_backend
def test_margins_may_be_an_array():
    margins = np.array(MARGINS, "float32")
    assert MarginReLU(margins).get_config()["margin"] == margins.tolist()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ActivationBoundaries(0.0), "`margin` must.*margin=0.0"),
        (lambda: ActivationBoundaries(np.nan), "`margin` must.*margin=nan"),
        (lambda: MarginReLU(0.5), "0 or less.*margin=0.5"),
        (lambda: MarginReLU([-1.0, np.nan]), "0 or less.*nan"),
        (lambda: MarginReLU(-np.inf), "0 or less.*-inf"),
        (lambda: MarginReLU([[-1.0]]), "0 or less.*-1.0"),
        (lambda: ChannelWiseDistillation(0.0), "`temperature` must"),
        (lambda: LogSumDistance(1.0), "`exponent` must.*exponent=1.0"),
        (lambda: LogSumDistance(np.inf), "`exponent` must.*exponent=inf"),
        (lambda: FactorTransfer(form="sum"), "'map'.*form='sum'"),
        (lambda: FactorTransfer(distance=1), "'l2'.*distance=1"),
    ],
)
def test_arguments_that_are_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "Received" in str(error.value)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, teacher, student, message",
    [
        (ActivationBoundaries(), (4, 5), (4, 6), "FeatureAdapter"),
        (MarginReLU(), (4, 5), (4, 6), "FeatureAdapter"),
        (MarginReLU([-1.0] * 4), (4, 2, 5), (4, 2, 5), "4 margins"),
        (ChannelWiseDistillation(), (4, 5), (4, 5), "SoftTargets"),
        (ChannelWiseDistillation(), (4, 2, 5), (4, 3, 5), "FeatureAdapter"),
        (NeuronSelectivity(), (4, 5), (4, 5), "that have positions"),
        (NeuronSelectivity(), (4, 2, 2, 5), (4, 4, 5), "same rank"),
        (InterChannelCorrelation(), (4, 2, 5), (4, 2, 6), "FeatureAdapter"),
        (InterChannelCorrelation(), (4, 2, 1), (4, 2, 1), "two or more"),
        (InterChannelCorrelation(), (4, 5), (4, 2, 5), "positions"),
        (LogSumDistance(), (4, 5), (4, 6), "FeatureAdapter"),
        (FactorTransfer(), (4, 2, 5), (4, 2, 6), "FeatureAdapter"),
        (FactorTransfer(form="map"), (4, 2, 2, 5), (4, 4, 5), "same rank"),
    ],
)
def test_shapes_that_do_not_compare(loss, teacher, student, message):
    with pytest.raises(ValueError, match=message) as error:
        loss.check_shapes(teacher, student)
    assert "Received" in str(error.value)
