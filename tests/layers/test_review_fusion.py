"""ReviewFusion: what it computes, and a distillation with it."""

import keras
import numpy as np
import pytest
from keras import ops
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.layers import ReviewFusion
from keras_kd.testing import assert_close
from keras_kd.testing import compiled
from keras_kd.testing import value_and_gradient

# Two resizes with a remainder, one to the teacher's size; then a vector.
SOURCES = [(5, 6, 3), (2, 4, 4), (4,)]
TARGETS = [(5, 6, 2), (3, 4, 5), (6,)]


def features(shapes=SOURCES, samples=3):
    random = np.random.default_rng(0)
    return [
        random.normal(size=(samples, *shape)).astype("float32")
        for shape in shapes
    ]


def built(sources=SOURCES, targets=TARGETS, **kwargs):
    fusion = ReviewFusion(targets, **kwargs)
    fusion.build([(None, *shape) for shape in sources])
    random = np.random.default_rng(1)
    for weight in fusion.weights:
        # Moving variances, too, must be positive.
        weight.assign(random.uniform(0.5, 1.5, size=weight.shape))
        if "norm" not in weight.path:
            weight.assign(random.normal(size=weight.shape))
    return fusion


def convolved(maps, kernel, bias=0.0):
    margin = kernel.shape[0] // 2
    around = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
    padded = np.pad(maps, around)
    result = np.zeros((*maps.shape[:3], kernel.shape[-1])) + bias
    for row, column in np.ndindex(kernel.shape[:2]):
        window = padded[
            :, row : row + maps.shape[1], column : column + maps.shape[2]
        ]
        result += window @ kernel[row, column]
    return result


def normed(maps, norm, training):
    gamma, beta, mean, variance = (numpy(w.value) for w in norm.weights)
    if training:
        mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    return gamma * (maps - mean) / np.sqrt(variance + 1e-5) + beta


def nearest(maps, height, width):
    result = np.zeros((len(maps), height, width, maps.shape[-1]))
    for row, column in np.ndindex(height, width):
        result[:, row, column] = maps[
            :,
            int(np.floor(row * maps.shape[1] / height)),
            int(np.floor(column * maps.shape[2] / width)),
        ]
    return result


def expected_of(fusion, inputs, training):
    results, behind = [None] * len(inputs), None
    for number in (2, 1, 0):
        stage, target = fusion.stages[number], TARGETS[number]
        maps = inputs[number].astype("float64")
        maps = maps.reshape(len(maps), *(maps.shape[1:-1] or (1, 1)), -1)
        (kernel,) = stage.reduce.get_weights()
        fused = normed(convolved(maps, kernel), stage.reduce_norm, training)
        if number < 2:
            y = nearest(behind, *maps.shape[1:3])
            kernel, bias = stage.attention.get_weights()
            both = np.concatenate([fused, y], axis=-1)
            gates = 1.0 / (1.0 + np.exp(-convolved(both, kernel, bias)))
            fused = fused * gates[..., [0]] + y * gates[..., [1]]
        fused = nearest(fused, *(target[:-1] or (1, 1)))
        (kernel,) = stage.expand.get_weights()
        result = normed(convolved(fused, kernel), stage.expand_norm, training)
        results[number] = result.reshape(len(maps), *target)
        behind = fused
    return results


@pytest.mark.parametrize("training", [False, True])
def test_values(training):
    fusion = built()
    # Written first: in training the moving statistics move.
    expected = expected_of(fusion, features(), training)
    found = fusion([*map(ops.convert_to_tensor, features())], training=training)
    assert_close([numpy(each) for each in found], expected)


def test_an_open_batch_size_when_compiled():
    fusion = built()
    run = compiled(lambda maps: fusion(maps, training=False), features())
    found = run([*map(ops.convert_to_tensor, features(samples=2))])
    expected = expected_of(fusion, features(samples=2), False)
    assert_close([numpy(each) for each in found], expected)


@pytest.mark.one_backend
def test_shapes_of_the_weights():
    fusion = ReviewFusion(TARGETS, mid_channels=7)
    fusion.build([(None, *shape) for shape in SOURCES])
    assert len(fusion.stages) == 3
    for number, stage in enumerate(fusion.stages):
        channels = SOURCES[number][-1]
        assert tuple(stage.reduce.kernel.shape) == (1, 1, channels, 7)
        wide = (3, 3, 7, TARGETS[number][-1])
        assert tuple(stage.expand.kernel.shape) == wide
        assert stage.reduce.bias is None and stage.expand.bias is None
        if number < 2:
            assert tuple(stage.attention.kernel.shape) == (1, 1, 14, 2)
            assert tuple(stage.attention.bias.shape) == (2,)
    assert not fusion.stages[2].attention
    paths = [weight.path for weight in fusion.weights]
    assert len(set(paths)) == len(paths) == 3 * 10 + 2 * 2


