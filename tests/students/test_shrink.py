"""Students of the teacher's architecture: fewer blocks, narrower layers."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import numpy
from support import subclassed_model
from support import weights_of

import keras_kd as kd
from keras_kd.students import shrink
from keras_kd.testing import assert_close


def randomized(model, seed=0):
    """Other statistics than those that a normalization starts with, too."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            random.uniform(0.5, 1.5, w.shape)
            if w.ndim == 1
            else random.normal(0.0, 0.4, w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def image(samples=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(samples, 8, 8, 2)).astype("float32")


def unit(x, name, width, strides=1):
    y = layers.Conv2D(width, 3, strides, padding="same", name=f"{name}_1")(x)
    y = layers.ReLU(name=f"{name}_relu")(
        layers.BatchNormalization(name=f"{name}_norm")(y)
    )
    y = layers.Conv2D(width, 3, padding="same", name=f"{name}_2")(y)
    if x.shape != y.shape:
        x = layers.Conv2D(width, 1, strides, name=f"{name}_skip")(x)
    return layers.ReLU(name=name)(x + y)


def residual_cnn(first=(0, 1, 2, 3), second=(0, 1, 2)):
    """Two stages; the second begins with a block that changes the shape."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(
        inputs
    )
    for n in first:
        x = unit(x, f"a{n}", 8)
    for n in second:
        x = unit(x, f"b{n}", 16, strides=1 if n else 2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(3, name="head")(x)
    return randomized(keras.Model(inputs, outputs, name="cnn"))


def attention_block(x, n, mask, rate):
    y = layers.LayerNormalization(name=f"norm{n}")(x)
    y = layers.MultiHeadAttention(4, 4, name=f"attention{n}")(
        y, y, attention_mask=mask
    )
    x = layers.Add(name=f"attended{n}")([x, layers.Dropout(rate)(y)])
    y = layers.LayerNormalization(name=f"norm{n}b")(x)
    y = layers.Dense(32, activation="gelu", name=f"wide{n}")(y)
    y = layers.Dense(16, name=f"narrow{n}")(y)
    return layers.Add(name=f"block{n}")([x, y])


def transformer(blocks=range(6)):
    """Pre-norm; each block has the mask, and a dropout rate of its own."""
    inputs = keras.Input((5,), dtype="int32")
    mask = ops.expand_dims(ops.not_equal(inputs, 0), axis=1)
    x = layers.Embedding(11, 16, name="embedding")(inputs)
    for n in blocks:
        x = attention_block(x, n, mask, rate=0.1 * n)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    outputs = layers.Dense(3, name="head")(x)
    return randomized(keras.Model(inputs, outputs, name="transformer"))


def tokens(samples=4, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 11, size=(samples, 5)).astype("int32")


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Block(layers.Layer):
    """A block as a layer, that takes its width from its inputs."""

    def __init__(self, hidden=32, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden
        self.norm = layers.LayerNormalization()
        self.wide = layers.Dense(hidden, activation="gelu")

    def build(self, input_shape):
        self.norm.build(input_shape)
        self.wide.build(input_shape)
        self.narrow = layers.Dense(input_shape[-1])
        self.narrow.build((*input_shape[:-1], self.hidden))

    def call(self, inputs):
        return inputs + self.narrow(self.wide(self.norm(inputs)))

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden}


def stack(blocks=range(5)):
    parts = [Block(name=f"block{n}") for n in blocks]
    first = layers.Dense(16, name="first")
    head = layers.Dense(3, name="head")
    model = keras.Sequential([keras.Input((6,)), first, *parts, head])
    return randomized(model)


def vectors(samples=4, size=6, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(samples, size)).astype("float32")


TEACHERS = {
    "cnn": (residual_cnn, image),
    "transformer": (transformer, tokens),
    "stack": (stack, vectors),
}
# Of each: what is kept at depth 0.5, and the taps of the transfers.
HALVES = {
    "cnn": (
        {"first": (0, 2), "second": (0, 1)},
        [("a1", "a0"), ("a3", "a2"), ("b0", "b0"), ("b2", "b1")],
    ),
    "transformer": (
        {"blocks": (0, 2, 4)},
        [("block1", "block0"), ("block3", "block2"), ("block5", "block4")],
    ),
    "stack": (
        {"blocks": (0, 1, 3)},
        [("block0", "block0"), ("block2", "block1"), ("block4", "block3")],
    ),
}


def taps_of(transfers):
    return [
        (transfer.teacher_taps[0].text, transfer.student_taps[0].text)
        for transfer in transfers
    ]


def run(model, x):
    return numpy(model(x, training=False))


def inner_layers(layer):
    """The ids of a layer's layers, at any depth."""
    held = [*getattr(layer, "layers", []), *vars(layer).values()]
    held = [each for each in held if isinstance(each, layers.Layer)]
    return {id(each) for each in held}.union(*map(inner_layers, held))


def by_hand(source, target):
    """A model with the weights of the layers of the same names."""
    kept = [layer for layer in target.layers if layer.weights]
    for layer in kept:
        layer.set_weights(source.get_layer(layer.name).get_weights())
    return target


# --- depth ------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEACHERS)
def test_half_of_the_blocks_with_the_teachers_weights(kind):
    make, inputs = TEACHERS[kind]
    teacher, (kept, taps) = make(), HALVES[kind]
    before = weights_of(teacher)
    student, transfers = shrink(teacher, depth=0.5, name="small")
    assert student.name == "small"
    assert type(student) is type(teacher)
    assert taps_of(transfers) == taps
    assert all(transfer.adapters == [None] for transfer in transfers)
    # A model of those blocks that was written, not derived.
    reference = by_hand(teacher, make(**kept))
    assert student.count_params() == reference.count_params()
    x = inputs()
    assert_close(run(student, x), run(reference, x))
    assert np.abs(run(student, x) - run(teacher, x)).max() > 1e-2
    for old, new in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_whole_copy_is_the_teacher(kind):
    make, inputs = TEACHERS[kind]
    teacher = make()
    student, transfers = shrink(teacher)
    names = [layer.name for layer in student.layers]
    assert names == [layer.name for layer in teacher.layers]
    assert student.name == f"{teacher.name}_student"
    assert all(mine == its for mine, its in taps_of(transfers))
    x = inputs()
    expected = run(teacher, x)
    assert_close(run(student, x), expected)
    # No layer is shared.
    for variable in student.weights:
        variable.assign(np.zeros(variable.shape))
    assert_close(run(teacher, x), expected)
    assert not inner_layers(student) & inner_layers(teacher)


def test_keep_names_the_blocks():
    teacher = stack()
    student, transfers = shrink(teacher, keep=[1, 4])
    names = [layer.name for layer in student.layers]
    assert names == ["first", "block1", "block4", "head"]
    assert taps_of(transfers) == [("block3", "block1"), ("block4", "block4")]
    layer = [teacher.get_layer(name) for name in names]
    x = vectors()
    by_layers = layer[3](layer[2](layer[1](layer[0](x))))
    assert_close(run(student, x), numpy(by_layers))


def test_keep_of_each_run():
    _, transfers = shrink(residual_cnn(), keep=[[3], [0, 2]])
    assert taps_of(transfers) == [("a3", "a3"), ("b1", "b0"), ("b2", "b2")]
    assert [t.name for t in transfers] == ["block_1", "block_2", "block_3"]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "keep", [[[0]], [[0], [1]], [[0, 0], [0]], [[1, 0], [0]], [[4], [0]], [[]]]
)
def test_keep_that_does_not_fit(keep):
    with pytest.raises(ValueError, match=r"(?s)`keep`.*Received.*'a0', 'a1'"):
        shrink(residual_cnn(), keep=keep)


