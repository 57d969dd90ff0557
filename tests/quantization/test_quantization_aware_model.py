"""Fake quantization: values, gradients, layers, folding, training, saving."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import SubclassedModel
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.quantization import QuantizationAwareModel


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


IMAGES = normal(40, 8, 8, 2)
KERNEL = np.array([[0.5, -1.0], [0.25, 0.3], [-0.4, 0.7]], "float32")
BIAS = np.array([0.1, -0.2], "float32")


def trained(model):
    """Weights that a trained model could have, the same on each backend."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if len(weight.shape) > 1:
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(rng.normal(size=weight.shape) / fan_in**0.5)
        else:
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def dense_model():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")])
    model.set_weights([KERNEL, BIAS])
    return model


class Grid:
    """The formula of fake quantization, in NumPy."""

    def __init__(self, low, high, levels=255):
        self.scale = (high - low) / levels
        zero = np.round(-low / self.scale)
        self.low, self.high = -zero * self.scale, (levels - zero) * self.scale

    def round(self, values):
        clipped = np.clip(values, self.low, self.high)
        return np.round(clipped / self.scale) * self.scale

    def inside(self, values):
        return (values >= self.low) & (values <= self.high)


class TestFormula:
    """One Dense layer, against NumPy."""

    samples = normal(20, 3, seed=2)
    # Some of them are clipped, as the range is that of the samples.
    batch = 3 * normal(30, 3, seed=3)

    def grids(self, model):
        x = Grid(*model.ranges[":input"])
        limit = np.float64(numpy(model.weight_limits[0].limit))
        limit = np.minimum(limit, np.abs(KERNEL).max(axis=0))
        return x, Grid(-limit, limit, 254), Grid(*model.ranges["dense"])

    def test_values(self):
        model = QuantizationAwareModel(dense_model(), self.samples)
        low, high = self.samples.min(), self.samples.max()
        np.testing.assert_allclose(model.ranges[":input"], (low, high), 1e-6)
        of_x, of_kernel, of_y = self.grids(model)
        y = of_x.round(self.batch) @ of_kernel.round(KERNEL) + BIAS
        found = numpy(model(self.batch))
        # A value in the middle of two steps may go to either.
        off = np.abs(found - of_y.round(y))
        assert off.max() <= 1.01 * of_y.scale and np.mean(off > 1e-5) < 0.05

    def test_gradients(self):
        model = QuantizationAwareModel(dense_model(), self.samples)
        of_x, of_kernel, of_y = self.grids(model)
        x, kernel = of_x.round(self.batch), of_kernel.round(KERNEL)
        y = x @ kernel + BIAS
        # The loss is the sum of the outputs.
        dy = 1.0 * of_y.inside(y)
        dx = dy @ kernel.T
        expected = {
            "kernel": (x.T @ dy) * of_kernel.inside(KERNEL),
            "bias": dy.sum(axis=0),
            "range_of_input/minimum": dx[self.batch < of_x.low].sum(),
            "range_of_input/maximum": dx[self.batch > of_x.high].sum(),
            "range_of_dense/minimum": np.sum(y < of_y.low),
            "range_of_dense/maximum": np.sum(y > of_y.high),
        }
        assert all(np.any(each) for each in expected.values())
        before = {v.path: numpy(v.value) for v in model.trainable_variables}
        model.compile(
            keras.optimizers.SGD(1.0), lambda _, y: ops.sum(y, axis=-1)
        )
        model.train_on_batch(self.batch, np.zeros((30, 2)))
        for variable in model.trainable_variables:
            name = variable.path.split("dense/")[-1]
            name = variable.path if "range" in variable.path else name
            if name in expected:
                moved = before[variable.path] - numpy(variable.value)
                np.testing.assert_allclose(
                    moved * 30, expected[name], rtol=1e-3, atol=1e-3
                )

    def test_moving_averages(self):
        model = QuantizationAwareModel(
            dense_model(), self.samples, ranges="moving_average"
        )
        before = np.array(model.ranges[":input"])
        model.compile("sgd", "mse")
        model.train_on_batch(self.batch, np.zeros((30, 2)))
        now = self.batch.min(), self.batch.max()
        np.testing.assert_allclose(
            model.ranges[":input"], 0.99 * before + 0.01 * np.array(now), 1e-5
        )
        before = model.ranges
        model.evaluate(self.samples, np.zeros((20, 2)), verbose=0)
        assert model.ranges == before
        assert len(model.trainable_variables) == 2


def one_layer(layer, shape, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, layer(inputs))


