"""Paraphraser and Translator: what they compute, train, and save."""

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.layers import Paraphraser
from keras_kd.layers import Translator
from keras_kd.testing import assert_close


def maps(*shape, samples=2):
    random = np.random.default_rng(0)
    return random.normal(size=(samples, *shape)).astype("float32")


def convolved(image, layer):
    """One 3x3 convolution and its leaky ReLU, position by position."""
    kernel, bias = (numpy(weight.value) for weight in layer.weights)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    result = np.zeros((*image.shape[:3], kernel.shape[-1]))
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            patch = padded[:, row : row + 3, column : column + 3]
            result[:, row, column] = np.einsum("bhwc,hwcd->bd", patch, kernel)
    result += bias
    return np.where(result > 0, result, 0.1 * result)


def with_biases(layer):
    for number, weight in enumerate(layer.trainable_variables):
        if len(weight.shape) == 1:
            weight.assign(np.linspace(-0.3, 0.4 + number, weight.shape[0]))
    return layer


def test_factors_and_reconstruction_against_numpy():
    layer = Paraphraser(0.5)
    layer.build((None, 3, 2, 4))
    with_biases(layer)
    features = maps(3, 2, 4)
    expected = features.astype("float64")
    for convolution in layer.encoder:
        expected = convolved(expected, convolution)
    assert expected.shape == (2, 3, 2, 2)
    assert_close(numpy(layer(features)), expected)
    for convolution in layer.decoder:
        expected = convolved(expected, convolution)
    assert_close(numpy(layer(features, reconstruct=True)), expected)
    assert [tuple(each.kernel.shape) for each in layer.encoder] == [
        (3, 3, 4, 4),
        (3, 3, 4, 2),
        (3, 3, 2, 2),
    ]
    assert [tuple(each.kernel.shape) for each in layer.decoder] == [
        (3, 3, 2, 2),
        (3, 3, 2, 4),
        (3, 3, 4, 4),
    ]


@pytest.mark.parametrize(
    "rate, channels", [(0.5, 3), (0.75, 4), (0.8, 5), (2.0, 12), (0.01, 1)]
)
def test_rate_is_the_share_of_channels(rate, channels):
    layer = Paraphraser(rate)
    expected = (None, 4, 4, channels)
    assert layer.compute_output_shape((None, 4, 4, 6)) == expected
    assert tuple(layer(maps(4, 4, 6)).shape[1:]) == expected[1:]
    inputs = keras.Input((4, 4, 6))
    assert tuple(layer(inputs).shape) == expected
    assert tuple(layer(inputs, reconstruct=True).shape) == (None, 4, 4, 6)


def test_channels_first_is_channels_last_transposed():
    features = maps(4, 5, 6)
    first = np.moveaxis(features, -1, 1)
    for make in (
        lambda data_format, _: Paraphraser(data_format=data_format),
        lambda data_format, target: Translator(target, data_format=data_format),
    ):
        one = make("channels_first", (3, 2, 4))
        other = make("channels_last", (2, 4, 3))
        found = one(first)
        other(features)
        other.set_weights(one.get_weights())
        assert_close(np.moveaxis(numpy(found), 1, -1), numpy(other(features)))
        assert one.compute_output_shape(first.shape) == tuple(found.shape)


@pytest.mark.parametrize("size", [(4, 4), (8, 6), (2, 3)])
def test_translator_brings_a_map_to_the_factors(size):
    layer = Translator((4, 4, 3))
    adapted = layer(maps(*size, 5))
    assert tuple(adapted.shape) == (2, 4, 4, 3)
    assert layer.compute_output_shape((None, *size, 5)) == (None, 4, 4, 3)
    assert [tuple(each.shape) for each in layer.trainable_variables[::2]] == [
        (3, 3, 5, 5),
        (3, 3, 5, 3),
        (3, 3, 3, 3),
    ]


def test_translation_against_numpy():
    layer = Translator((3, 4, 2))
    features = maps(3, 8, 4)
    layer.build(features.shape)
    with_biases(layer)
    expected = features.astype("float64").reshape(2, 3, 4, 2, 4).mean(axis=3)
    for convolution in layer.encoder:
        expected = convolved(expected, convolution)
    assert_close(numpy(layer(features)), expected)


def paraphrased(teacher, x):
    """A paraphraser of stage1, as its documentation trains it."""
    stage = keras.Model(teacher.input, teacher.get_layer("stage1").output)
    features = stage.predict(x, verbose=0)
    inputs = keras.Input(features.shape[1:])
    paraphraser = Paraphraser()
    restored = paraphraser(inputs, reconstruct=True)
    autoencoder = keras.Model(inputs, restored)
    autoencoder.compile(keras.optimizers.Adam(0.02), "mae")
    losses = autoencoder.fit(
        features, features, batch_size=8, epochs=20, verbose=0
    ).history["loss"]
    assert len(paraphraser.trainable_variables) == 12
    return paraphraser, losses