def test_a_stage_of_one_more_block():
    """ResNet-18's stages: a block that changes the shape, and one more."""
    student, _ = shrink(residual_cnn((0, 1), (0, 1)), depth=0.5)
    names = [layer.name for layer in student.layers]
    assert [n for n in names if len(n) == 2] == ["a0", "b0"]


def test_blocks_inside_of_a_long_skip():
    inputs = start = keras.Input((6,))
    x = inputs
    for n in range(4):
        y = layers.Dense(6, activation="relu", name=f"wide{n}")(x)
        x = layers.Add(name=f"block{n}")([x, layers.Dense(6)(y)])
    outputs = layers.Dense(2, name="head")(x + start)
    teacher = keras.Model(inputs, outputs)
    student, transfers = shrink(teacher, depth=0.25)
    names = [layer.name for layer in student.layers]
    assert [n for n in names if n.startswith("wide")] == ["wide0"]
    assert taps_of(transfers) == [("block3", "block0")]


def test_each_block_has_its_own_projection_of_a_condition():
    x = inputs = keras.Input((6,), name="x")
    condition = keras.Input((3,), name="condition")
    for n in range(3):
        shift = layers.Dense(6, name=f"shift{n}")(condition)
        x = layers.ReLU(name=f"block{n}")(layers.Dense(6)(x) + shift)
    outputs = layers.Dense(2)(x)
    teacher = keras.Model({"x": inputs, "condition": condition}, outputs)
    student, _ = shrink(teacher, depth=0.4)
    names = [layer.name for layer in student.layers]
    assert [n for n in names if n.startswith("shift")] == ["shift0"]
    assert set(student.input) == {"x", "condition"}