LAYERS = {
    "dense": (layers.Dense(5), (4,), 1),
    "einsum": (
        layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
        (4, 6),
        1,
    ),
    "einsum_back": (
        layers.EinsumDense("abcd,cde->abe", (None, 3)),
        (4, 2, 6),
        1,
    ),
    "conv1d": (layers.Conv1D(4, 3), (9, 2), 1),
    "conv2d": (layers.Conv2D(4, 3, groups=2), (6, 6, 4), 1),
    "conv3d": (layers.Conv3D(3, 2), (4, 4, 4, 2), 1),
    "transposed": (layers.Conv2DTranspose(5, 3), (6, 6, 2), 1),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 3), 1),
    "separable": (layers.SeparableConv2D(4, 3), (6, 6, 3), 2),
    "attention": (layers.MultiHeadAttention(2, 3), (5, 4), 4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_channel_has_its_grid(name):
    """An impulse in a channel's weights moves that channel's grid alone."""
    layer, shape, count = LAYERS[name]
    inputs = keras.Input(shape)
    outputs = layer(*[inputs] * (2 if name == "attention" else 1))
    model = keras.Model(inputs, outputs)
    x = normal(6, *shape)
    four = QuantizationAwareModel(model, x, weight_bits=4)
    assert len(four.weight_limits) == count
    kernels = [w for w in four.float_model().weights if len(w.shape) > 1]
    kernels = [w for w in kernels if "bias" not in w.path]
    for kernel, limit in zip(kernels, four.weight_limits):
        values = numpy(kernel.value)
        channels = [values.shape[axis] for axis in limit.axes]
        others = [a for a in range(values.ndim) if a not in limit.axes]
        table = values.transpose(*others, *limit.axes)
        table = table.reshape(-1, np.prod(channels))
        top = np.abs(table).max(axis=0)
        # Fifteen steps, the largest at the end, and not the same for all.
        np.testing.assert_allclose(
            table * 7 / top, np.round(table * 7 / top), atol=1e-4
        )
        assert len(np.unique(top)) == len(top) > 1
    # With many bits it is the float model.
    sixteen = QuantizationAwareModel(
        model, x, weight_bits=16, activation_bits=16
    )
    np.testing.assert_allclose(numpy(sixteen(x)), numpy(model(x)), atol=2e-3)


def test_embedding_has_one_grid():
    model = one_layer(layers.Embedding(7, 3), (4,), "int32")
    ids = np.arange(28).reshape(7, 4) % 7
    quantized = QuantizationAwareModel(model, ids, weight_bits=4)
    assert list(quantized.ranges) == ["embedding"] or len(quantized.ranges) == 1
    table = numpy(quantized.float_model().weights[0].value)
    top = np.abs(table).max()
    np.testing.assert_allclose(
        table * 7 / top, np.round(table * 7 / top), atol=1e-5
    )


FOLDED = {
    "conv": layers.Conv2D(4, 3, use_bias=False),
    "conv_with_bias": layers.Conv2D(4, 3, bias_initializer="ones"),
    "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2),
    "separable": layers.SeparableConv2D(4, 3),
    "transposed": layers.Conv2DTranspose(4, 3),
    "dense": layers.Dense(4),
}


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("own", [True, False], ids=["scaled", "plain"])
def test_batch_norm_is_folded(name, own):
    norm = layers.BatchNormalization(center=own, scale=own)
    stack = [keras.Input((8, 8, 2)), FOLDED[name], norm, layers.ReLU()]
    config = keras.Sequential(stack).get_config()
    model = trained(keras.Sequential.from_config(config))
    quantized = QuantizationAwareModel(
        model, IMAGES, weight_bits=16, activation_bits=16
    )
    expected = numpy(model(IMAGES))
    np.testing.assert_allclose(numpy(quantized(IMAGES)), expected, atol=2e-3)
    plain = quantized.float_model()
    np.testing.assert_allclose(numpy(plain(IMAGES)), expected, atol=2e-3)
    # Rounded once, after the ReLU.
    assert len(quantized.ranges) == 2
    # What is trained has no statistics of batches.
    quantized(10 + IMAGES, training=True)
    np.testing.assert_allclose(numpy(quantized(IMAGES)), expected, atol=2e-3)


def test_batch_norm_elsewhere_is_not_folded():
    inputs = keras.Input((8, 8, 2))
    conv = layers.Conv2D(2, 1, name="conv")(inputs)
    norm = layers.BatchNormalization(name="norm")(conv)
    model = trained(keras.Model(inputs, layers.Add(name="sum")([conv, norm])))
    quantized = QuantizationAwareModel(model, IMAGES)
    assert list(quantized.ranges) == [":input", "conv", "norm", "sum"]
    step = np.ptp(quantized.ranges["sum"]) / 255
    off = np.abs(numpy(quantized(IMAGES)) - numpy(model(IMAGES)))
    assert off.max() < 4 * step


MODELS = {
    "functional": lambda: functional_model(4, name="functional"),
    "subclassed": lambda: SubclassedModel(4, name="subclassed"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_distilled_by_the_float_model(kind, tmp_path):
    keras.utils.set_random_seed(0)
    teacher = MODELS[kind]()
    teacher(IMAGES)
    before = [numpy(w.value) for w in trained(teacher).weights]
    student = QuantizationAwareModel(teacher, IMAGES, weight_bits=3)
    distiller = kd.Distiller(
        teacher, student, kd.Transfer(kd.losses.LogitMatching())
    )
    distiller.compile(keras.optimizers.Adam(0.001))
    run = distiller.fit(IMAGES, epochs=12, batch_size=20, verbose=0)
    assert run.history["loss"][-1] < 0.5 * run.history["loss"][0]
    found = numpy(student(IMAGES))
    for weight, value in zip(teacher.weights, before):
        np.testing.assert_array_equal(numpy(weight.value), value)
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(numpy(loaded(IMAGES)), found)
    assert loaded.ranges == student.ranges


@pytest.mark.parametrize("kind", MODELS)
def test_what_exporters_are_given(kind):
    model = MODELS[kind]()
    model(IMAGES)
    trained(model)
    quantized = QuantizationAwareModel(model, IMAGES[:8], weight_bits=4)
    expected = numpy(quantized(IMAGES))
    rounded = quantized.with_rounded_weights(activation_bits=8)
    assert rounded.ranges == quantized.ranges
    np.testing.assert_allclose(numpy(rounded(IMAGES)), expected, atol=1e-5)
    clipped = quantized.with_rounded_weights(activation_bits=None)
    assert clipped.ranges == quantized.ranges
    low, high = quantized.ranges["head"]
    found = numpy(clipped(100 * IMAGES))
    assert low - 1e-5 <= found.min() and found.max() <= high + 1e-5
    off = np.abs(numpy(clipped(IMAGES)) - expected)
    assert 0 < off.max() < 5 * (high - low) / 255


def test_operations_and_shared_layers():
    inputs = {
        "ids": keras.Input((5,), dtype="int32", name="ids"),
        "x": keras.Input((5, 4), name="x"),
    }
    table, head = layers.Embedding(9, 4, name="table"), layers.Dense(4)
    x = table(inputs["ids"]) * inputs["x"]
    x = ops.relu(head(head(x)))
    model = keras.Model(inputs, {"y": ops.mean(x, axis=1)})
    data = {
        "ids": np.arange(30).reshape(6, 5) % 9,
        "x": normal(6, 5, 4),
    }
    quantized = QuantizationAwareModel(model, data)
    operations = [name.rstrip("0123456789_") for name in quantized.ranges]
    assert operations == [
        ":input[1]",
        "table",
        "multiply",
        "dense",
        "relu",
        "mean",
    ]
    found = numpy(quantized(data)["y"])
    off = np.abs(found - numpy(model(data)["y"])).max()
    assert off < 0.05 * np.abs(found).max()


def test_masks_have_no_range(tmp_path):
    """A range up to where a mask reaches would leave one step to all else."""
    inputs = {
        "x": keras.Input((4, 3), name="x"),
        "mask": keras.Input((4,), name="mask"),
    }
    scores = layers.Dense(1)(inputs["x"])[..., 0]
    masked = ops.add(scores, (1.0 - inputs["mask"]) * -1e9)
    weights = layers.Softmax(name="weights")(masked)
    model = keras.Model(inputs, layers.Dense(2)(weights))
    data = {
        "x": normal(20, 4, 3),
        "mask": np.tile(np.array([1, 1, 1, 0], "float32"), (20, 1)),
    }
    quantized = QuantizationAwareModel(model, data)
    reach = [max(map(abs, ends)) for ends in quantized.ranges.values()]
    assert max(reach) < 10 and "add" not in quantized.ranges
    found, expected = numpy(quantized(data)), numpy(model(data))
    np.testing.assert_allclose(found, expected, atol=0.03)
    quantized.compile("sgd", "mse")
    quantized.fit(data, np.zeros((20, 2)), verbose=0)  # Without a warning.
    found = numpy(quantized(data))
    rounded = quantized.with_rounded_weights(activation_bits=8)
    np.testing.assert_allclose(numpy(rounded(data)), found, atol=1e-5)
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.models.load_model(tmp_path / "quantized.keras")
    np.testing.assert_array_equal(numpy(loaded(data)), found)
    assert loaded.ranges == quantized.ranges


class Doubled(keras.Operation):
    """An operation that can't be made again, so that copies share it."""

    def call(self, x):
        return 2.0 * x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        raise NotImplementedError


def test_shared_operations_are_not_changed():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Doubled()(layers.Dense(2)(inputs)))
    x = normal(10, 3)
    before = numpy(model(x))
    QuantizationAwareModel(model, x[:2] / 4, weight_bits=2)
    np.testing.assert_array_equal(numpy(model(x)), before)


@keras.saving.register_keras_serializable("keras_kd_tests")
class AroundNorm(keras.Model):
    """Its code adds what the normalization is given."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.norm = layers.BatchNormalization()

    def call(self, inputs, training=None):
        x = self.dense(inputs)
        return x + self.norm(x, training=training)

    def get_config(self):
        return {"name": self.name}


def test_folding_that_would_change_a_model_is_refused():
    model, x = AroundNorm(), normal(10, 4)
    model(x)
    trained(model)
    with pytest.raises(ValueError, match="a layer such as `keras.layers.Add`"):
        QuantizationAwareModel(model, x)


def test_taps_find_the_layers_of_a_quantized_student():
    model = functional_model(4, name="float")
    student = QuantizationAwareModel(model, IMAGES)
    tap = "model/stage2"
    found = kd.extract_features(student, IMAGES, tap)[tap]
    low, high = student.ranges["stage2"]
    steps = numpy(found) / ((high - low) / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-2)


class Turned(layers.Layer):
    """A layer that only the code of its model can make again."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix)

    def get_config(self):
        return {"angle": 1.0}


@keras.saving.register_keras_serializable("keras_kd_tests")
class OfAClass(keras.Model):
    """Functional, as KerasHub's backbones are: its class makes the layers."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((3,))
        norm = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0] * 3)
        turned = Turned(np.eye(3, k=1, dtype="float32"))(norm(inputs))
        super().__init__(inputs, layers.Dense(units)(turned), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


def test_a_class_makes_its_copy():
    model = OfAClass(4)
    model.layers[-1].trainable = False
    x = normal(20, 3)
    quantized = QuantizationAwareModel(model, x)
    np.testing.assert_allclose(numpy(quantized(x)), numpy(model(x)), atol=0.03)
    plain = quantized.float_model()
    assert isinstance(plain, OfAClass) and plain.name == model.name
    assert not plain.layers[-1].trainable
    assert not quantized.model.layers[-1].trainable


def test_mixed_precision():
    model = functional_model(4, name="model")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = functional_model(4, name="model")
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(model.get_weights())
    student = QuantizationAwareModel(half, IMAGES)
    student.compile("sgd", "mse")
    student.fit(IMAGES, np.zeros((40, 3)), verbose=0)
    assert np.isfinite(numpy(ops.cast(student(IMAGES), "float32"))).all()
    assert all(w.dtype == "float32" for w in student.trainable_variables)


class WithoutConfig(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


def built_without_config():
    model = WithoutConfig(2)
    model(np.zeros((1, 3)))
    return model


def with_nan():
    model = dense_model()
    model.set_weights([KERNEL * np.nan, BIAS])
    return model


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: WithoutConfig(2), {}, "built and trained as"),
        (lambda: dense_model, {}, "must be a Keras model"),
        (built_without_config, {}, "Give each class a `get_config`"),
        (with_nan, {}, "'range_of_dense' has a value that is NaN"),
        (dense_model, {"weight_bits": 1}, "`weight_bits`"),
        (dense_model, {"activation_bits": 32}, "`activation_bits`"),
        (dense_model, {"ranges": "fixed"}, "'learned', 'moving_average'"),
        (
            lambda: QuantizationAwareModel(dense_model(), np.zeros((2, 3))),
            {},
            "quantized already",
        ),
        (
            lambda: keras.Sequential([keras.Input((3,)), layers.ReLU()]),
            {},
            "must have a layer with weights",
        ),
    ],
)
def test_errors(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantizationAwareModel(make(), np.ones((4, 3), "float32"), **arguments)
