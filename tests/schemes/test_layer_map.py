"""layer_map: evenly spaced pairs of two transformers' layers."""

import keras
import numpy as np
import pytest
from keras import layers
from support import numpy

import keras_kd as kd
from keras_kd.schemes import layer_map

TOKENS = 5


def transformer(depth, width=8, heads=2, name=None):
    inputs = x = keras.Input((TOKENS, width))
    for n in range(depth):
        attention = layers.MultiHeadAttention(
            heads, width // heads, name=f"attention_{n}"
        )
        x = layers.Add(name=f"added_{n}")([x, attention(x, x)])
        y = layers.Dense(width, "relu", name=f"dense_{n}")(x)
        x = layers.Add(name=f"block_{n}")([x, y])
    return keras.Model(inputs, x, name=name)


def pairs(transfers):
    return [
        (transfer.name, transfer.teacher_taps[0].text, its.text)
        for transfer in transfers
        for its in transfer.student_taps[:1]
    ]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "depths, expected",
    [((6, 3), [1, 3, 5]), ((5, 2), [1, 4]), ((3, 3), [0, 1, 2])],
)
def test_layers_are_evenly_spaced(depths, expected):
    teacher, student = (transformer(depth) for depth in depths)
    assert pairs(layer_map(teacher, student)) == [
        (f"states_{n + 1}", f"block_{place}", f"block_{n}")
        for n, place in enumerate(expected)
    ]


def test_the_terms_are_those_of_the_losses():
    keras.utils.set_random_seed(0)
    teacher, student = transformer(4, 8), transformer(2, 8)
    losses = {
        "states": kd.losses.FeatureMatching("cosine"),
        "relations": kd.losses.SelfAttentionRelation(2),
    }
    transfers = layer_map(
        teacher, student, states=2.0, relations=1.0, maps=3.0, losses=losses
    )
    ends = "block_3", "attention_3/query", "attention_3:scores"
    its = "block_1", "attention_1/query", "attention_1:scores"
    assert pairs(transfers[3:]) == [
        (f"{kind}_2", *taps)
        for kind, taps in zip(("states", "relations", "maps"), zip(ends, its))
    ]
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile("sgd", None)
    x = np.random.default_rng(0).normal(size=(3, TOKENS, 8)).astype("float32")
    logs = distiller.evaluate(x, verbose=0, return_dict=True)

    def both(*names):
        return (
            numpy(kd.extract_features(model, x, name)[name])
            for model, name in zip((teacher, student), names)
        )

    t, s = both("block_3", "block_1")
    cosine = (t * s).sum(-1) / np.linalg.norm(t, axis=-1)
    cosine /= np.linalg.norm(s, axis=-1)
    expected = 2.0 * np.mean(1.0 - cosine)
    np.testing.assert_allclose(logs["states_2_loss"], expected, rtol=1e-4)
    t, s = both("attention_3:scores", "attention_1:scores")
    expected = 3.0 * np.mean(np.square(t - s))
    np.testing.assert_allclose(logs["maps_2_loss"], expected, rtol=1e-4)
    loss, expected = losses["relations"], 0.0
    for name in ("query", "key", "value"):
        expected += loss(*both(f"attention_3/{name}", f"attention_1/{name}"))
    found = logs["relations_2_loss"]
    np.testing.assert_allclose(found, numpy(expected), rtol=1e-4)


def test_other_widths_and_heads_are_adapted():
    teacher, student = transformer(2, 16, 4), transformer(2, 8, 2)
    inputs = keras.Input((TOKENS, 8))
    wide = layers.Dense(16, name="wide")(inputs)
    teacher = keras.Model(inputs, teacher(wide))
    transfers = layer_map(teacher, student, relations=1.0, maps=1.0)[-3:]
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile(keras.optimizers.Adam(0.01), None)
    x = np.random.default_rng(0).normal(size=(8, TOKENS, 8))
    history = distiller.fit(x, epochs=3, verbose=0).history
    for name in ("states_2_loss", "relations_2_loss", "maps_2_loss"):
        assert history[name][-1] < history[name][0], name


@pytest.mark.one_backend
def test_relation_heads_have_16_units():
    teacher, student = transformer(2, 96, 6), transformer(2, 48, 2)
    (_, last) = layer_map(teacher, student, states=0.0, relations=1.0)
    assert last.loss.relation_heads == 3  # 48 of 768.
    assert [tap.text for tap in last.teacher_taps] == [
        f"attention_1/{name}" for name in ("query", "key", "value")
    ]


def two_stacks():
    inputs = x = keras.Input((8,))
    for width in (8, 4):
        x = layers.Dense(width)(x)
        for _ in range(3):
            x = layers.Dense(width, "tanh")(x)
    return keras.Model(inputs, x)


class OfACode(keras.Model):
    def call(self, inputs):
        return inputs


def dense(depth):
    names = [f"dense_{n}" for n in range(depth)]
    inner = [layers.Dense(8, name=name) for name in names]
    return keras.Sequential([keras.Input((TOKENS, 8)), *inner])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "models, arguments, message",
    [
        ((2, 3), {}, "Received: a student .* of 3 layers.* of 2"),
        ((dense(1), 1), {}, "No repeated blocks.*Received: 'sequential"),
        ((OfACode(), 1), {}, "No repeated blocks.*OfACode"),
        ((two_stacks(), 2), {}, "one stack.*several"),
        ((print, 2), {}, "Keras model.*Received.*print"),
        ((2, 2), {"states": 0}, "weight of 0"),
        ((2, 2), {"states": -1}, "`states`.*Received: states=-1"),
        ((2, 2), {"losses": {"maps": "mse"}}, "`losses`.*Received.*maps"),
        ((dense(2), 2), {"maps": 1}, "attention maps.*'dense_"),
        ((dense(2), 2), {"relations": 1}, "queries, keys and values.*'dense_"),
    ],
)
def test_what_has_no_layer_map(models, arguments, message):
    teacher, student = (
        transformer(model) if isinstance(model, int) else model
        for model in models
    )
    with pytest.raises(ValueError, match=message):
        layer_map(teacher, student, **arguments)