def test_a_second_input_is_no_block():
    """A decoder of an encoder's kinds of layers can't be left out."""
    first, second = keras.Input((4,)), keras.Input((4,))
    encoded = layers.Add()([layers.Dense(8)(first) for _ in range(3)])
    given = [encoded, encoded, second]
    decoded = layers.Add()([layers.Dense(8)(each) for each in given])
    teacher = keras.Model([first, second], layers.Dense(3)(decoded))
    with pytest.raises(ValueError, match="no repeated blocks"):
        shrink(teacher, depth=0.5)


def test_shared_layers_are_called_less_often():
    """ALBERT's blocks have the same weights."""
    inputs = keras.Input((6,))
    shared = layers.Dense(6, activation="tanh", name="shared")
    x = inputs
    for _ in range(4):
        x = shared(x)
    teacher = keras.Model(inputs, layers.Dense(2, name="head")(x))
    student, transfers = shrink(teacher, depth=0.5)
    assert student.count_params() == teacher.count_params()
    head, data = teacher.get_layer("head"), vectors()
    assert_close(run(student, data), numpy(head(shared(shared(data)))))
    # A tap at a layer that is called twice reads its last call only; the end
    # of the last call is what the head is given.
    assert taps_of(transfers) == [("head:input", "head:input")]


def test_what_blocks_are_of_one_kind():
    """Names, dropout rates and starting values don't matter, functions do."""

    def model(*changes):
        parts = [
            layers.Dense(6, **{"activation": "relu", **change})
            for change in changes
        ]
        return keras.Sequential([keras.Input((6,)), *parts])

    alike = [{}, {"kernel_initializer": "zeros"}, {"kernel_regularizer": "l2"}]
    student, _ = shrink(model(*alike), depth=0.4)
    assert len(student.layers) == 1
    with pytest.raises(ValueError, match="no repeated blocks"):
        shrink(model({}, {"activation": "tanh"}), depth=0.5)


def test_blocks_of_models_in_the_model():
    cnn = residual_cnn()
    backbone = keras.Model(
        cnn.input, cnn.get_layer("pool").output, name="backbone"
    )
    head = layers.Dense(4, name="head")
    teacher = keras.Sequential([keras.Input((8, 8, 2)), backbone, head])
    student, transfers = shrink(teacher, depth=0.5)
    assert taps_of(transfers) == [
        (f"backbone/{mine}", f"backbone/{its}")
        for mine, its in HALVES["cnn"][1]
    ]
    expected, _ = shrink(backbone, depth=0.5)
    x = image()
    inner = student.get_layer("backbone")
    assert_close(run(inner, x), run(expected, x))
    np.testing.assert_array_equal(
        student.get_layer("head").get_weights()[0], head.get_weights()[0]
    )


def test_models_as_blocks():
    def block(n):
        inputs = keras.Input((6,))
        outputs = inputs + layers.Dense(6)(inputs)
        return keras.Model(inputs, outputs, name=f"block{n}")

    parts = [block(n) for n in range(4)]
    teacher = keras.Sequential([keras.Input((6,)), *parts])
    student, transfers = shrink(teacher, depth=0.5)
    assert [layer.name for layer in student.layers] == ["block0", "block2"]
    assert taps_of(transfers) == [("block1", "block0"), ("block3", "block2")]
    x = vectors()
    assert_close(run(student, x), numpy(parts[2](parts[0](x))))


def test_outputs_between_the_blocks_stay():
    cnn = residual_cnn()
    tensors = {"low": cnn.get_layer("a3").output, "high": cnn.output}
    teacher = keras.Model(cnn.input, tensors)
    student, transfers = shrink(teacher, depth=0.5)
    assert set(student.output) == {"low", "high"}
    assert taps_of(transfers) == HALVES["cnn"][1]
    reference, _ = shrink(cnn, depth=0.5)
    x = image()
    assert_close(numpy(student(x)["high"]), run(reference, x))


# --- training, saving -------------------------------------------------------