@pytest.mark.parametrize("channels, expected", [(8, 8), (600, 512)])
def test_channels_between_are_the_last_stage_s(channels, expected):
    fusion = ReviewFusion([(2, 2, 3), (1, 1, 3)])
    fusion.build([(None, 2, 2, 4), (None, 1, 1, channels)])
    for stage in fusion.stages:
        assert stage.reduce.filters == expected


def test_initial_weights_are_the_authors():
    fusion = ReviewFusion([(2, 2, 300), (1, 1, 9)])
    fusion.build([(None, 2, 2, 400), (None, 1, 1, 100)])
    stage = fusion.stages[0]
    for kernel, inputs in (
        (stage.reduce.kernel, 400),
        (stage.expand.kernel, 9 * 100),
    ):
        bound = np.sqrt(3.0 / inputs)
        largest = np.abs(numpy(kernel.value)).max()
        assert 0.99 * bound < largest <= 1.0001 * bound


def test_channels_first_is_channels_last_transposed():
    last, maps = built(), features()
    first = built(
        [(3, 5, 6), (4, 2, 4), (4,)],
        [(2, 5, 6), (5, 3, 4), (6,)],
        data_format="channels_first",
    )
    first.set_weights(last.get_weights())
    moved = [np.moveaxis(each, -1, 1) for each in maps]
    found = [np.moveaxis(numpy(each), 1, -1) for each in first(moved)]
    assert_close(found, [numpy(each) for each in last(maps)])


def test_deeper_stages_reach_shallower_ones_and_not_the_reverse():
    fusion, (shallow, middle, deep) = built(), features()

    def result(number, *maps):
        return numpy(fusion([*map(ops.convert_to_tensor, maps)])[number])

    moved = result(0, shallow, middle, deep + 1.0)
    assert np.abs(moved - result(0, shallow, middle, deep)).max() > 1e-3
    same = result(2, shallow + 1.0, middle + 1.0, deep)
    np.testing.assert_array_equal(same, result(2, shallow, middle, deep))


@pytest.mark.parametrize("samples", [1, 3])
def test_finite(samples):
    fusion = built()

    def squares(maps):
        with keras.StatelessScope():  # The moving statistics are not kept.
            results = fusion(maps, training=True)
        return sum(ops.mean(each**2) for each in results)

    for scale in (0.0, 1e4):
        maps = [scale * each for each in features(samples=samples)]
        value, gradient = value_and_gradient(squares, maps)
        assert np.isfinite(value)
        assert all(np.isfinite(each).all() for each in gradient)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    fusion = built(dtype=policy)
    half = policy.removeprefix("mixed_")
    maps = [ops.cast(100.0 * each, half) for each in features()]
    for result in fusion(maps, training=True):
        assert keras.backend.standardize_dtype(result.dtype) == half
        assert np.isfinite(numpy(ops.cast(result, "float32"))).all()
    assert {weight.dtype for weight in fusion.weights} == {"float32"}


def test_saving_in_a_model(tmp_path):
    inputs = [keras.Input(shape) for shape in SOURCES]
    fusion = built(mid_channels=6)
    outputs = fusion(inputs)
    assert [tuple(each.shape) for each in outputs] == [
        (None, *shape) for shape in TARGETS
    ]
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    copy = loaded.layers[-1]
    assert copy.get_config() == fusion.get_config()
    for one, other in zip(loaded(features()), model(features())):
        np.testing.assert_array_equal(numpy(one), numpy(other))


def distiller(**arguments):
    keras.utils.set_random_seed(0)
    transfer = kd.Transfer(
        kd.losses.HierarchicalContext(),
        adapter=kd.layers.ReviewFusion(),
        weight=1.0,
        **arguments,
    )
    teacher = functional_model(8, name="teacher")
    model = kd.Distiller(
        teacher, functional_model(4, name="student"), [transfer]
    )
    model.compile(keras.optimizers.Adam(0.02), cross_entropy())
    return model


