"""Models that end in a softmax or sigmoid, and what is read before it."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import every_layer
from support import numpy

import keras_kd as kd
from keras_kd import losses
from keras_kd.testing import assert_close

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


ENDS = {"softmax": softmax, "sigmoid": sigmoid, "linear": lambda z: z}


class Subclassed(keras.Model):
    """Its code decides what comes last."""

    def __init__(self, end):
        super().__init__()
        self.hidden = layers.Dense(5, activation="relu")
        self.head = layers.Dense(3, activation=end, name="head")

    def call(self, inputs):
        return {"cls": self.head(self.hidden(inputs))}


class Hidden(keras.Model):
    """No layer of it knows of its softmax."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3, kernel_initializer="glorot_normal")

    def call(self, inputs):
        return ops.softmax(4.0 * self.head(inputs))


def of_argument(end):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation=end, name="head")]
    )


def of_layer(end):
    last = layers.Softmax if end == "softmax" else layers.Activation
    arguments = {} if end == "softmax" else {"activation": end}
    inputs = keras.Input((4,))
    outputs = last(name="end", **arguments)(layers.Dense(3)(inputs))
    return keras.Model(inputs, outputs)


def of_operation(end):
    inputs = keras.Input((4,))
    logits = layers.Dense(3)(inputs)
    return keras.Model(inputs, getattr(ops, end)(logits))


def nested(end):
    inputs = keras.Input((4,))
    inner = of_argument(end)
    inner.name = "inner"
    return keras.Model(inputs, inner(inputs))


class Block(layers.Layer):
    """A layer of others, as a model may end in."""

    def __init__(self, end):
        super().__init__()
        self.dense = layers.Dense(3, activation=end)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


def of_block(end):
    inputs = keras.Input((4,))
    return keras.Model(inputs, Block(end)(inputs))


def several(end):
    inputs = keras.Input((4,))
    head = layers.Dense(3, activation=end)(inputs)
    other = layers.Dense(2, activation="tanh")(inputs)
    return keras.Model(inputs, {"other": other, "cls": head})