SHALLOW = {
    "cnn": (lambda: residual_cnn([0, 1], [0, 1]), image, 1.0),
    "transformer": (lambda: transformer([0, 1]), tokens, 0.5),
    "stack": (lambda: stack([0, 1]), vectors, 1.0),
}


# A random teacher's features are of very different sizes.
@pytest.mark.filterwarnings("ignore:Transfer '.*' is:UserWarning")
@pytest.mark.parametrize("kind", SHALLOW)
def test_the_transfers_train(kind, tmp_path):
    make, inputs, width = SHALLOW[kind]
    teacher = make()
    student, transfers = shrink(teacher, depth=0.5, width=width)
    before = weights_of(teacher)
    distiller = kd.Distiller(
        teacher,
        student,
        [kd.Transfer(kd.losses.SoftTargets()), *transfers],
        hard_weight=0.0,
    )
    jit = BACKEND != "torch"
    distiller.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=jit)
    logs = distiller.fit(inputs(16), epochs=6, batch_size=8, verbose=0).history
    assert {f"{transfer.name}_loss" for transfer in transfers} <= logs.keys()
    blocks = [logs[f"{transfer.name}_loss"] for transfer in transfers]
    assert sum(each[-1] for each in blocks) < sum(each[0] for each in blocks)
    assert logs["loss"][-1] < logs["loss"][0]
    for old, new in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)
    path = tmp_path / "student.keras"
    student.save(path)
    x = inputs()
    assert_close(run(keras.models.load_model(path), x), run(student, x))


def test_a_frozen_teachers_student_learns():
    teacher = stack()
    teacher.trainable = False
    student, _ = shrink(teacher, depth=0.5)
    assert len(student.trainable_weights) == len(student.weights)
    assert not teacher.trainable_weights


def test_dropout_drops_in_the_student():
    student, _ = shrink(transformer(), keep=[5])
    keras.utils.set_random_seed(0)
    first, second = (numpy(student(tokens(), training=True)) for _ in "ab")
    assert np.abs(first - second).max() > 1e-3


def test_layers_that_did_not_learn_do_not():
    teacher = stack()
    teacher.get_layer("first").trainable = False
    student, _ = shrink(teacher, depth=0.5)
    assert not student.get_layer("first").trainable
    assert student.get_layer("block0").trainable


def test_new_weights_but_what_was_adapted_to_the_data():
    scaling = layers.Normalization(name="scaling")
    scaling.adapt(vectors(32) * 3.0 + 1.0)
    parts = [layers.Dense(6, name=f"block{n}") for n in range(2)]
    teacher = keras.Sequential([keras.Input((6,)), scaling, *parts])
    student, _ = shrink(teacher, depth=0.5, initializer="random")
    mine, its = (m.get_layer("block0").kernel for m in (teacher, student))
    assert np.abs(numpy(mine) - numpy(its)).max() > 0.1
    x = vectors()
    assert_close(
        run(student.get_layer("scaling"), x),
        run(scaling, x),
    )


# --- width ------------------------------------------------------------------


