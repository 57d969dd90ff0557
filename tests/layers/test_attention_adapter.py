"""AttentionAdapter: heads mixed, tokens resized, rows that sum to 1."""

import keras
import numpy as np
import pytest
from keras import ops
from resizing import resized
from support import numpy

from keras_kd.layers import AttentionAdapter

# student's and teacher's (heads, queries, keys)
JOINS = {
    "more heads": ((2, 5, 5), (4, 5, 5)),
    "fewer heads": ((4, 5, 5), (2, 5, 5)),
    "fewer tokens": ((2, 9, 9), (2, 4, 4)),
    "more tokens": ((2, 4, 4), (2, 9, 9)),
    "fewer queries": ((2, 9, 5), (2, 4, 5)),
    "more keys": ((2, 5, 5), (2, 5, 9)),
    "all": ((3, 8, 6), (4, 5, 9)),
}
every_join = pytest.mark.parametrize("join", JOINS)


def maps(shape, samples=3):
    logits = np.random.default_rng(0).normal(size=(samples, *shape))
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(-1, keepdims=True)).astype(
        "float32"
    )


def built(source, target, **kwargs):
    adapter = AttentionAdapter(target, **kwargs)
    adapter.build((None, *source))
    if adapter.mixing is not None:
        random = np.random.default_rng(1)
        adapter.mixing.assign(random.normal(size=adapter.mixing.shape))
    return adapter


def expected_of(adapter, inputs, target):
    expected = inputs.astype("float64")
    if adapter.mixing is not None:
        weights = np.exp(numpy(adapter.mixing.value).astype("float64"))
        weights = weights / weights.sum(axis=0)
        expected = np.stack(
            [
                sum(w * expected[:, head] for head, w in enumerate(column))
                for column in weights.T
            ],
            axis=1,
        )
    _, queries, keys = target
    expected = resized(resized(expected, 2, queries), 3, keys)
    return expected / expected.sum(axis=-1, keepdims=True)


@every_join
def test_values(join):
    source, target = JOINS[join]
    adapter = built(source, target)
    inputs = maps(source)
    adapted = numpy(adapter(inputs))
    assert adapted.shape == (3, *target)
    np.testing.assert_allclose(
        adapted, expected_of(adapter, inputs, target), atol=1e-6
    )


@every_join
def test_rows_remain_probabilities(join):
    source, target = JOINS[join]
    adapted = numpy(built(source, target)(maps(source)))
    np.testing.assert_allclose(adapted.sum(axis=-1), 1.0, atol=1e-5)
    assert (adapted >= 0.0).all()


def test_at_first_each_head_is_the_mean():
    inputs = maps((3, 5, 5))
    adapted = numpy(AttentionAdapter((2, 5, 5))(inputs))
    mean = inputs.mean(axis=1)
    np.testing.assert_allclose(adapted[:, 0], mean, atol=1e-6)
    np.testing.assert_allclose(adapted[:, 1], mean, atol=1e-6)


def test_equal_shapes_pass_through():
    adapter = built((2, 5, 5), (2, 5, 5))
    assert adapter.weights == []
    inputs = maps((2, 5, 5))
    np.testing.assert_array_equal(numpy(adapter(inputs)), inputs)


@pytest.mark.one_backend
@every_join
def test_weights_only_where_heads_differ(join):
    source, target = JOINS[join]
    shapes = [tuple(w.shape) for w in built(source, target).trainable_weights]
    differ = source[0] != target[0]
    assert shapes == ([(source[0], target[0])] if differ else [])


@pytest.mark.parametrize("keys", [3, 9])
def test_rows_of_0_stay_0(keys):
    inputs = maps((2, 5, 5))
    inputs[:, :, 4] = 0.0  # a masked query
    adapted = numpy(AttentionAdapter((2, 5, keys))(inputs))
    assert np.all(adapted[:, :, 4] == 0.0)
    np.testing.assert_allclose(adapted[:, :, :4].sum(-1), 1.0, atol=1e-5)


@every_join
def test_shape_is_known_without_data(join):
    source, target = JOINS[join]
    adapter = built(source, target)
    assert adapter.compute_output_shape((7, *source)) == (7, *target)
    assert tuple(adapter(keras.Input(source)).shape) == (None, *target)


def test_training_reaches_the_mixing():
    model = keras.Sequential(
        [keras.Input((3, 5, 5)), AttentionAdapter((2, 5, 5))]
    )
    model.compile(optimizer=keras.optimizers.SGD(10.0), loss="mse")
    model.train_on_batch(maps((3, 5, 5)), maps((2, 5, 5)))
    (mixing,) = model.get_weights()
    assert np.abs(mixing).max() > 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    source, target = JOINS["all"]
    adapter = built(source, target, dtype=policy)
    adapted = adapter(maps(source))
    half = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(adapted.dtype) == half
    assert adapter.mixing.dtype == "float32"
    np.testing.assert_allclose(
        numpy(ops.cast(adapted, "float32")),
        expected_of(adapter, maps(source), target),
        atol=2e-3 if half == "float16" else 1e-2,
    )


@every_join
def test_saving_in_a_model(join, tmp_path):
    source, target = JOINS[join]
    inputs = keras.Input(source)
    model = keras.Model(inputs, AttentionAdapter(target)(inputs))
    for weight in model.trainable_weights:
        weight.assign(np.random.default_rng(2).normal(size=weight.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].target_shape == target
    x = maps(source)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


@pytest.mark.parametrize("heads", [2, 4])
def test_token_counts_that_are_open_on_both_sides(heads):
    adapter = built((2, None, None), (heads, None, None))
    inputs = maps((2, 6, 6))
    np.testing.assert_allclose(
        numpy(adapter(inputs)),
        expected_of(adapter, inputs, (heads, 6, 6)),
        atol=1e-6,
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "source, target, message",
    [
        ((2, 5, 5), None, "takes attention maps"),
        ((5, 5), (2, 5, 5), "takes attention maps"),
        ((2, 5, 5), (5, 5), "takes attention maps"),
        ((2, None, None), (2, 5, 5), "unknown length"),
        ((2, 5, 5), (2, None, None), "unknown length"),
    ],
)
def test_shapes_that_do_not_join(source, target, message):
    with pytest.raises(ValueError, match=message) as error:
        AttentionAdapter(target).build((None, *source))
    assert f"Received: student {source}, teacher {target}" in str(error.value)