def values(layer):
    return [numpy(weight.value).copy() for weight in layer.weights]


def test_distillation_trains_every_weight(tmp_path):
    stages = ["stage1", "stage2"]
    model = distiller(teacher=stages, student=stages)
    (fusion,) = model.transfers[0].adapters
    assert fusion.target_shapes == [(4, 4, 8), (2, 2, 16)]
    paths = [weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths)
    before = values(fusion)
    term = model.fit(*data(), batch_size=8, epochs=6, verbose=0).history[
        "hierarchical_context_loss"
    ]
    assert term[-1] < 0.9 * term[0]
    # The moving statistics among them: training reaches the normalization.
    for weight, old in zip(fusion.weights, before):
        assert np.abs(numpy(weight.value) - old).max() > 1e-4, weight.path
    model.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    (copy,) = loaded.transfers[0].adapters
    assert copy.get_config() == fusion.get_config()
    for one, other in zip(values(copy), values(fusion)):
        np.testing.assert_array_equal(one, other)
    loaded.set_teacher(model.teacher)
    loaded.fit(*data(), batch_size=8, verbose=0)


def test_the_method_as_published():
    """A pooled vector as the last stage, and the warm-up."""
    model = distiller(
        teacher=["stage1", "stage2", "pool:input"],
        student=["stage1", "stage2", "pool"],
        teacher_adapter=[
            None,
            None,
            keras.layers.GlobalAveragePooling2D(keepdims=True),
        ],
    )
    (fusion,) = model.transfers[0].adapters
    assert fusion.target_shapes == [(4, 4, 8), (2, 2, 16), (1, 1, 16)]
    warm_up = kd.callbacks.WeightAnnealing(
        0.0, 5.0, transfer="hierarchical_context", epochs=6
    )
    logs = model.fit(
        *data(), batch_size=8, epochs=7, callbacks=[warm_up], verbose=0
    ).history
    weights = logs["hierarchical_context_weight"]
    np.testing.assert_allclose(weights, [0, 1, 2, 3, 4, 5, 5], rtol=1e-6)
    terms = np.array(logs["hierarchical_context_loss"])
    assert terms[0] == 0.0
    assert terms[6] / 5.0 < terms[1]


@pytest.mark.one_backend
def test_what_is_frozen_stays_frozen():
    fusion = ReviewFusion(TARGETS, trainable=False)
    fusion.build([(None, *shape) for shape in SOURCES])
    assert not any(stage.trainable for stage in fusion.stages)
    assert not any(weight.trainable for weight in fusion.weights)


@pytest.mark.one_backend
def test_one_fusion_for_two_teachers():
    fusion = built()
    fusion.target_shapes = [(5, 6, 2), (3, 4, 5), (7,)]
    with pytest.raises(ValueError, match="another teacher.*Received"):
        fusion.compute_output_shape([(None, *shape) for shape in SOURCES])


@pytest.mark.one_backend
@pytest.mark.parametrize("channels", [0, -3])
def test_channels_that_are_none(channels):
    with pytest.raises(ValueError, match="`mid_channels` must be.*Received"):
        ReviewFusion(mid_channels=channels)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "sources, targets, message",
    [
        ([(4, 4, 3), (2, 2, 3)], None, "a target for each"),
        ([(4, 4, 3), (2, 2, 3)], [(4, 4, 3)], "a target for each"),
        ([(4, 4, 3)], [(4, 4, 3)], "two or more"),
        ([(None, 4, 3), (2, 2, 3)], [(4, 4, 3), (2, 2, 3)], "known sizes"),
        ([(4, 4, 3), (2, 2, 3)], [(4, None, 3), (2, 2, 3)], "known sizes"),
        ([(4, 4, 3), (2, 2, None)], [(4, 4, 3), (2, 2, 3)], "known sizes"),
        ([(16, 3), (2, 2, 3)], [(16, 3), (2, 2, 3)], "fuses maps"),
        ([(2, 2, 3), (4, 4, 3)], [(2, 2, 3), (4, 4, 3)], "from shallow"),
        ([(4, 4, 3), (2, 2, 3)], [(4, 4, 3), (3,)], "where the student pools"),
    ],
)
def test_stages_that_are_not_fused(sources, targets, message):
    with pytest.raises(ValueError, match=message) as error:
        ReviewFusion(targets).build([(None, *shape) for shape in sources])
    assert "Received: student " in str(error.value)