def even(size, smaller):
    return [index * size // smaller for index in range(smaller)]


def test_narrower_layers_have_even_channels_of_the_teachers():
    teacher = residual_cnn()
    student, transfers = shrink(teacher, width=0.75, divisor=1)
    channels = {"stem": 6, "a0_1": 6, "b0_1": 12, "b0_skip": 12, "b2_2": 12}
    found = {name: student.get_layer(name).filters for name in channels}
    assert found == channels
    assert student.output_shape == (None, 3)
    mine, its = (m.get_layer("b0_1") for m in (teacher, student))
    kernel = numpy(mine.kernel)[:, :, even(8, 6)][..., even(16, 12)]
    np.testing.assert_array_equal(numpy(its.kernel), kernel)
    np.testing.assert_array_equal(
        numpy(its.bias), numpy(mine.bias)[even(16, 12)]
    )
    head = numpy(teacher.get_layer("head").kernel)[even(16, 12)]
    np.testing.assert_array_equal(numpy(student.get_layer("head").kernel), head)
    assert len(transfers) == 7
    assert all(
        isinstance(transfer.adapters[0], kd.layers.FeatureAdapter)
        for transfer in transfers
    )


def test_widths_are_multiples_of_the_divisor_where_as_large():
    parts = [layers.Dense(units) for units in (64, 40, 10, 1, 3)]
    teacher = keras.Sequential([keras.Input((4,)), *parts])
    student, _ = shrink(teacher, width=0.5, divisor=8)
    assert [layer.units for layer in student.layers] == [32, 24, 5, 1, 3]


def test_layers_of_other_classes_follow_their_inputs():
    student, transfers = shrink(stack([0, 1]), width=0.5)
    block = student.get_layer("block0")
    assert (block.hidden, block.narrow.units) == (32, 8)
    assert student(vectors()).shape == (4, 3)
    assert transfers[0].adapters[0] is not None


def test_narrower_attention_has_fewer_heads():
    student, _ = shrink(transformer(), width=0.5)
    attention = student.get_layer("attention1")
    assert (attention.num_heads, attention.key_dim) == (2, 4)
    assert student.get_layer("embedding").output_dim == 8
    assert student.get_layer("wide1").units == 16
    assert student.get_layer("narrow1").units == 8


def dead_channels(model, names):
    """Makes every second channel of some layers 0, whatever they are given."""
    for name in names:
        layer = model.get_layer(name)
        layer.set_weights(
            [w * (np.arange(w.shape[-1]) % 2 == 0) for w in layer.get_weights()]
        )
    return model


def test_what_is_cut_off_is_what_fits_together():
    """Without channels that are 0 anyway, the outputs are the teacher's."""
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(16, 3, activation="relu", name="conv")(inputs)
    y = layers.Conv1D(16, 1, name="branch")(x)
    x = layers.Concatenate()([x, y, layers.SeparableConv1D(16, 1, name="s")(x)])
    x = layers.Flatten()(layers.PReLU(shared_axes=[1])(x))
    x = layers.Dense(32, activation="gelu", name="dense")(x)
    outputs = layers.Dense(3, name="head")(x)
    names = ["conv", "branch", "s", "dense"]
    teacher = dead_channels(randomized(keras.Model(inputs, outputs)), names)
    # Only what is made in the end: its depthwise kernel has one channel.
    student, transfers = shrink(teacher, width=0.5)
    assert transfers == []
    assert student.get_layer("dense").kernel.shape == (4 * 3 * 8, 16)
    x = np.random.default_rng(0).normal(size=(4, 6, 4)).astype("float32")
    assert_close(run(student, x), run(teacher, x))


def test_recurrent_layers_are_narrowed_gate_by_gate():
    layer = layers.Bidirectional(layers.LSTM(16), name="lstm")
    head = layers.Dense(3, name="head")
    teacher = keras.Sequential([keras.Input((5, 4)), layer, head])
    randomized(teacher)
    student, _ = shrink(teacher, width=0.5)
    old = layer.forward_layer.cell.kernel
    new = student.get_layer("lstm").forward_layer.cell.kernel
    gates = np.reshape(numpy(old), (4, 4, 16))[:, :, ::2]
    np.testing.assert_array_equal(numpy(new), np.reshape(gates, (4, 32)))


def test_what_is_added_to_the_outputs_keeps_its_width():
    inputs = keras.Input((6,))
    x = layers.Dense(16, name="stem")(inputs)
    for n in range(2):
        y = layers.Dense(32, activation="relu", name=f"wide{n}")(x)
        x = x + layers.Dense(16, name=f"back{n}")(y)
    student, _ = shrink(keras.Model(inputs, x), width=0.5)
    units = {
        layer.name: layer.units
        for layer in student.layers
        if isinstance(layer, layers.Dense)
    }
    assert units == {
        "stem": 16,
        "wide0": 16,
        "back0": 16,
        "wide1": 16,
        "back1": 16,
    }


def test_narrower_models_in_the_model():
    cnn = residual_cnn()
    backbone = keras.Model(
        cnn.input, cnn.get_layer("pool").output, name="backbone"
    )
    teacher = keras.Sequential(
        [keras.Input((8, 8, 2)), backbone, layers.Dense(4, name="head")]
    )
    student, transfers = shrink(teacher, width=0.5, depth=0.5)
    assert student.get_layer("backbone").output_shape == (None, 8)
    assert student.output_shape == (None, 4)
    assert all(transfer.adapters[0] for transfer in transfers)
    student(image())


def test_shapes_and_groups_follow():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(32, 3, padding="same")(inputs)
    x = layers.GroupNormalization(8, name="norm")(x)
    x = layers.Conv2D(32, 3, groups=32, name="depthwise")(x)
    gate = layers.Reshape((1, 1, 32))(layers.GlobalAveragePooling2D()(x))
    x = x * layers.Dense(32, activation="sigmoid")(gate)
    x = layers.Reshape((-1, 32), name="tokens")(x)
    x = ops.mean(ops.reshape(x, (-1, 4, 32)), axis=1)
    teacher = keras.Model(inputs, layers.Dense(3)(x))
    student, _ = shrink(teacher, width=0.25, divisor=4)
    assert student.get_layer("depthwise").groups == 8
    assert student.get_layer("norm").groups == 8
    assert student.get_layer("tokens").target_shape == (-1, 8)
    student(np.zeros((2, 4, 4, 3), "float32"))


BAKED = {
    "reshape": lambda x: layers.Reshape((4, 4, 2), name="baked")(x),
    "lambda": lambda x: layers.Lambda(lambda t: t * 2.0, name="baked")(x),
    "slice": lambda x: x[:, :8],
    "array": lambda x: x + ops.ones((32,)),
}


@pytest.mark.parametrize("kind", BAKED)
def test_a_width_that_is_hard_coded(kind):
    inputs = keras.Input((6,))
    x = BAKED[kind](layers.Dense(32)(inputs))
    outputs = layers.Dense(3)(layers.Flatten()(x))
    name = "baked" if kind in ("reshape", "lambda") else "(get_item|add)"
    match = r"(?s)hard-coded in.*Received.*"
    with pytest.raises(ValueError, match=match) as error:
        shrink(keras.Model(inputs, outputs), width=0.5)
    assert re.search(rf"layer '{name}[_\d]*'", str(error.value))


class Stated(layers.Layer):
    """States what it returns without a look at what it is given."""

    def __init__(self, widens, **kwargs):
        super().__init__(**kwargs)
        self.widens = widens

    def build(self, _):
        self.bias = self.add_weight(shape=(32,))

    def call(self, inputs):
        return (inputs[..., :1] if self.widens else inputs) + self.bias

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "widens": self.widens}


