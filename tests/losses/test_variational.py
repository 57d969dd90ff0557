"""Variational information: the loss, and the regressor that it trains."""

import functools
import json

import keras
import numpy as np
import pytest
from battery import every_check
from battery import golden
from battery import random_features
from keras import ops
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.layers import VariationalRegressor
from keras_kd.losses import VariationalInformation
from keras_kd.losses import variational_information
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient


def predictions(shape, axis=-1):
    """A teacher's array, and means and variances of it."""
    teacher, mean, spread = random_features(shape, shape, shape)
    return teacher, np.concatenate([mean, np.exp(0.3 * spread)], axis=axis)


def negative_log_likelihood(teacher, prediction):
    values = np.zeros(teacher.shape[:-1])
    channels = teacher.shape[-1]
    for position in np.ndindex(values.shape):
        mean, variance = np.split(prediction[position], [channels])
        for t, m, v in zip(teacher[position], mean, variance):
            density = np.exp(-((t - m) ** 2) / (2 * v)) / np.sqrt(v)
            values[position] -= np.log(density) / channels
    return values


def channels_first(teacher, prediction):
    return negative_log_likelihood(
        np.moveaxis(teacher, 1, -1), np.moveaxis(prediction, 1, -1)
    )


CASES = {
    "maps": LossCase(
        VariationalInformation,
        *predictions((2, 2, 3)),
        reference=negative_log_likelihood,
        identical=None,  # where the means agree, a variance may still shrink
    ),
    "vectors": LossCase(
        VariationalInformation,
        *predictions((4,)),
        reference=negative_log_likelihood,
        identical=None,
    ),
    "channels_first": LossCase(
        functools.partial(VariationalInformation, axis=1),
        *predictions((3, 2, 2), axis=1),
        reference=channels_first,
        identical=None,
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


def test_function_gives_one_value_a_position():
    teacher, prediction = predictions((2, 2, 3))
    assert_close(
        numpy(variational_information(teacher, prediction)),
        negative_log_likelihood(
            teacher.astype("float64"), prediction.astype("float64")
        ),
    )


def test_value_and_gradient_are_those_of_the_published_code():
    facts = golden("vid_gaussian")
    variance = ops.convert_to_tensor(facts["variance"].astype("float32"))

    def loss(mean):
        variances = ops.broadcast_to(variance, ops.shape(mean))
        return VariationalInformation()(
            facts["teacher"], ops.concatenate([mean, variances], axis=-1)
        )

    value, gradient = value_and_gradient(loss, facts["student"])
    assert_close(value, facts["value"])
    assert_close(gradient, facts["grad"])


def test_the_best_variance_is_the_squared_error():
    loss = VariationalInformation()
    values = [float(loss([[3.0]], [[1.0, v]])) for v in (3.9, 4.0, 4.1)]
    assert values[1] == min(values)


def test_a_variance_of_0_is_finite():
    prediction = np.zeros((2, 6), "float32")
    value, gradient = value_and_gradient(
        lambda p: VariationalInformation()(np.ones((2, 3), "float32"), p),
        prediction,
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# --- the regressor ----------------------------------------------------------


def built(source, target, **kwargs):
    regressor = VariationalRegressor(target, **kwargs)
    regressor.build((None, *source))
    return regressor


def expected_mean(regressor, features):
    kernels = [w for w in regressor.get_weights() if w.ndim == 2]
    hidden = np.maximum(features @ kernels[0], 0.0)
    return np.maximum(hidden @ kernels[1], 0.0) @ kernels[2]


@pytest.mark.parametrize("variance", [2e-5, 0.1, 5.0, 300.0])
def test_means_and_variances(variance):
    regressor = built((2, 2, 3), (2, 2, 4), initial_variance=variance)
    (features,) = random_features((2, 2, 3))
    mean, variances = np.split(numpy(regressor(features)), 2, axis=-1)
    assert_close(mean, expected_mean(regressor, features))
    assert_close(variances, np.full_like(variances, variance))
    assert [w.shape for w in regressor.get_weights() if w.ndim == 2] == [
        (3, 4),
        (4, 4),
        (4, 4),
    ]


def test_variance_is_softplus_and_a_floor():
    regressor = built((3,), (4,))
    rho = np.array([-100.0, -1.0, 0.0, 2.0], "float32")
    regressor.rho.assign(rho)
    assert_close(numpy(regressor.variance()), np.log1p(np.exp(rho)) + 1e-5)


JOINS = {
    "vectors": ((3,), (5,), -1),
    "tokens": ((4, 3), (4, 5), -1),
    "map, down": ((4, 4, 3), (2, 2, 5), -1),
    "map, up": ((2, 2, 3), (4, 4, 5), -1),
    "channels first": ((3, 4, 4), (5, 2, 2), 1),
}


@pytest.mark.parametrize("join", JOINS)
def test_shapes(join):
    source, target, axis = JOINS[join]
    regressor = built(source, target, axis=axis)
    expected = list((2, *target))
    expected[axis] *= 2
    assert regressor.compute_output_shape((2, *source)) == tuple(expected)
    prediction = regressor(np.ones((2, *source), "float32"))
    assert tuple(prediction.shape) == tuple(expected)
    VariationalInformation(axis=axis).check_shapes(
        (None, *target), prediction.shape
    )


def test_channels_first_is_channels_last_transposed():
    last, first = (
        built((4, 4, 3), (2, 2, 5)),
        built((3, 4, 4), (5, 2, 2), axis=1),
    )
    first.set_weights(last.get_weights())
    (features,) = random_features((4, 4, 3))
    assert_close(
        np.moveaxis(numpy(first(np.moveaxis(features, -1, 1))), 1, -1),
        numpy(last(features)),
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_small_variances_survive_half_precision(policy):
    regressor = built((3,), (4,), dtype=policy, initial_variance=1.1e-5)
    (features,) = random_features((3,))
    prediction = regressor(ops.cast(features, policy.removeprefix("mixed_")))
    assert keras.backend.standardize_dtype(prediction.dtype) == "float32"
    assert_close(numpy(prediction)[:, 4:], np.full((6, 4), 1.1e-5))


def test_saving_in_a_model(tmp_path):
    inputs = keras.Input((2, 2, 3))
    regressor = VariationalRegressor((2, 2, 4), initial_variance=2.0)
    model = keras.Model(inputs, regressor(inputs))
    regressor.rho.assign([1.0, 2.0, 3.0, 4.0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (features,) = random_features((2, 2, 3))
    np.testing.assert_array_equal(
        numpy(loaded(features)), numpy(model(features))
    )
    assert loaded.layers[-1].get_config() == regressor.get_config()


def test_mask_passes_where_the_tokens_do():
    tokens = keras.layers.Embedding(5, 3, mask_zero=True)(
        np.array([[1, 2, 0], [3, 0, 0]])
    )
    prediction = VariationalRegressor((3, 4))(tokens)
    (teacher,) = random_features((3, 4), samples=2)
    kept = np.array([[1, 1, 0], [1, 0, 0]], "bool")
    loss = VariationalInformation()
    assert_close(
        numpy(loss(teacher, prediction)),
        numpy(loss(teacher[kept], numpy(prediction)[kept])),
    )


# --- trained ----------------------------------------------------------------


def distiller_of(regressor):
    teacher = functional_model(4, name="teacher")
    student = functional_model(2, name="student")
    transfer = kd.Transfer(
        VariationalInformation(),
        teacher="stage1",
        student="stage1",
        adapter=regressor,
    )
    distiller = kd.Distiller(teacher, student, [transfer])
    distiller.compile(
        optimizer=keras.optimizers.Adam(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return distiller


def test_fit_trains_variances_and_projections():
    regressor = VariationalRegressor()
    distiller = distiller_of(regressor)
    assert_close(numpy(regressor.variance()), np.full(4, 5.0))
    before = regressor.get_weights()
    x, y = data()
    history = distiller.fit(x, y, epochs=15, batch_size=8, verbose=0).history
    moved = [
        np.abs(new - old).max() > 1e-3
        for new, old in zip(regressor.get_weights(), before)
    ]
    assert moved == [True] * 4
    variances = numpy(regressor.variance())
    # The trap: a variance that stays what it was. Each falls towards the
    # error of its own channel.
    assert np.all(variances < 4.0)
    assert np.ptp(variances) > 1e-4
    term = history["variational_information_loss"]
    assert term[-1] < term[0] - 0.1


# --- refused ----------------------------------------------------------------


@pytest.mark.one_backend
def test_each_argument_is_in_the_config():
    text = json.dumps(
        keras.saving.serialize_keras_object(VariationalInformation(axis=1))
    )
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert copy.get_config()["axis"] == 1


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "teacher, student",
    [
        ((4, 2, 2, 3), (4, 2, 2, 3)),
        ((4, 2, 2, 3), (4, 2, 3, 6)),
        ((4, 3), (4, 2, 6)),
    ],
)
def test_shapes_that_do_not_compare(teacher, student):
    with pytest.raises(ValueError, match="Received.*VariationalRegressor"):
        VariationalInformation().check_shapes(teacher, student)
    with pytest.raises(ValueError, match="Received.*VariationalRegressor"):
        VariationalInformation()(np.ones(teacher), np.ones(student))


@pytest.mark.one_backend
def test_unknown_sizes_are_no_misfit():
    loss = VariationalInformation()
    loss.check_shapes((None, None, None, 3), (None, 2, 2, 6))
    loss.check_shapes((None, None), (None, 6))


@pytest.mark.one_backend
@pytest.mark.parametrize("variance", [0.0, 1e-5, -1.0, np.inf, np.nan])
def test_variance_that_is_none(variance):
    with pytest.raises(ValueError, match="initial_variance.*Received"):
        VariationalRegressor(initial_variance=variance)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "source, target, message",
    [
        ((2, 2, 3), None, "needs `target_shape`"),
        ((2, 2, 3), (4, 3), "same rank"),
        ((None, None, 3), (4, 4, 3), "known sizes"),
        ((2, 2, None), (2, 2, 3), "known sizes"),
    ],
)
def test_shapes_that_do_not_join(source, target, message):
    with pytest.raises(ValueError, match=message) as error:
        built(source, target)
    assert "Received: " in str(error.value)