def weights(layer):
    return [numpy(weight.value).copy() for weight in layer.weights]


def test_the_paraphraser_is_trained_first_and_the_student_after_it(tmp_path):
    keras.utils.set_random_seed(0)
    x, y = data()
    teacher = functional_model(8, name="teacher")
    paraphraser, losses = paraphrased(teacher, x)
    assert losses[-1] < 0.9 * losses[0]
    paraphraser.trainable = False
    kept = weights(paraphraser)
    translator = Translator()
    distiller = kd.Distiller(
        teacher,
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.FactorTransfer(),
                teacher="stage1",
                student="stage1",
                teacher_adapter=paraphraser,
                adapter=translator,
                weight=500.0,
            )
        ],
    )
    transfer = distiller.transfers[0]
    assert translator.target_shape == (4, 4, 4)
    assert len(transfer.trainable_variables) == 6
    paths = [weight.path for weight in distiller.weights]
    assert len(set(paths)) == len(paths)
    before = weights(translator)
    # Weight decay, which would move what is in the optimizer's hands.
    distiller.compile(
        keras.optimizers.AdamW(0.01, weight_decay=0.1), cross_entropy()
    )
    logs = distiller.fit(x, y, batch_size=8, epochs=4, verbose=0).history
    terms = logs["factor_transfer_loss"]
    assert terms[-1] < 0.9 * terms[0]
    for old, new in zip(before, weights(translator)):
        assert np.abs(new - old).max() > 1e-3
    for old, new in zip(kept, weights(paraphraser)):
        np.testing.assert_array_equal(old, new)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    copy = loaded.transfers[0].teacher_adapters[0]
    assert not copy.trainable
    assert len(loaded.transfers[0].trainable_variables) == 6
    for old, new in zip(kept, weights(copy)):
        np.testing.assert_array_equal(old, new)
    loaded.set_teacher(teacher)
    # The optimizer's state fits what is left to train, or loading had failed.
    loaded.fit(x, y, batch_size=8, verbose=0)
    for old, new in zip(kept, weights(copy)):
        np.testing.assert_array_equal(old, new)


def test_a_paraphraser_that_is_not_frozen_is_refused():
    transfer = kd.Transfer(
        kd.losses.FactorTransfer(),
        teacher_adapter=Paraphraser(),
        adapter=Translator(),
    )
    transfer.match([(None, 4, 4, 6)], [(None, 8, 8, 2)])
    features = {"": maps(4, 4, 6)}, {"": maps(8, 8, 2)}
    transfer.term(*features, None, training=False)
    with pytest.raises(ValueError, match="frozen.*Received: .*trainable=True"):
        transfer.term(*features, None, training=True)
    transfer.teacher_adapters[0].trainable = False
    assert len(transfer.trainable_variables) == 6
    term = transfer.term(*features, None, training=True)
    assert 0.0 < float(numpy(term)) < 1.0


@pytest.mark.parametrize(
    "make, arguments",
    [
        (lambda: Paraphraser(0.75), {}),
        (lambda: Paraphraser(0.75), {"reconstruct": True}),
        (lambda: Translator((2, 2, 3)), {}),
    ],
    ids=["paraphraser", "auto-encoder", "translator"],
)
def test_saved_and_loaded(make, arguments, tmp_path):
    inputs = keras.Input((4, 4, 4))
    model = keras.Model(inputs, make()(inputs, **arguments))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    features = maps(4, 4, 4)
    np.testing.assert_array_equal(numpy(model(features)), numpy(copy(features)))
    first, second = (each.layers[-1].get_config() for each in (model, copy))
    assert first == second
    assert len(copy.weights) == len(model.weights)


def test_half_precision_reaches_the_convolutions():
    for layer in (
        Paraphraser(dtype="mixed_float16"),
        Translator((4, 4, 2), dtype="mixed_float16"),
    ):
        factors = layer(100.0 * maps(4, 4, 4))
        assert keras.backend.standardize_dtype(factors.dtype) == "float16"
        assert np.isfinite(numpy(factors)).all()
        assert {each.dtype for each in layer.variables} == {"float32"}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Paraphraser(0.0), "`rate` must.*rate=0.0"),
        (lambda: Paraphraser(float("nan")), "`rate` must.*rate=nan"),
        (lambda: Paraphraser().build((None, 4, 6)), r"maps.*\(4, 6\)"),
        (
            lambda: Paraphraser().build((None, 4, 4, None)),
            r"maps.*\(4, 4, None\)",
        ),
        (lambda: Translator((4, 6)).build((None, 4, 4, 6)), r"maps.*\(4, 6\)"),
        (lambda: Translator().build((None, 4, 4, 6)), "target_shape=None"),
        (
            lambda: Translator((4, 4, 6)).build((None, None, 4, 6)),
            "known sizes",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "Received" in str(error.value)