@pytest.mark.parametrize("least, size", [(1, 4), (9, 64)])
@pytest.mark.parametrize("widens", [False, True])
def test_layers_that_do_not_fit_together(widens, least, size):
    # A length that is left open, and that has to be 1 or 9 at least.
    inputs = keras.Input((None, 6))
    x = layers.Conv1D(32, least)(inputs)
    inner = keras.Model(inputs, Stated(widens, name="baked")(x))
    teacher = keras.Model(inputs, layers.Dense(3)(inner(inputs)))
    shapes = re.escape(f"of shapes [({size}, {size - least + 1}, 16)]")
    with pytest.raises(ValueError, match=rf"'baked'.*{shapes}.*`depth`"):
        shrink(teacher, width=0.5)


class Scaled(layers.Layer):
    """Scales each sample."""

    def call(self, inputs, factor):
        return inputs * factor


def test_a_layer_that_is_called_by_keywords():
    inputs = keras.Input((6,)), keras.Input((1,))
    hidden = layers.Dense(32, name="hidden")(inputs[0])
    x = layers.Dense(16, name="last")(hidden)
    x = Scaled()(factor=inputs[1], inputs=x)
    student, _ = shrink(keras.Model(inputs, x), width=0.5)
    assert student.get_layer("hidden").units == 16
    assert student.output_shape == (None, 16)


class Tied(layers.Embedding):
    """Makes logits, too; as KerasHub's."""

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        return ops.matmul(inputs, ops.transpose(self.embeddings))

    def compute_output_spec(self, inputs, reverse=False):
        width = self.input_dim if reverse else self.output_dim
        shape = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*shape, width), "float32")


