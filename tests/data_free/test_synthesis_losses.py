"""The losses by which samples are made, against NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import numpy

import keras_kd as kd
from keras_kd.data_free import SyntheticBatch

random = np.random.default_rng(0)
LOGITS = random.normal(size=(6, 4)).astype("float32")
STUDENT = random.normal(size=(6, 4)).astype("float32")
SAMPLES = random.normal(size=(6, 5, 4, 2)).astype("float32")
LATENTS = random.normal(size=(6, 3)).astype("float32")
TARGETS = random.dirichlet(np.ones(4), 6).astype("float32")
BATCH = SyntheticBatch(
    ops.array(SAMPLES),
    ops.array(LOGITS),
    ops.array(STUDENT),
    {"pool": ops.array(SAMPLES)},
    ops.array(LATENTS),
    ops.array(TARGETS),
)


def log_softmax(logits):
    logits = logits.astype("float64")
    largest = logits.max(-1, keepdims=True)
    sums = np.exp(logits - largest).sum(-1, keepdims=True)
    return logits - largest - np.log(sums)


def balance():
    mean = np.exp(log_softmax(LOGITS)).mean(0)
    return np.sum(mean * np.log(mean))


def diversity():
    after = [1, 2, 3, 4, 5, 0]
    apart = ((LATENTS - LATENTS[after]) ** 2).mean(1)
    unlike = np.abs(SAMPLES - SAMPLES[after]).mean((1, 2, 3))
    return np.exp(-np.mean(apart * unlike))


def variation():
    down = np.abs(np.diff(SAMPLES, axis=1)).mean()
    return down + np.abs(np.diff(SAMPLES, axis=2)).mean()


def activation():
    loss = kd.data_free.FeatureActivation(layer="pool")
    assert loss.taps(None) == ["pool"]
    return loss


free = kd.data_free
CASES = {
    "class_certainty": (
        free.ClassCertainty,
        lambda: -log_softmax(LOGITS).max(-1).mean(),
    ),
    "class_balance": (free.ClassBalance, balance),
    "feature_activation": (activation, lambda: -np.abs(SAMPLES).mean()),
    "target_classes": (
        lambda: free.TargetClasses(temperature=20.0),
        lambda: -(TARGETS * log_softmax(LOGITS / 20.0)).sum(-1).mean(),
    ),
    "disagreement": (
        lambda: free.Disagreement(kd.losses.FeatureMatching(distance="l1")),
        lambda: -np.abs(LOGITS - STUDENT).mean(),
    ),
    "latent_diversity": (free.LatentDiversity, diversity),
    "total_variation": (free.TotalVariation, variation),
    "squared_norm": (free.SquaredNorm, lambda: (SAMPLES**2).mean()),
}


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    make, expected = CASES[name]
    loss = make()
    assert loss.name == name
    np.testing.assert_allclose(
        numpy(loss(BATCH)), expected(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("name", CASES)
def test_weight_and_config(name):
    first = CASES[name][0]()
    config = {**keras.saving.serialize_keras_object(first)}
    config["config"]["weight"] = 3.0
    again = keras.saving.deserialize_keras_object(config)
    again.taps(None) if name == "feature_activation" else None
    np.testing.assert_allclose(
        numpy(again(BATCH)), 3.0 * numpy(first(BATCH)), rtol=1e-6
    )


def test_gradient_where_a_class_never_comes():
    """The logarithm of a mean probability of 0 made NaN in DAFL's code."""
    logits = np.zeros((4, 3), "float32")
    logits[:, 0] = 500.0

    def loss(logits):
        batch = SyntheticBatch(None, logits)
        return kd.data_free.ClassBalance()(batch)

    value, gradient = kd.testing.value_and_gradient(loss, logits)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    assert np.isfinite(gradient).all()


def normalized_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="first")(x)
    inner = keras.Sequential(
        [
            keras.Input((2, 2, 3)),
            layers.Flatten(),
            layers.BatchNormalization(name="second"),
            layers.Dense(3, name="head"),
        ],
        name="inner",
    )
    model = keras.Model(inputs, inner(x))
    for variable in model.non_trainable_variables:
        variable.assign(random.uniform(0.5, 2.0, variable.shape))
    return model, inner


