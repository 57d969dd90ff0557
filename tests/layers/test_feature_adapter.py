"""FeatureAdapter: every row of its table, against NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from resizing import resized
from support import BACKEND
from support import numpy

from keras_kd.layers import FeatureAdapter

# student's shape, teacher's shape, without the batch
JOINS = {
    "map, down": ((8, 8, 3), (4, 2, 3)),
    "map, up": ((2, 3, 3), (4, 6, 3)),
    "map, down and up": ((8, 2, 3), (3, 5, 3)),
    "map, more channels": ((4, 4, 3), (4, 4, 7)),
    "map, fewer channels": ((4, 4, 7), (4, 4, 3)),
    "map, down and more channels": ((8, 8, 3), (4, 4, 7)),
    "map, up and fewer channels": ((2, 2, 7), (5, 5, 3)),
    "tokens, down": ((9, 3), (4, 3)),
    "tokens, up and more channels": ((4, 3), (9, 7)),
    "tokens, more channels": ((9, 3), (9, 7)),
    "map to a square of tokens": ((8, 6, 3), (16, 7)),
    "map to as many tokens": ((4, 4, 3), (16, 3)),
    "map to tokens along the row": ((4, 3, 3), (17, 7)),
    "tokens to map": ((16, 3), (4, 4, 7)),
    "tokens to larger map": ((16, 3), (8, 8, 3)),
    "class token left out": ((17, 3), (4, 4, 7)),
    "two class tokens left out": ((18, 3), (4, 4, 3)),
    "map to vector": ((4, 4, 3), (7,)),
    "map to vector of as many": ((4, 4, 3), (3,)),
    "tokens to vector": ((9, 3), (7,)),
    "vector to vector": ((3,), (7,)),
    "vector to map": ((3,), (4, 2, 7)),
    "vector to map of as many": ((3,), (4, 2, 3)),
    "vector to tokens": ((3,), (9, 7)),
    "volume, down": ((4, 4, 4, 3), (2, 4, 2, 7)),
    "volume to vector": ((4, 4, 4, 3), (7,)),
}
every_join = pytest.mark.parametrize("join", JOINS)
projecting_joins = pytest.mark.parametrize(
    "join", [name for name, (s, t) in JOINS.items() if s[-1] != t[-1]]
)
joins_of_maps = pytest.mark.parametrize(
    "join",
    [name for name, shapes in JOINS.items() if max(map(len, shapes)) > 2],
)


def features(shape, samples=2):
    random = np.random.default_rng(len(shape))
    return random.normal(size=(samples, *shape)).astype("float32")


def in_positions(array, positions):
    """The table's "resize", from `(batch, ..., channels)`."""
    batch, channels = array.shape[0], array.shape[-1]
    old = array.shape[1:-1]
    if not old:
        array = array.reshape(batch, *[1] * len(positions), channels)
        for axis, size in enumerate(positions, start=1):
            array = array.repeat(size, axis)
        return array
    if not positions:
        return array.reshape(batch, -1, channels).mean(axis=1)
    if len(old) == 1 and len(positions) == 2:
        side = math.isqrt(old[0])
        array = array[:, old[0] - side**2 :]
        array = array.reshape(batch, side, side, channels)
    if len(old) == 2 and len(positions) == 1:
        side = math.isqrt(positions[0])
        if side**2 == positions[0]:
            array = resized(resized(array, 1, side), 2, side)
        array = array.reshape(batch, -1, channels)
    for axis, size in enumerate(positions, start=1):
        array = resized(array, axis, size)
    return array


def built(source, target, **kwargs):
    adapter = FeatureAdapter(target, **kwargs)
    adapter.build((None, *source))
    return adapter


def expected_of(adapter, inputs, target):
    expected = in_positions(inputs.astype("float64"), target[:-1])
    if adapter.projection is not None:
        kernel, bias = adapter.get_weights()
        expected = expected @ kernel + bias
    return expected


def give_bias(adapter):
    if adapter.projection is not None:
        bias = adapter.projection.bias
        bias.assign(np.linspace(-1.0, 1.0, bias.shape[0]))


@every_join
def test_values(join):
    source, target = JOINS[join]
    adapter = built(source, target)
    give_bias(adapter)
    inputs = features(source)
    adapted = numpy(adapter(inputs))
    assert adapted.shape == (2, *target)
    np.testing.assert_allclose(
        adapted, expected_of(adapter, inputs, target), atol=2e-6
    )


@pytest.mark.one_backend
@every_join
def test_weights_only_where_channels_differ(join):
    source, target = JOINS[join]
    adapter = built(source, target)
    if source[-1] == target[-1]:
        assert adapter.weights == []
    else:
        shapes = [tuple(weight.shape) for weight in adapter.trainable_weights]
        assert shapes == [(source[-1], target[-1]), (target[-1],)]


@every_join
def test_shape_is_known_without_data(join):
    source, target = JOINS[join]
    adapter = built(source, target)
    assert adapter.compute_output_shape((5, *source)) == (5, *target)
    outputs = adapter(keras.Input(source))
    assert tuple(outputs.shape) == (None, *target)


