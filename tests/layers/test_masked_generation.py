"""MaskedGeneration: the mask, the generator, and a distillation with both."""

import keras
import numpy as np
import pytest
from keras import ops
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.layers import MaskedGeneration
from keras_kd.testing import assert_close


def built(source, target, **kwargs):
    adapter = MaskedGeneration(target, seed=3, **kwargs)
    adapter.build((None, *source))
    return adapter


def features(shape, samples=2):
    random = np.random.default_rng(0)
    return random.normal(size=(samples, *shape)).astype("float32")


def pass_through(adapter):
    """Makes each generating convolution the identity of positive maps."""
    for convolution in adapter.generator:
        kernel = np.zeros(convolution.kernel.shape, "float32")
        center = (1,) * (kernel.ndim - 2)
        kernel[center] = np.eye(kernel.shape[-1])
        convolution.set_weights([kernel, np.zeros(kernel.shape[-1])])


def convolved(maps, kernel, bias):
    """A 3x3 convolution with zeros around the map."""
    padded = np.pad(maps, [(0, 0), (1, 1), (1, 1), (0, 0)])
    result = np.zeros((*maps.shape[:3], kernel.shape[-1])) + bias
    for row, column in np.ndindex(3, 3):
        window = padded[
            :, row : row + maps.shape[1], column : column + maps.shape[2]
        ]
        result += window @ kernel[row, column]
    return result


@pytest.mark.parametrize("channels", [3, 4])
def test_values_of_the_generator(channels):
    adapter = built((4, 5, channels), (4, 5, 4))
    random = np.random.default_rng(1)
    for weight in adapter.trainable_weights:
        weight.assign(random.normal(size=weight.shape))
    inputs = features((4, 5, channels))
    expected = inputs.astype("float64")
    assert (adapter.align is None) == (channels == 4)
    if adapter.align is not None:
        kernel, bias = adapter.align.get_weights()
        expected = expected @ kernel[0, 0] + bias
    first, second = (each.get_weights() for each in adapter.generator)
    expected = convolved(np.maximum(convolved(expected, *first), 0.0), *second)
    assert_close(numpy(adapter(inputs, training=False)), expected)


def masks_of(adapter, shape, samples=2):
    """What a map of ones becomes: 0 where hidden, else 1."""
    pass_through(adapter)
    ones = np.ones((samples, *shape), "float32")
    return numpy(adapter(ones, training=True))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.65, 0.9])
def test_share_of_hidden_positions(ratio):
    shape = (40, 40, 2)
    mask = masks_of(built(shape, shape, mask_ratio=ratio), shape)
    assert set(np.unique(mask)) <= {0.0, 1.0}
    # Of 3200 positions: five standard deviations.
    allowed = 5.0 * np.sqrt(ratio * (1.0 - ratio) / 3200)
    assert abs(np.mean(mask == 0.0) - ratio) <= allowed


def test_a_position_is_hidden_in_all_channels():
    mask = masks_of(built((6, 6, 3), (6, 6, 3)), (6, 6, 3))
    assert np.all(mask == mask[..., :1])
    assert np.any(mask[0] != mask[1])


def test_masks_are_drawn_anew_from_the_seed():
    shape = (6, 6, 3)
    first, again = built(shape, shape), built(shape, shape)
    masks = masks_of(first, shape)
    assert np.all(masks == masks_of(again, shape))
    assert np.any(masks != masks_of(first, shape))


def test_nothing_is_hidden_outside_of_training():
    adapter = built((6, 6, 3), (6, 6, 3))
    pass_through(adapter)
    ones = np.ones((2, 6, 6, 3), "float32")
    assert_close(numpy(adapter(ones)), ones)
    assert_close(numpy(adapter(ones, training=False)), ones)


JOINS = {
    "map": ((4, 4, 3), (4, 4, 5), -1),
    "map, down": ((8, 8, 3), (4, 4, 5), -1),
    "map, up": ((2, 2, 3), (4, 4, 3), -1),
    "sequence": ((6, 3), (6, 5), -1),
    "volume": ((2, 2, 2, 3), (2, 2, 2, 5), -1),
    "channels first": ((3, 4, 4), (5, 2, 2), 1),
}
every_join = pytest.mark.parametrize("join", JOINS)


@every_join
def test_shapes(join):
    source, target, axis = JOINS[join]
    adapter = built(source, target, axis=axis)
    assert adapter.compute_output_shape((7, *source)) == (7, *target)
    generated = adapter(features(source), training=True)
    assert tuple(generated.shape) == (2, *target)
    symbolic = adapter(keras.Input(source), training=True)
    assert tuple(symbolic.shape) == (None, *target)


def test_channels_first_is_channels_last_transposed():
    last = built((4, 4, 3), (2, 2, 5))
    first = built((3, 4, 4), (5, 2, 2), axis=1)
    for ours, theirs in zip(first.trainable_weights, last.trainable_weights):
        ours.assign(theirs.value)
    maps = features((4, 4, 3))
    assert_close(
        np.moveaxis(numpy(first(np.moveaxis(maps, -1, 1))), 1, -1),
        numpy(last(maps)),
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    shape = (40, 40, 2)
    adapter = built(shape, shape, dtype=policy)
    half = policy.removeprefix("mixed_")
    pass_through(adapter)
    generated = adapter(ops.ones((2, *shape), half), training=True)
    assert keras.backend.standardize_dtype(generated.dtype) == half
    hidden = numpy(ops.cast(generated, "float32")) == 0.0
    assert abs(hidden.mean() - 0.65) < 5.0 * np.sqrt(0.65 * 0.35 / 3200)


def test_saving_in_a_model(tmp_path):
    inputs = keras.Input((4, 4, 3))
    adapter = MaskedGeneration((2, 2, 5), mask_ratio=0.5, seed=7)
    model = keras.Model(inputs, adapter(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == adapter.get_config()
    maps = features((4, 4, 3))
    np.testing.assert_array_equal(numpy(loaded(maps)), numpy(model(maps)))


def test_distillation_trains_the_generator_and_the_student():
    teacher = functional_model(4, name="teacher")
    student = functional_model(2, name="student")
    adapter = MaskedGeneration()
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="stage1",
        student="stage1",
        adapter=adapter,
    )
    distiller = kd.Distiller(teacher, student, [transfer])
    distiller.compile(
        optimizer=keras.optimizers.Adam(0.02), loss=cross_entropy()
    )
    x, y = data()
    before = [numpy(v.value) for v in adapter.trainable_weights]
    term = distiller.fit(x, y, batch_size=8, epochs=12, verbose=0).history[
        "feature_matching_loss"
    ]
    assert len(before) == 6
    for weight, old in zip(adapter.trainable_weights, before):
        assert np.abs(numpy(weight.value) - old).max() > 1e-3
    assert term[-1] < 0.9 * term[0]


@pytest.mark.one_backend
@pytest.mark.parametrize("ratio", [-0.1, 1.0, np.nan])
def test_ratio_that_is_none(ratio):
    with pytest.raises(ValueError, match="`mask_ratio` must be.*Received"):
        MaskedGeneration(mask_ratio=ratio)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "source, target, message",
    [
        ((2, 2, 3), None, "needs `target_shape`"),
        ((2, 2, 3), (4, 3), "same rank"),
        ((3,), (4,), "a vector has none"),
        ((None, None, 3), (4, 4, 3), "known sizes"),
    ],
)
def test_shapes_that_do_not_join(source, target, message):
    with pytest.raises(ValueError, match=message) as error:
        built(source, target)
    assert "Received: " in str(error.value)