def test_statistics_of_normalizations():
    model, inner = normalized_model()
    x = random.normal(size=(8, 4, 4, 2)).astype("float32")
    loss = kd.data_free.BatchNormMatching()
    taps = loss.taps(model)
    assert taps == ["first:input", "inner/second:input"]
    features = kd.extract_features(model, x, taps)
    value = loss(SyntheticBatch(ops.array(x), None, features=features))

    conv = numpy(model.get_layer("conv")(x))
    norm = model.get_layer("first")
    flat = numpy(norm(conv, training=False)).reshape(8, -1)
    expected = 0.0
    for layer, given, axes in (
        (norm, conv, (0, 1, 2)),
        (inner.get_layer("second"), flat, (0,)),
    ):
        mean, variance = given.mean(axes), given.var(axes)
        expected += np.linalg.norm(mean - numpy(layer.moving_mean))
        expected += np.linalg.norm(variance - numpy(layer.moving_variance))
    np.testing.assert_allclose(numpy(value), expected, rtol=1e-4)


@pytest.mark.one_backend
def test_statistics_that_agree_have_a_gradient():
    norm = layers.BatchNormalization(center=False, scale=False)
    model = keras.Sequential([keras.Input((2,)), norm])
    x = np.array([[1.0, -1.0], [3.0, 1.0]], "float32")
    norm.moving_mean.assign([2.0, 0.0])
    norm.moving_variance.assign([1.0, 1.0])
    loss = kd.data_free.BatchNormMatching()
    (tap,) = loss.taps(model)
    value, gradient = kd.testing.value_and_gradient(
        lambda x: loss(SyntheticBatch(x, None, features={tap: x})), x
    )
    np.testing.assert_allclose(value, 0.0, atol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.one_backend
def test_a_loss_of_two_teachers_knows_them_apart():
    """Each distiller compares with the statistics of its own teacher."""
    loss = kd.data_free.BatchNormMatching()
    distillers = []
    for mean in (0.0, 50.0):
        norm = layers.BatchNormalization(name="norm")
        distillers.append(
            kd.data_free.DataFreeDistiller(
                keras.Sequential([keras.Input((4,)), norm, layers.Dense(3)]),
                keras.Sequential([keras.Input((4,)), layers.Dense(3)]),
                keras.Sequential([keras.Input((2,)), layers.Dense(4)]),
                [loss],
            )
        )
        norm.moving_mean.assign(np.full(4, mean))
    distillers[0].compile("sgd")
    logs = distillers[0].fit(batch_size=8, verbose=0).history
    # The mean of the second teacher is 100 away.
    assert logs["batch_norm_matching"][0] < 50.0


class Block(layers.Layer):
    """A part whose name is that of its twin."""

    def __init__(self):
        super().__init__(name="block")
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


class Twins(layers.Layer):
    def __init__(self):
        super().__init__(name="twins")
        self.first, self.second = Block(), Block()

    def call(self, inputs, training=None):
        x = self.first(inputs, training=training)
        return self.second(x, training=training)


@pytest.mark.one_backend
def test_normalizations_of_one_path_are_refused():
    model = keras.Sequential([keras.Input((4,)), Twins(), layers.Dense(3)])
    with pytest.raises(ValueError, match="several layers at .*twins/block"):
        kd.data_free.BatchNormMatching().taps(model)


@pytest.mark.one_backend
def test_decoder_is_compared_with_latents():
    decoder = keras.Sequential(
        [keras.Input((5, 4, 2)), layers.Flatten(), layers.Dense(3)]
    )
    loss = kd.data_free.LatentReconstruction(decoder)
    found = SAMPLES.reshape(6, -1) @ numpy(decoder.layers[-1].kernel.value)
    expected = ((found - LATENTS) ** 2).mean()
    np.testing.assert_allclose(numpy(loss(BATCH).detach()), expected, rtol=1e-5)
    flat = keras.Sequential([keras.Input((5, 4, 2)), layers.Flatten()])
    with pytest.raises(ValueError, match="must output latents"):
        kd.data_free.LatentReconstruction(flat)(BATCH)


@pytest.mark.one_backend
def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="loss of `keras_kd.losses`"):
        kd.data_free.Disagreement("l1")
    with pytest.raises(ValueError, match="built Keras model"):
        kd.data_free.LatentReconstruction(layers.Dense(3))
    with pytest.raises(ValueError, match="neighboring pixels"):
        kd.data_free.TotalVariation()(SyntheticBatch(ops.ones((2, 3)), None))
    with pytest.raises(ValueError, match="`weight` must be"):
        kd.data_free.ClassBalance(-1.0)
    with pytest.raises(ValueError, match="which has none"):
        kd.data_free.BatchNormMatching().taps(
            keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        )
    with pytest.raises(ValueError, match="logits of the teacher"):
        kd.data_free.FeatureActivation().taps(
            keras.Sequential(
                [keras.Input((8,)), layers.Dense(8), layers.Reshape((2, 4))]
            )
        )