MODELS = {
    "argument": (of_argument, "softmax", "", ":logits", "head:logits"),
    "layer": (of_layer, "softmax", "", ":logits", "end:logits"),
    "activation": (of_layer, "sigmoid", "", ":logits", "end:logits"),
    "operation": (of_operation, "softmax", "", ":logits"),
    "nested": (nested, "sigmoid", "", ":logits", "inner/head:logits"),
    "block": (of_block, "softmax", "", ":logits"),
    "several": (several, "softmax", "[cls]", ":logits[cls]"),
    "subclassed": (Subclassed, "sigmoid", "[cls]", ":logits[cls]"),
    "layer_inside": (Subclassed, "softmax", "head", "head:logits"),
    "linear": (of_argument, "linear", "", ":logits"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_what_the_last_activation_is_given(kind):
    make, end, output, *taps = MODELS[kind]
    model = make(end)
    model(X)
    found = kd.extract_features(model, X, [output, *taps])
    for tap in taps:
        assert_close(ENDS[end](numpy(found[tap])), numpy(found[output]), 1e-5)
    for layer in every_layer(model):
        assert not {"call", "activation"} & {
            name for name, value in vars(layer).items() if _is_wrapped(value)
        }


def _is_wrapped(value):
    return "keras_kd" in getattr(value, "__module__", "") or hasattr(
        value, "__wrapped__"
    )


def test_a_classifier_of_keras_applications():
    model = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=4
    )
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    taps = ["", ":logits", "predictions:logits"]
    found = kd.extract_features(model, images.astype("float32"), taps)
    for tap in taps[1:]:
        assert_close(softmax(numpy(found[tap])), numpy(found[""]), 1e-5)


def test_logits_bear_the_mask_of_the_output():
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.Masking(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    x = np.ones((2, 3, 4), "float32")
    x[1, 1:] = 0.0
    logits = kd.extract_features(model, x, ":logits")[":logits"]
    # Masked tokens are absent.
    loss = losses.SoftTargets()
    teacher = np.zeros((2, 3, 3), "float32")
    kept = numpy(logits)[[0, 0, 0, 1], [0, 1, 2, 0]]
    expected = loss(np.zeros((4, 3), "float32"), kept)
    assert_close(numpy(loss(teacher, logits)), numpy(expected))


@pytest.mark.one_backend
def test_logits_that_are_not_found():
    inputs = keras.Input((4,))
    shaped = layers.Reshape((3, 1))(layers.Dense(3, "softmax")(inputs))
    recurrent = layers.LSTM(3)(layers.Reshape((2, 2))(inputs))
    for output in (shaped, recurrent):
        with pytest.raises(
            ValueError, match="not come from a layer's activation"
        ):
            kd.extract_features(keras.Model(inputs, output), X, ":logits")
    with pytest.raises(ValueError, match="has an output and no layers"):
        kd.teachers.Teacher().at_output(X, [kd.Tap(":logits")])


# --- the distiller ----------------------------------------------------------


def fitted(models, loss, **arguments):
    """The first loss of a transfer, and the warnings of probabilities."""
    transfer = kd.Transfer(loss, name="k", **arguments)
    distiller = kd.Distiller(*models, transfer)
    distiller.compile(keras.optimizers.SGD(0.0))
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            found += distiller.fit(X, batch_size=32, verbose=0).history[
                "k_loss"
            ]
    texts = [str(each.message) for each in caught]
    return found[0], [text for text in texts if "probabilities" in text]


def expected(teacher, student, end, temperature):
    """The divergence of two models that end in `end`, in float64."""
    p, q = (numpy(m(X)).astype("float64") for m in (teacher, student))
    if end == "softmax":
        p, q = (softmax(np.log(each) / temperature) for each in (p, q))
        return temperature**2 * (p * np.log(p / q)).sum(axis=-1).mean()
    p, q = (sigmoid(np.log(v / (1 - v)) / temperature) for v in (p, q))
    parts = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * parts.sum(axis=-1).mean()


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_what_is_not_said_is_found_out_and_right(end):
    teacher, student = of_argument(end), of_argument(end)
    make = losses.BinarySoftTargets if end == "sigmoid" else losses.SoftTargets
    right = expected(teacher, student, end, 2.0)
    value, warned = fitted((teacher, student), make(2.0))
    assert_close(value, right, 1e-4)
    # Once for each side.
    assert len(warned) == 2
    assert all(f"they come from a {end}" in text for text in warned)
    said = {"teacher_from_logits": False, "student_from_logits": False}
    taps = {"teacher": ":logits", "student": "head:logits"}
    for loss, arguments in ((make(2.0, **said), {}), (make(2.0), taps)):
        value, warned = fitted((teacher, student), loss, **arguments)
        assert_close(value, right, 1e-4)
        assert not warned


def test_a_softmax_in_the_code_of_a_model_is_known_by_its_values():
    teacher, student = Hidden(), of_argument("linear")
    teacher(X)
    _, warned = fitted((teacher, student), losses.ReverseKL())
    assert len(warned) == 1
    assert "`teacher_from_logits=False`" in warned[0]
    # What a layer in the code does is known.
    teacher = Subclassed("sigmoid")
    teacher(X)
    _, warned = fitted(
        (teacher, student), losses.BinarySoftTargets(), teacher="[cls]"
    )
    assert ["come from a sigmoid" in text for text in warned] == [True]


def test_what_is_said_wrongly_is_warned_of():
    teacher, student = of_argument("linear"), of_argument("linear")
    loss = losses.SoftTargets(teacher_from_logits=False)
    _, warned = fitted((teacher, student), loss)
    assert ["are no probabilities" in text for text in warned] == [True]


def test_rules_get_logits_of_probabilities():
    teacher, student = of_argument("softmax"), of_argument("linear")
    rule = kd.rules.TemperatureByEntropy(2.0, 6.0)
    values = [
        fitted((teacher, student), loss, rules=[rule], teacher=tap)[0]
        for loss, tap in (
            (losses.SoftTargets(teacher_from_logits=False), ""),
            (losses.SoftTargets(), ":logits"),
        )
    ]
    assert_close(*values, 1e-4)


@pytest.mark.parametrize("end", ["sigmoid", "linear"])
def test_metrics_of_one_output(end):
    models = [
        keras.Sequential([keras.Input((4,)), layers.Dense(1, activation=end)])
        for _ in range(2)
    ]
    outputs = [numpy(model(X)).astype("float64") for model in models]
    p, q = outputs if end == "sigmoid" else map(sigmoid, outputs)
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    distiller = kd.Distiller(*models, kd.losses.FeatureMatching())
    distiller.compile(
        "sgd",
        metrics=[kd.metrics.TeacherAgreement(), kd.metrics.TeacherDivergence()],
    )
    found = distiller.evaluate(X, verbose=0, return_dict=True)
    assert_close(found["teacher_agreement"], np.mean((p > 0.5) == (q > 0.5)))
    assert_close(found["teacher_divergence"], np.mean(divergence), 1e-4)


def test_a_masked_vocabulary_is_trained():
    lowest = float(np.finfo("float32").min)
    inputs = keras.Input((4,))
    logits = layers.Dense(3)(inputs)
    mask = np.array([[0.0, 0.0, 1.0]], "float32")
    teacher = keras.Model(inputs, ops.where(mask > 0, lowest, logits))
    student = of_argument("linear")
    value, warned = fitted((teacher, student), losses.SoftTargets(2.0))
    t, s = (numpy(m(X)).astype("float64") / 2.0 for m in (teacher, student))
    p, q = softmax(t)[:, :2], softmax(s)[:, :2]
    assert not warned
    assert_close(value, 4.0 * (p * np.log(p / q)).sum(axis=-1).mean(), 1e-4)
    # Infinity is still refused.
    teacher = keras.Model(inputs, ops.where(mask > 0, -np.inf, logits))
    with pytest.raises(ValueError, match="not finite"):
        fitted((teacher, student), losses.SoftTargets())


# --- several outputs --------------------------------------------------------


def heads():
    inputs = keras.Input((4,))
    outputs = {
        "cls": layers.Dense(3, name="cls")(inputs),
        "box": layers.Dense(4, activation="sigmoid", name="box")(inputs),
        "yes": layers.Dense(1, activation="sigmoid", name="yes")(inputs),
    }
    return keras.Model(inputs, outputs)


def test_the_default_of_several_outputs():
    teacher, student = heads(), heads()
    distiller = kd.Distiller(teacher, student)
    assert not distiller.transfers  # The loss tells which are classes.
    hard = {
        "cls": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "box": "mse",
        "yes": "binary_crossentropy",
    }
    labels = {
        "cls": np.arange(32) % 3,
        "box": np.ones((32, 4), "float32"),
        "yes": np.ones((32, 1), "float32"),
    }
    with pytest.warns(UserWarning, match=r"\['box'\] by squared error"):
        distiller.compile(keras.optimizers.SGD(0.0), hard)
    with pytest.warns(UserWarning, match="come from a sigmoid"):
        found = distiller.fit(X, labels, verbose=0).history
    t, s = (
        {key: numpy(each).astype("float64") for key, each in model(X).items()}
        for model in (teacher, student)
    )
    p, q = softmax(t["cls"] / 4.0), softmax(s["cls"] / 4.0)
    soft = 16.0 * (p * np.log(p / q)).sum(axis=-1).mean()
    squared = ((t["box"] - s["box"]) ** 2).mean()
    yes = expected(lambda x: t["yes"], lambda x: s["yes"], "sigmoid", 4.0)
    terms = {
        "cls_soft_targets_loss": soft,
        "box_squared_error_loss": squared,
        "yes_binary_soft_targets_loss": yes,
    }
    for key, value in terms.items():
        assert_close(found[key][0], 0.9 * value, 1e-4)
    terms |= dict.fromkeys(["hard_loss", "student_losses"])
    assert {key for key in found if "loss" in key} == {
        "loss",
        *terms,
        *(f"{name}_loss" for name in hard),
    }


@pytest.mark.one_backend
def test_another_compiled_loss_chooses_anew():
    distiller = kd.Distiller(heads(), heads())
    with pytest.warns(UserWarning, match=r"\['cls', 'box', 'yes'\] by squ"):
        distiller.compile("sgd", "mse")
    names = [transfer.name for transfer in distiller.transfers]
    assert names == [f"{name}_squared_error" for name in ("cls", "box", "yes")]
    hard = dict.fromkeys(["cls", "box", "yes"], "binary_crossentropy")
    distiller.compile("sgd", hard)
    names = [transfer.name for transfer in distiller.transfers]
    assert names[0] == "cls_binary_soft_targets"
    assert distiller.get_config()["transfers"] == list(distiller.transfers)
    # A list of outputs is named as Keras names it.
    inputs = keras.Input((4,))
    pair = [
        keras.Model(
            inputs,
            [
                layers.Dense(2, activation="softmax", name="first")(inputs),
                layers.Dense(2, activation="softmax", name="second")(inputs),
            ],
        )
        for _ in range(2)
    ]
    distiller = kd.Distiller(*pair)
    distiller.compile("sgd")
    names = [transfer.name for transfer in distiller.transfers]
    assert names == ["first_soft_targets", "second_soft_targets"]


class Heads(keras.Model):
    """Several outputs, of which only a run can tell."""

    def __init__(self):
        super().__init__()
        self.cls, self.box = layers.Dense(3), layers.Dense(4)

    def call(self, inputs):
        return {"cls": self.cls(inputs), "box": self.box(inputs)}


def test_the_default_of_several_outputs_that_are_known_late():
    teacher = Heads()
    teacher(X)
    distiller = kd.Distiller(teacher, Heads())
    soft = keras.losses.CategoricalCrossentropy(from_logits=True)
    with pytest.warns(UserWarning, match=r"\['box'\] by squared error"):
        distiller.compile("sgd", {"cls": soft, "box": "mse"})
        distiller.fit(
            X,
            {"cls": np.eye(3, dtype="float32")[np.arange(32) % 3], "box": X},
            verbose=0,
        )
    names = {transfer.name for transfer in distiller.transfers}
    assert names == {"cls_soft_targets", "box_squared_error"}