class Table(layers.Layer):
    """An embedding inside of a layer."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.tied = Tied(11, width)

    def call(self, inputs):
        return self.tied(inputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((*inputs.shape, self.width), "float32")

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def tied_model(is_inside):
    """A backbone, whose embedding makes the logits of the model around it."""
    embedding = Table(16) if is_inside else Tied(11, 16)
    tied = embedding.tied if is_inside else embedding
    inputs = x = keras.Input((5,), dtype="int32")
    for block in [embedding, *[Block(name=f"block{n}") for n in range(2)]]:
        x = block(x)
    backbone = keras.Model(inputs, x, name="backbone")
    logits = tied(backbone(inputs), reverse=True)
    return randomized(keras.Model(inputs, logits))


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_shared_layer_of_two_models_stays_shared(is_inside):
    teacher = tied_model(is_inside)
    student, _ = shrink(teacher, depth=0.5)
    backbone = teacher.get_layer("backbone")
    block = backbone.get_layer("block0")
    assert student.count_params() == 11 * 16 + block.count_params()
    table = numpy(backbone.layers[1].weights[0])
    expected = numpy(block(table[tokens()])) @ table.T
    assert_close(run(student, tokens()), expected)


def test_a_narrower_shared_layer_stays_shared():
    student, _ = shrink(tied_model(is_inside=False), width=0.5)
    backbone = student.get_layer("backbone")
    assert student.count_params() == backbone.count_params()
    table = numpy(backbone.layers[1].embeddings)
    assert table.shape == (11, 8)
    hidden = numpy(backbone(tokens()))
    assert_close(run(student, tokens()), hidden @ table.T)


def test_code_is_no_hindrance_to_fewer_blocks():
    factor = 2.0
    parts = [layers.Dense(6, name=f"block{n}") for n in range(2)]
    teacher = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Lambda(lambda x: factor * ops.relu(x)),
            *parts,
        ]
    )
    student, _ = shrink(teacher, depth=0.5)
    x = vectors()
    expected = numpy(parts[0](2.0 * np.maximum(x, 0.0)))
    assert_close(run(student, x), expected)


# --- classes of their own ---------------------------------------------------


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Backbone(keras.Model):
    """As KerasHub's: a Functional model, and a config of its own."""

    def __init__(
        self, num_layers=4, hidden_dim=16, num_heads=4, name=None, **kwargs
    ):
        inputs = keras.Input((5,), dtype="int32", name="ids")
        x = layers.Embedding(11, hidden_dim, name="embedding")(inputs)
        for n in range(num_layers):
            size = hidden_dim // num_heads
            y = layers.MultiHeadAttention(num_heads, size)(x, x)
            x = layers.Add(name=f"layer_{n}")([x, y])
        super().__init__({"ids": inputs}, {"tokens": x}, name=name, **kwargs)
        self.num_layers, self.num_heads = num_layers, num_heads
        self.hidden_dim = hidden_dim

    def get_config(self):
        return {
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "name": self.name,
        }


def test_a_class_of_its_own_by_its_config(tmp_path):
    teacher = randomized(Backbone(name="backbone"))
    plain, transfers = shrink(teacher, depth=0.5)
    assert type(plain) is type(keras.Model(plain.input, plain.output))
    assert taps_of(transfers) == [
        ("layer_1", "layer_0"),
        ("layer_3", "layer_2"),
    ]
    student, transfers = shrink(teacher, depth=0.5, config={"num_layers": 2})
    assert (type(student), student.name) == (Backbone, "backbone_student")
    assert (student.num_layers, student.num_heads) == (2, 4)
    assert taps_of(transfers) == [
        ("layer_1", "layer_0"),
        ("layer_3", "layer_1"),
    ]
    x = {"ids": tokens()}
    expected = numpy(plain(x)["tokens"])
    assert_close(numpy(student(x)["tokens"]), expected)
    path = tmp_path / "student.keras"
    student.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded) is Backbone
    assert_close(numpy(loaded(x)["tokens"]), expected)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "config, message",
    [
        ({}, r"builds other layers.*no `config`"),
        ({"num_layers": 3}, r"Received: config=\{'num_layers': 3\}"),
        ({"layers": 2}, r"Received: 'layers', for the keys \['hidden_dim'"),
    ],
)
def test_a_config_that_does_not_make_the_student(config, message):
    with pytest.raises(ValueError, match=message):
        shrink(Backbone(), depth=0.5, config=config)


class OddBlock(Block):
    """Its class can make it, but not from a config."""

    def get_config(self):
        raise AttributeError("no attribute 'hidden_size'")


class OddBackbone(keras.Model):
    def __init__(self, num_layers=4, name=None):
        x = inputs = keras.Input((6,))
        for n in range(num_layers):
            x = OddBlock(8, name=f"block{n}")(x)
        super().__init__(inputs, x, name=name)
        self.num_layers = num_layers

    def get_config(self):
        return {"num_layers": self.num_layers, "name": self.name}


def test_a_class_whose_layers_cannot_be_made_again():
    teacher = randomized(OddBackbone(name="backbone"))
    student, _ = shrink(teacher, depth=0.5, config={"num_layers": 2})
    assert student.num_layers == 2
    x = vectors()
    first, second = (teacher.get_layer(f"block{n}") for n in (0, 2))
    assert_close(run(student, x), numpy(second(first(x))))
    with pytest.raises(ValueError, match="the layer 'block0'.*'hidden_size'"):
        shrink(teacher, depth=0.5)


