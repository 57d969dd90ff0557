"""Taps: their grammar, the layers they find, what they read."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import MODELS
from support import data
from support import mask_of
from support import numpy
from support import stage

import keras_kd as kd
from keras_kd import Tap
from keras_kd import find_layer

every_kind = pytest.mark.parametrize("kind", MODELS)


def batch():
    return ops.convert_to_tensor(data(samples=2)[0])


def read(model, *texts, inputs=None):
    """The output, and the features at some taps, of one pass."""
    inputs = batch() if inputs is None else inputs
    features = kd.extract_features(model, inputs, ["", *texts])
    assert set(features) == {"", *texts}
    return features[""], [features[text] for text in texts]


# --- the grammar ------------------------------------------------------------


@pytest.mark.parametrize(
    "text, path, end, key",
    [
        ("", "", "output", None),
        ("stage3", "stage3", "output", None),
        ("backbone/stage2", "backbone/stage2", "output", None),
        ("/backbone/stage2/", "backbone/stage2", "output", None),
        ("stage3:input", "stage3", "input", None),
        ("stage3:output", "stage3", "output", None),
        ("block/attention:scores", "block/attention", "scores", None),
        ("[logits]", "", "output", "logits"),
        ("mha[1]", "mha", "output", "1"),
        ("mha:input[query]", "mha", "input", "query"),
        ("blocks/0/attention", "blocks/0/attention", "output", None),
    ],
)
def test_grammar(text, path, end, key):
    tap = Tap(text)
    assert (tap.path, tap.end, tap.key) == (path, end, key)
    assert tap.text == text


@pytest.mark.parametrize(
    "text",
    [
        "a:weights",
        "a:",
        ":",
        "a[]",
        "a[",
        "a]",
        "a[0]:input",
        "a[0][1]",
        3,
        None,
    ],
)
def test_no_tap(text):
    with pytest.raises(
        ValueError, match="A tap is a string.*Received: "
    ) as error:
        Tap(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "text, value, expected",
    [
        ("a", [1, 2], [1, 2]),
        ("a[1]", [1, 2], 2),
        ("a[1]", (1, 2), 2),
        ("a[left]", {"left": 1, "right": 2}, 1),
        ("a[0]", {0: 1, 1: 2}, 1),
    ],
)
def test_select(text, value, expected):
    assert Tap(text).select(value) == expected


@pytest.mark.parametrize(
    "text, value, entries",
    [
        ("a[2]", (1, 2), r"\[0, 1\]"),
        ("a[-1]", (1, 2), r"\[0, 1\]"),
        ("a[top]", {"left": 1, "right": 2}, r"\['left', 'right'\]"),
        # Not the first sample of a batch.
        ("a[0]", np.zeros((2, 3)), r"\[\]"),
        ("a[0]", keras.KerasTensor((None, 3)), r"\[\]"),
    ],
)
def test_select_what_is_not_there(text, value, entries):
    with pytest.raises(ValueError, match=f"Received: a value.*{entries}"):
        Tap(text).select(value)


# --- finding layers ---------------------------------------------------------


@every_kind
def test_find_layer(kind):
    model = MODELS[kind](4, name="model")
    found = find_layer(model, stage(kind, "stage2"))
    assert isinstance(found, layers.Conv2D) and found.filters == 8
    assert find_layer(model, "") is model
    head = find_layer(model, "head")
    assert isinstance(head, layers.Dense) and head.units == 3


class Block(layers.Layer):
    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.inner = layers.Dense(units, name="projection")

    def call(self, inputs):
        return self.inner(inputs)


class Stack(keras.Model):
    """Layers in attributes, in a list, and in lists in a list."""

    def __init__(self, name="stack"):
        super().__init__(name=name)
        self.stem = layers.Dense(3, name="first")
        self.blocks = [Block(4), Block(5)]
        self.grid = [[Block(6)], [Block(7), Block(8)]]
        self.unused = layers.Dense(9)
        self.unused.build((None, 2))
        self.number = 3

    def call(self, inputs):
        x = self.stem(inputs)
        for block in [*self.blocks, *self.grid[0], *self.grid[1]]:
            x = block(x)
        return x


def stack():
    model = Stack()
    model(np.zeros((1, 2), "float32"))
    return model


@pytest.mark.parametrize(
    "path, units",
    [
        ("stem", 3),
        ("first", 3),
        ("blocks/0/inner", 4),
        ("blocks/1/inner", 5),
        ("blocks/1/projection", 5),
        ("grid/0/0/inner", 6),
        ("grid/1/1/inner", 8),
    ],
)
def test_paths_of_attributes_lists_and_names(path, units):
    model = stack()
    assert find_layer(model, path).units == units
    _, (feature,) = read(model, path, inputs=np.ones((2, 2), "float32"))
    assert tuple(feature.shape) == (2, units)


@pytest.mark.parametrize("kind", ["functional", "sequential", "nested"])
def test_closest_names_are_listed(kind):
    model = MODELS[kind](4, name="small")
    path = stage(kind, "stage22")
    with pytest.raises(ValueError, match="Closest names there: ") as error:
        find_layer(model, path)
    message = str(error.value)
    assert repr(path) in message and "'small'" in message
    assert "'stage2'" in message.split("Closest names there: ")[1]


def test_all_names_are_listed():
    model = MODELS["functional"](4, name="small")
    with pytest.raises(ValueError, match="Received") as error:
        find_layer(model, "zzz")
    assert "Closest" not in str(error.value)
    for name in ("stage1", "norm", "relu", "stage2", "pool", "head"):
        assert repr(name) in str(error.value)


def test_long_lists_of_names_are_cut():
    many = [layers.Dense(2, name=f"dense{i}") for i in range(30)]
    model = keras.Sequential([keras.Input((2,)), *many])
    with pytest.raises(ValueError, match=r"'dense18'\] \.\.\.\.") as error:
        find_layer(model, "zzz")
    assert "'dense19'" not in str(error.value)


def test_hint_to_a_nested_layer():
    model = MODELS["nested"](4, name="small")
    with pytest.raises(ValueError, match="nested layer has that name"):
        find_layer(model, "stage2")
    with pytest.raises(ValueError, match="'backbone' does not have") as error:
        find_layer(model, "backbone/zzz")
    assert "nested layer" not in str(error.value)


@pytest.mark.parametrize(
    "path",
    ["number", "call", "blocks/2", "blocks/x", "blocks/-1", "stem/units"],
)
def test_what_is_no_layer(path):
    with pytest.raises(ValueError, match="No layer.*Received"):
        find_layer(stack(), path)


# --- reading them -----------------------------------------------------------


def by_hand(kind, model):
    """What the stages give, layer by layer, in inference mode."""
    layer = {
        name: find_layer(
            model, name if kind == "subclassed" else stage(kind, name)
        )
        for name in ("stage1", "norm", "stage2")
    }
    first = layer["stage1"](batch())
    normed = layer["norm"](first, training=False)
    return first, layer["stage2"](ops.relu(normed)), ops.relu(normed)


@every_kind
def test_output_and_input_of_layers(kind):
    model = MODELS[kind](4, name="model")
    taps = [
        stage(kind, "stage1"),
        stage(kind, "stage2"),
        stage(kind, "stage2") + ":input",
    ]
    output, features = read(model, *taps)
    for feature, expected in zip(features, by_hand(kind, model)):
        np.testing.assert_allclose(numpy(feature), numpy(expected), atol=1e-6)
    np.testing.assert_array_equal(
        numpy(output), numpy(model(batch(), training=False))
    )


@every_kind
def test_output_of_the_model_itself(kind):
    model = MODELS[kind](4, name="model")
    output, (feature,) = read(model, "")
    assert feature is output


@every_kind
def test_several_taps_of_one_layer(kind):
    model = MODELS[kind](4, name="model")
    _, (given, output) = read(model, "head:input", "head")
    np.testing.assert_allclose(
        numpy(find_layer(model, "head")(given)), numpy(output), atol=1e-6
    )


@every_kind
def test_training_mode_is_passed_on(kind):
    model = MODELS[kind](4, name="model", dropout=0.9)
    tap = "head:input"
    features = kd.extract_features(model, batch(), tap, training=True)
    assert np.mean(numpy(features[tap]) == 0.0) > 0.3
    features = kd.extract_features(model, batch(), tap)
    assert np.all(numpy(features[tap]) != 0.0)


class During(keras.Model):
    """A model, and what a function finds while it runs."""

    def __init__(self, model, look):
        super().__init__()
        self.model = model
        self.look = look
        self.seen = []

    def call(self, inputs, training=None):
        output = self.model(inputs, training=training)
        self.seen.append(self.look())
        return output


@every_kind
def test_call_is_put_back(kind):
    model = MODELS[kind](4, name="model")
    layer = find_layer(model, stage(kind, "stage1"))
    during = During(model, lambda: "call" in vars(layer))
    kd.extract_features(during, batch(), f"model/{stage(kind, 'stage1')}")
    assert during.seen == [True]
    assert "call" not in vars(layer)
    assert layer.call.__func__ is type(layer).call


@every_kind
def test_call_is_put_back_after_an_exception(kind):
    model = MODELS[kind](4, name="model")
    taps = [stage(kind, name) for name in ("stage1", "stage2")]
    found = [find_layer(model, tap) for tap in taps]

    def fail():
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        kd.extract_features(
            During(model, fail), batch(), [f"model/{tap}" for tap in taps]
        )
    assert not any("call" in vars(layer) for layer in found)
    # The model itself failing, by an input of a wrong shape.
    with pytest.raises(Exception):  # noqa: B017
        kd.extract_features(model, np.zeros((1, 2), "float32"), taps)
    assert not any("call" in vars(layer) for layer in found)


def test_a_call_of_the_layers_own_is_put_back():
    model = MODELS["functional"](4, name="model")
    layer = model.get_layer("head")

    def call(inputs, training=None):
        return type(layer).call(layer, inputs) + 1.0

    object.__setattr__(layer, "call", call)
    plain = numpy(model(batch()))
    _, (feature,) = read(model, "head")
    assert layer.call is call
    np.testing.assert_array_equal(numpy(feature), plain)


def test_taps_in_taps():
    model = MODELS["functional"](4, name="model")
    head = model.get_layer("head")
    inner = []

    def read_inside():
        inner.extend(read(model, "head")[1])
        return "call" in vars(head)

    during = During(model, read_inside)
    outer = kd.extract_features(during, batch(), "model/head")
    assert outer["model/head"] is inner[0]
    assert during.seen == [True]
    assert "call" not in vars(head)


def test_a_layer_called_twice_gives_its_last_call():
    shared = layers.Dense(2, use_bias=False, name="shared")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, shared(shared(inputs)))
    shared.kernel.assign([[2.0, 0.0], [0.0, 3.0]])
    ones = np.ones((1, 2), "float32")
    output, (given, feature) = read(
        model, "shared:input", "shared", inputs=ones
    )
    np.testing.assert_array_equal(numpy(given), [[2.0, 3.0]])
    np.testing.assert_array_equal(numpy(feature), [[4.0, 9.0]])
    assert feature is output


def test_a_layer_that_is_not_reached():
    model = stack()
    with pytest.raises(ValueError, match="not reached. Received: 'unused'"):
        read(model, "unused", inputs=np.ones((1, 2), "float32"))
    assert "call" not in vars(model.unused)


def test_entries_of_outputs():
    inputs = keras.Input((2,))
    outputs = {
        "logits": layers.Dense(3, name="head")(inputs),
        "depth": layers.Dense(1, name="side")(inputs),
    }
    model = keras.Model(inputs, outputs)
    ones = np.ones((1, 2), "float32")
    output, (logits, depth) = read(model, "[logits]", "[depth]", inputs=ones)
    assert logits is output["logits"] and depth is output["depth"]
    with pytest.raises(ValueError, match="'top'.*'(logits|depth)', '"):
        read(model, "[top]", inputs=ones)


# --- attention scores -------------------------------------------------------

SEQUENCE = np.random.default_rng(3).normal(size=(2, 5, 6)).astype("float32")


def attention_model(ask=False, **kwargs):
    inputs = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3, name="attention", **kwargs)
    x = attention(inputs, inputs, return_attention_scores=ask)
    if ask:
        x = x[0] + ops.mean(x[1])
    return keras.Model(inputs, layers.Dense(2)(x))


@pytest.mark.parametrize("ask", [False, True])
def test_scores_of_attention(ask):
    model = attention_model(ask)
    plain = numpy(model(SEQUENCE, training=False))
    output, (scores, given) = read(
        model, "attention:scores", "attention:input", inputs=SEQUENCE
    )
    layer = model.get_layer("attention")
    _, expected = layer(SEQUENCE, SEQUENCE, return_attention_scores=True)
    assert tuple(scores.shape) == (2, 2, 5, 5)
    np.testing.assert_allclose(numpy(scores), numpy(expected), atol=1e-6)
    np.testing.assert_array_equal(numpy(given), SEQUENCE)
    np.testing.assert_allclose(numpy(output), plain, atol=1e-5)
    assert "call" not in vars(layer)
    again = numpy(model(SEQUENCE, training=False))
    np.testing.assert_array_equal(again, plain)


def test_output_next_to_scores():
    model = attention_model()
    _, (scores, feature) = read(
        model, "attention:scores", "attention", inputs=SEQUENCE
    )
    layer = model.get_layer("attention")
    np.testing.assert_allclose(
        numpy(feature), numpy(layer(SEQUENCE, SEQUENCE)), atol=1e-5
    )
    np.testing.assert_allclose(numpy(scores).sum(-1), 1.0, atol=1e-5)


def test_entry_of_an_attention_that_gives_its_scores():
    model = attention_model(ask=True)
    _, (scores, entry) = read(
        model, "attention:scores", "attention[1]", inputs=SEQUENCE
    )
    np.testing.assert_array_equal(numpy(entry), numpy(scores))


def test_scores_of_another_layer():
    model = MODELS["functional"](4, name="model")
    with pytest.raises(ValueError, match="Received: tap 'head:scores'.*Dense"):
        read(model, "head:scores")
    assert "call" not in vars(model.get_layer("head"))


class OwnAttention(layers.Layer):
    """Attention of a class of its own: two groups of two heads, one softmax."""

    def __init__(self, fused=False, **kwargs):
        super().__init__(**kwargs)
        self.softmax = layers.Softmax()
        self.fused = fused

    def build(self, shape):
        self.scale = self.add_weight(shape=(2, 2, 1, 1), name="scale")
        self.built = True

    def call(self, x):
        if self.fused:
            return x
        scores = ops.expand_dims(ops.matmul(x, ops.swapaxes(x, 1, 2)), (1, 2))
        mask = ops.expand_dims(ops.tri(5, dtype="bool"), (0, 1, 2))
        maps = self.softmax(scores * self.scale, mask)
        return ops.matmul(ops.mean(maps, axis=(1, 2)), x)


def test_scores_of_an_attention_with_a_softmax_of_its_own():
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, OwnAttention(name="own")(inputs))
    scale = np.arange(1.0, 5.0).reshape(2, 2, 1, 1)
    model.get_layer("own").scale.assign(scale)
    _, (maps,) = read(model, "own:scores", inputs=SEQUENCE)
    scores = SEQUENCE @ SEQUENCE.swapaxes(1, 2)
    scores = scores[:, None] * scale.reshape(4, 1, 1)
    exp = np.exp(scores) * np.tri(5)
    expected = exp / exp.sum(-1, keepdims=True)
    np.testing.assert_allclose(numpy(maps), expected, atol=1e-5)
    assert "call" not in vars(model.get_layer("own").softmax)


@pytest.mark.one_backend
def test_scores_of_an_attention_that_fuses():
    inputs = keras.Input((5, 6))
    layer = OwnAttention(fused=True, name="own")
    model = keras.Model(inputs, layer(inputs))
    message = "'own'.*OwnAttention.*fused.*SelfAttentionRelation"
    with pytest.raises(ValueError, match=message):
        read(model, "own:scores", inputs=SEQUENCE)
    assert "call" not in vars(layer) and "call" not in vars(layer.softmax)


def test_scores_in_taps():
    model = attention_model()
    inner = []

    def read_inside():
        inner.extend(read(model, "attention:scores", inputs=SEQUENCE)[1])

    tap = "model/attention:scores"
    outer = kd.extract_features(During(model, read_inside), SEQUENCE, tap)
    np.testing.assert_array_equal(numpy(inner[0]), numpy(outer[tap]))


def test_scores_under_flash_attention():
    plain = attention_model()
    expected, (scores,) = read(plain, "attention:scores", inputs=SEQUENCE)
    model = attention_model(flash_attention=True)
    model.set_weights(plain.get_weights())
    layer = model.get_layer("attention")
    with pytest.raises(ValueError, match="flash attention is enabled"):
        layer(SEQUENCE, SEQUENCE, return_attention_scores=True)
    output, (found,) = read(model, "attention:scores", inputs=SEQUENCE)
    np.testing.assert_allclose(numpy(found), numpy(scores), atol=1e-6)
    np.testing.assert_allclose(numpy(output), numpy(expected), atol=1e-6)
    assert "call" not in vars(layer)
    assert fuses(layer)

    found = []

    class Fails(During):
        def call(self, inputs, training=None):
            found.append(fuses(layer))
            raise RuntimeError("on purpose")

    # It stays fused where no scores are read.
    for tap, fused in (("attention:scores", False), ("attention", True)):
        with pytest.raises(RuntimeError, match="on purpose"):
            kd.extract_features(Fails(model, None), SEQUENCE, f"model/{tap}")
        assert found.pop() is fused
        assert fuses(layer)


def fuses(layer):
    """Whether an attention layer fuses, and so can't give its scores."""
    try:
        type(layer).call(
            layer, SEQUENCE, SEQUENCE, return_attention_scores=True
        )
    except ValueError as error:
        assert "flash attention is enabled" in str(error)
        return True
    return False


# --- masks ------------------------------------------------------------------

TOKENS = np.array([[3, 1, 2, 0], [4, 0, 0, 0]], "int32")


@pytest.mark.parametrize("other", [False, True])
def test_projections_bear_the_masks_that_attention_is_given(other):
    text, asked = keras.Input((4,), dtype="int32"), keras.Input((3, 6))
    x = layers.Embedding(5, 6, mask_zero=True)(text)
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    if other:
        model = keras.Model([text, asked], attention(asked, x))
        batch = [TOKENS, np.ones((2, 3, 6), "float32")]
    else:
        model, batch = keras.Model(text, attention(x, x)), TOKENS
    names = ["query", "key", "value"]
    taps = [f"attention/{name}" for name in names] + ["attention/query:input"]
    output, features = read(model, *taps, inputs=batch)
    masks = [mask_of(feature) for feature in features]
    # Keras took it off the input, and would else pass it on from there.
    assert masks.pop() is None
    for name, mask in zip(names, masks):
        if other and name == "query":
            assert mask is None
        else:
            np.testing.assert_array_equal(numpy(mask), TOKENS != 0)
    np.testing.assert_allclose(numpy(output), numpy(model(batch)), atol=1e-6)
    assert "call" not in vars(attention)