@joins_of_maps
def test_channels_first(join):
    source, target = JOINS[join]

    def first(shape):
        return (shape[-1], *shape[:-1]) if len(shape) > 2 else shape

    adapter = built(source, target)
    adapter_first = built(
        first(source), first(target), data_format="channels_first"
    )
    adapter_first.set_weights(adapter.get_weights())
    inputs = features(source)
    inputs_first = np.moveaxis(inputs, -1, 1) if len(source) > 2 else inputs
    expected = numpy(adapter(inputs))
    expected = np.moveaxis(expected, -1, 1) if len(target) > 2 else expected
    adapted = numpy(adapter_first(inputs_first))
    assert adapted.shape == (2, *first(target))
    np.testing.assert_allclose(adapted, expected, atol=1e-6)


@projecting_joins
def test_training_reaches_the_projection(join):
    source, target = JOINS[join]
    model = keras.Sequential([keras.Input(source), FeatureAdapter(target)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    before = model.get_weights()
    model.train_on_batch(features(source), features(target))
    for old, new in zip(before, model.get_weights()):
        assert np.abs(new - old).max() > 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "join",
    ["map, down and more channels", "class token left out", "map to vector"],
)
def test_mixed_precision(join, policy):
    source, target = JOINS[join]
    adapter = built(source, target, dtype=policy)
    exact = built(source, target)
    exact.set_weights(adapter.get_weights())
    inputs = features(source)
    adapted = adapter(inputs)
    half = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(adapted.dtype) == half
    assert {weight.dtype for weight in adapter.weights} == {"float32"}
    np.testing.assert_allclose(
        numpy(ops.cast(adapted, "float32")),
        numpy(exact(inputs)),
        # A few roundings of numbers of size 1, at 10 or 7 bits.
        atol=2e-2 if half == "float16" else 1e-1,
    )


@every_join
def test_saving_in_a_model(join, tmp_path):
    source, target = JOINS[join]
    inputs = keras.Input(source)
    model = keras.Model(inputs, FeatureAdapter(target)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].target_shape == target
    x = features(source)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


@pytest.mark.one_backend
def test_config():
    config = FeatureAdapter(
        (3, 4, 4), data_format="channels_first"
    ).get_config()
    copy = FeatureAdapter.from_config(config)
    assert copy.get_config() == config
    assert (copy.target_shape, copy.data_format) == (
        (3, 4, 4),
        "channels_first",
    )
    assert FeatureAdapter().data_format == keras.config.image_data_format()


@pytest.mark.parametrize(
    "source, target, sizes",
    [
        ((None, None, 3), (None, None, 7), (4, 6)),
        ((None, 3), (None, 7), (9,)),
        ((None, None, 3), (None, None, 3), (4, 6)),
        ((None, None, 3), (7,), (4, 6)),
        ((None, 3), (7,), (9,)),
    ],
)
def test_sizes_that_are_open_on_both_sides(source, target, sizes):
    adapter = built(source, target)
    inputs = features((*sizes, source[-1]))
    adapted = numpy(adapter(inputs))
    positions = sizes if len(target) > 1 else ()
    expected = expected_of(adapter, inputs, (*positions, target[-1]))
    np.testing.assert_allclose(adapted, expected, atol=1e-6)
    symbolic = adapter(keras.KerasTensor((None, *source)))
    assert tuple(symbolic.shape) == (None, *target)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "source, target",
    [
        ((None, None, 3), (4, 4, 3)),  # resize from an open size
        ((4, 4, 3), (None, None, 7)),  # ... or to one
        ((None, 3), (4, 4, 3)),
        ((4, 4, 3), (None, 7)),
        ((3,), (None, 7)),
        ((3,), (None, None, 7)),
        ((4, 4, None), (4, 4, 7)),  # open channels
        ((4, 4, 3), (4, 4, None)),
        ((35, 3), (4, 4, 7)),  # 10 more than a square: no class tokens
        ((3, 3), (4, 4, 7)),
        ((4, 4, 4, 3), (4, 4, 7)),  # volume and map
        ((4, 4, 3), (4, 4, 4, 7)),
        ((16, 3), (4, 4, 4, 7)),
        ((2, 2, 2, 2, 3), (2, 2, 2, 2, 7)),
    ],
)
def test_shapes_that_do_not_join(source, target):
    with pytest.raises(ValueError, match="FeatureAdapter can't.*Received: "):
        built(source, target)


def test_target_must_be_known_when_built():
    with pytest.raises(ValueError, match="Received: target_shape=None"):
        FeatureAdapter()(features((4, 4, 3)))


class MaskReader(keras.layers.Layer):
    """Keeps the mask that its inputs come with."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        self.mask = mask
        return inputs


def test_mask_goes_on_where_tokens_stay():
    tokens = keras.layers.Embedding(5, 3, mask_zero=True)(np.array([[1, 2, 0]]))
    reader = MaskReader()
    reader(FeatureAdapter((3, 7))(tokens))
    np.testing.assert_array_equal(numpy(reader.mask), [[True, True, False]])
    reader(FeatureAdapter((2, 7))(tokens))
    assert reader.mask is None


@pytest.mark.skipif(BACKEND == "torch", reason="Keras runs PyTorch eagerly")
def test_compiled_with_an_open_batch():
    source, target = JOINS["class token left out"]
    model = keras.Sequential([keras.Input(source), FeatureAdapter(target)])
    inputs = features(source, samples=5)
    np.testing.assert_allclose(
        model.predict(inputs, batch_size=2, verbose=0),
        numpy(model(inputs)),
        atol=1e-5,
    )