def test_keras_hub():
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
    teacher = hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=4,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=8,
    )
    plain, _ = shrink(teacher, depth=0.5)
    student, _ = shrink(teacher, depth=0.5, config={"num_layers": 2})
    assert type(student) is hub.models.BertBackbone
    old, new = teacher.transformer_layers[2], student.transformer_layers[1]
    same = plain.get_layer(old.name)
    for weights in zip(
        old.get_weights(), same.get_weights(), new.get_weights()
    ):
        np.testing.assert_array_equal(weights[0], weights[1])
        np.testing.assert_array_equal(weights[0], weights[2])
    task = hub.models.BertTextClassifier(teacher, num_classes=2)
    narrow, _ = shrink(
        task, width=0.5, config={"backbone": {"hidden_dim": 8}}, divisor=1
    )
    assert type(narrow) is hub.models.BertTextClassifier
    assert (narrow.backbone.hidden_dim, narrow.backbone.num_heads) == (8, 2)
    teacher = hub.models.ResNetBackbone(
        [64], [7], [64, 64], [2, 3], [1, 2], "basic_block"
    )
    student, _ = shrink(
        teacher, depth=0.5, config={"stackwise_num_blocks": [1, 2]}
    )
    assert type(student) is hub.models.ResNetBackbone


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Classifier(keras.Model):
    """As KerasHub's: around a backbone, which is in its config."""

    def __init__(self, backbone, classes=3, name=None):
        head = layers.Dense(classes, name="head")
        features = backbone(backbone.input)["tokens"]
        x = head(layers.GlobalAveragePooling1D()(features))
        super().__init__(backbone.input, x, name=name)
        self.classes, self.backbone = classes, backbone

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return {
            "backbone": backbone,
            "classes": self.classes,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_a_class_of_its_own_around_another(width):
    teacher = randomized(Classifier(Backbone(name="backbone"), name="task"))
    teacher.get_layer("head").trainable = False
    changes = {
        "num_layers": 2,
        "hidden_dim": int(16 * width),
        "num_heads": int(4 * width),
    }
    student, transfers = shrink(
        teacher, depth=0.5, width=width, config={"backbone": changes}
    )
    assert (type(student), type(student.backbone)) == (Classifier, Backbone)
    found = student.backbone.get_config()
    assert found == {**changes, "name": "backbone"}
    table, narrow = (
        numpy(model.backbone.get_layer("embedding").embeddings)
        for model in (teacher, student)
    )
    np.testing.assert_array_equal(narrow, table[:, :: int(1 / width)])
    assert not student.get_layer("head").trainable
    assert taps_of(transfers) == [
        ("backbone/layer_1", "backbone/layer_0"),
        ("backbone/layer_3", "backbone/layer_1"),
    ]
    x = {"ids": tokens()}
    if width == 1.0:
        features, _ = shrink(teacher.backbone, depth=0.5)
        pooled = numpy(features(x)["tokens"]).mean(axis=1)
        kernel, bias = teacher.get_layer("head").get_weights()
        assert_close(run(student, x), pooled @ kernel + bias)
    kd.Distiller(teacher, student, transfers)


# --- errors -----------------------------------------------------------------


@pytest.mark.one_backend
def test_a_teacher_without_a_graph():
    with pytest.raises(
        ValueError, match=r"graph of layers.*Received: teacher="
    ):
        shrink(subclassed_model(4, name="teacher"), depth=0.5)
    with pytest.raises(ValueError, match="built Sequential"):
        shrink(keras.Sequential([layers.Dense(3)]), depth=0.5)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments",
    [
        {"depth": 0.0},
        {"depth": 2},
        {"width": "half"},
        {"width": -0.5},
        {"divisor": 0},
        {"initializer": "zeros"},
        {"depth": 0.5, "keep": [0]},
    ],
)
def test_arguments_that_make_no_sense(arguments):
    (key, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=rf"Received: {key}={value!r}"):
        shrink(stack(), **arguments)


@pytest.mark.one_backend
def test_a_depth_that_drops_nothing():
    with pytest.raises(ValueError, match=r"`depth`.*0.95.*'block4'"):
        shrink(stack(), depth=0.95)


@pytest.mark.one_backend
def test_no_width_is_free():
    teacher = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="No layer of the teacher can be"):
        shrink(teacher, width=0.5)


class WithoutConfig(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


@pytest.mark.one_backend
def test_a_layer_that_cannot_be_made_again():
    inputs = keras.Input((6,))
    x = WithoutConfig(ops.relu, name="odd")(inputs)
    x = layers.Dense(6)(layers.Dense(6)(x))
    with pytest.raises(ValueError, match=r"Received: the layer 'odd'"):
        shrink(keras.Model(inputs, x), depth=0.5)
