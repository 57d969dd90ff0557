"""Ensembles: their means, weights and classes, and as teachers."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import cross_entropy
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd.teachers import Ensemble
from keras_kd.teachers import Member
from keras_kd.teachers import confidence_weights
from keras_kd.teachers import entropy_weights
from keras_kd.testing import assert_close


def model_of(classes=3, size=4, end=None, name=None):
    return keras.Sequential(
        [
            keras.Input((size,)),
            layers.Dense(5, activation="tanh", name="stage3"),
            layers.Dense(classes, activation=end, name="head"),
        ],
        name=name,
    )


MODEL = model_of(name="model")


def inputs(samples=6, size=4):
    x = np.random.default_rng(0).normal(size=(samples, size))
    return 2.0 * x.astype("float32")


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logits_of(models, x):
    return [numpy(model(x)).astype("float64") for model in models]


class Scaled(layers.Layer):
    """Returns its inputs, times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.built = True

    def call(self, inputs):
        return self.factor * inputs


# --- means ------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_targets_are_the_members_mean(temperature):
    models = [model_of(), model_of(), model_of()]
    ensemble = Ensemble(models, temperature=temperature, weights=[2, 1, 1])
    x = inputs()
    found = softmax(numpy(ensemble(x)).astype("float64") / temperature)
    each = [softmax(z / temperature) for z in logits_of(models, x)]
    expected = 0.5 * each[0] + 0.25 * each[1] + 0.25 * each[2]
    assert_close(found, expected)
    # All members count: the mean is no member's.
    assert all(np.abs(expected - p).max() > 1e-2 for p in each)


def test_the_mean_of_logits():
    models = [model_of(), model_of()]
    ensemble = Ensemble(models, average="logits", weights=[3.0, 1.0])
    first, second = logits_of(models, inputs())
    assert_close(numpy(ensemble(inputs())), 0.75 * first + 0.25 * second)


@pytest.mark.parametrize("weights", [None, [1, 0], "confidence", "entropy"])
def test_finite_at_large_logits(weights):
    ensemble = Ensemble(
        [Scaled(1e4), Scaled(-1e4)], weights=weights, input_shape=(3,)
    )
    x = np.array([[1, -1, 0.5], [0, 0, 0]], "float32")
    result = numpy(ensemble(x, labels=np.array([1, 0])))
    assert np.isfinite(result).all()
    if weights is None:
        p = [0.5, 0.5, 0.0]
        assert_close(softmax(result[0]), np.array(p))


def test_float32_logits_of_half_precision_members():
    keras.config.set_dtype_policy("mixed_float16")
    models = [model_of(), model_of()]
    ensemble = Ensemble(models, weights="confidence")
    result = ensemble(inputs(), labels=np.array([0, 1, 2, 0, 1, -1]))
    assert keras.backend.standardize_dtype(models[0](inputs()).dtype) == (
        "float16"
    )
    assert keras.backend.standardize_dtype(result.dtype) == "float32"


def test_members_run_in_inference_mode():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5)]
    )
    other = Member(model_of(), preprocess=layers.GaussianNoise(1.0))
    ensemble = Ensemble([model, other], weights="learned")
    x = inputs()
    expected = numpy(ensemble(x, training=False))
    assert_close(numpy(ensemble(x, training=True)), expected)
    assert_close(numpy(ensemble.predict(x, verbose=0)), expected)
    assert_close(numpy(other(x, training=True)), numpy(other.model(x)))


# --- weights ----------------------------------------------------------------


def weights_in_numpy(badness):
    weights = np.zeros_like(badness)
    samples, members = badness.shape
    for i in range(samples):
        total = sum(np.exp(badness[i, j]) for j in range(members))
        for k in range(members):
            share = np.exp(badness[i, k]) / total
            weights[i, k] = (1 - share) / (members - 1)
    return weights


def test_confidence_weights():
    models = [model_of(), model_of(), model_of()]
    labels = np.array([0, 2, -1, 1, 1, -1])
    each = logits_of(models, inputs())
    badness = np.zeros((6, 3))
    for i, label in enumerate(labels):
        for k in range(3):
            if label >= 0:
                badness[i, k] = -np.log(softmax(each[k][i])[label])
    expected = weights_in_numpy(badness)
    assert_close(expected[2], np.full(3, 1 / 3))
    found = confidence_weights(np.stack(each, 1).astype("float32"), labels)
    assert_close(numpy(found), expected)
    mean = sum(expected[:, k, None] * softmax(each[k]) for k in range(3))
    ensemble = Ensemble(models, weights="confidence")
    for given in (labels, labels[:, None], labels.astype("float32")):
        result = ensemble(inputs(), labels=ops.convert_to_tensor(given))
        assert_close(softmax(numpy(result)), mean)
    equal = sum(softmax(z) for z in each) / 3
    assert_close(softmax(numpy(ensemble(inputs()))), equal)
    with pytest.raises(ValueError, match="one-hot"):
        ensemble(inputs(), labels=np.eye(3)[labels])


def test_entropy_weights():
    models = [model_of(), model_of(), model_of()]
    each = [softmax(z) for z in logits_of(models, inputs())]
    entropies = np.stack([-(p * np.log(p)).sum(-1) for p in each], 1)
    expected = weights_in_numpy(entropies)
    logits = np.stack(logits_of(models, inputs()), 1).astype("float32")
    assert_close(numpy(entropy_weights(logits)), expected)
    mean = sum(expected[:, k, None] * each[k] for k in range(3))
    ensemble = Ensemble(models, weights="entropy")
    assert_close(softmax(numpy(ensemble(inputs()))), mean)


@pytest.mark.parametrize("weights", ["confidence", "entropy", "learned", [7]])
def test_a_single_member_has_weight_one(weights):
    model = model_of()
    ensemble = Ensemble([model], weights=weights)
    result = ensemble(inputs(), labels=np.array([0, 1, 2, 0, 1, 2]))
    expected = softmax(numpy(model(inputs())))
    assert_close(softmax(numpy(result)), expected)


def test_learned_weights_go_to_the_better_member():
    good = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, use_bias=False)], name="good"
    )
    good.set_weights([4.0 * np.eye(3)])
    bad = keras.models.clone_model(good)
    bad.set_weights([4.0 * np.eye(3)[[1, 2, 0]]])
    bad.layers[0].trainable = False
    ensemble = Ensemble([bad, good], weights="learned")
    assert len(ensemble.trainable_variables) == 1
    assert len(ensemble.trainable_weights) == 1
    assert len(ensemble.variables) == 3
    before = [weights_of(model) for model in (bad, good)]
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    y = x.argmax(axis=-1)
    ensemble.compile(keras.optimizers.SGD(5.0), cross_entropy())
    losses = ensemble.fit(x, y, epochs=5, batch_size=16, verbose=0)
    losses = losses.history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert numpy(ops.softmax(ensemble.member_logits))[1] > 0.9
    for model, old in zip((bad, good), before):
        for a, b in zip(weights_of(model), old):
            np.testing.assert_array_equal(a, b)
    if BACKEND == "torch":  # nor was a gradient computed for them
        assert good.layers[0].kernel.value.grad is None
    assert good.layers[0].trainable and not bad.layers[0].trainable
    assert [v.trainable for v in good.variables + bad.variables] == [1, 0]
    assert not Ensemble([good, bad]).trainable_variables


# --- members that are not alike ---------------------------------------------


def test_subsets_and_supersets_of_the_classes():
    # Of 4 classes: all in another order; three of them; two, and two others.
    numbers = [[2, 0, 3, 1], [0, 1, 3], [3, None, -1, 1]]
    models = [model_of(4), model_of(3), model_of(4)]
    members = [Member(m, classes=c) for m, c in zip(models, numbers)]
    weights = [0.5, 0.3, 0.2]
    ensemble = Ensemble(members, weights=weights, temperature=2.0)
    assert ensemble.num_classes == 4
    each = logits_of(models, inputs())
    total, knowing = np.zeros((6, 4)), np.zeros(4)
    for z, own, weight in zip(each, numbers, weights):
        kept = [i for i, c in enumerate(own) if c not in (None, -1)]
        p = softmax(z[:, kept] / 2.0)
        for place, i in enumerate(kept):
            total[:, own[i]] += weight * p[:, place]
            knowing[own[i]] += 1
    expected = total / (knowing / 3)
    expected /= expected.sum(axis=-1, keepdims=True)
    found = softmax(numpy(ensemble(inputs())).astype("float64") / 2.0)
    assert_close(found, expected)


def test_a_member_that_does_not_know_the_true_class():
    models = [model_of(3), model_of(2)]
    members = [models[0], Member(models[1], classes=[0, 1])]
    ensemble = Ensemble(members, weights="confidence")
    result = numpy(ensemble(inputs(), labels=np.full(6, 2)))
    expected = softmax(numpy(models[0](inputs())))
    expected[:, 2] *= 2  # which half of the members know
    expected /= expected.sum(axis=-1, keepdims=True)
    assert_close(softmax(result), expected)


def test_members_that_do_not_know_the_true_class_share_alike():
    logits = [[[0.0, 0.0, 0.0], [5.0, 1.0, -1e9], [900.0, 0.0, -1e9]]]
    found = numpy(confidence_weights(np.array(logits, "float32"), [2]))
    assert_close(found, np.array([[0.5, 0.25, 0.25]]))


def test_a_class_that_only_a_member_without_weight_knows():
    first, second = model_of(2), model_of(2)
    ensemble = Ensemble(
        [Member(first, classes=[0, 1]), Member(second, classes=[1, 2])],
        weights="confidence",
    )
    result = numpy(ensemble(inputs(), labels=np.zeros(6)))
    assert np.abs(result).max() < 100.0  # of use to losses on logits
    expected = softmax(numpy(first(inputs()))) * [2, 1]
    expected = np.pad(expected, [(0, 0), (0, 1)])
    expected /= expected.sum(axis=-1, keepdims=True)
    assert_close(softmax(result), expected)


def test_probabilities_and_an_input_of_another_size():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    plain = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)]
    )
    resizing = layers.Resizing(8, 8, interpolation="nearest")
    member = Member(inner, preprocess=resizing, from_logits=False)
    scaled = Member(
        keras.models.clone_model(plain), preprocess=lambda x: x / 255.0
    )
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
    ensemble = Ensemble([member, scaled, plain])
    larger = x.repeat(2, axis=1).repeat(2, axis=2)
    expected = (
        numpy(inner(larger))
        + softmax(numpy(scaled.model(x / 255.0)))
        + softmax(numpy(plain(x)))
    ) / 3
    assert_close(softmax(numpy(ensemble(x))), expected)
    alone = Ensemble([member], input_shape=(4, 4, 1))
    assert_close(softmax(numpy(alone(x))), numpy(inner(larger)))
    with pytest.raises(ValueError, match="input_shape="):
        Ensemble([member])


# --- as a teacher -----------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "confidence", "learned"])
def test_distills_and_is_tapped(weights):
    wrapped = Member(model_of(), preprocess=layers.Rescaling(0.5))
    ensemble = Ensemble([model_of(), wrapped], weights=weights, temperature=4)
    features = kd.extract_features(ensemble, inputs(), "members/1/stage3")
    stage = wrapped.model.get_layer("stage3")
    assert_close(
        numpy(features["members/1/stage3"]), numpy(stage(0.5 * inputs()))
    )
    student = model_of()
    distiller = kd.Distiller(
        ensemble,
        student,
        [
            kd.Transfer(kd.losses.SoftTargets(temperature=4.0)),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="members/1/stage3",
                student="stage3",
            ),
        ],
    )
    before, start = weights_of(ensemble), weights_of(student)
    distiller.compile("sgd", cross_entropy())
    x, y = inputs(8), np.arange(8) % 3
    logs = distiller.fit(x, y, batch_size=4, verbose=0).history
    assert np.isfinite(logs["soft_targets_loss"]).all()
    assert logs["feature_matching_loss"][0] > 0
    for a, b in zip(weights_of(ensemble), before):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights_of(student), start))
    ensemble.compile(loss=cross_entropy(), metrics=["accuracy"])
    assert np.isfinite(ensemble.evaluate(x, y, verbose=0)).all()


def test_a_distiller_passes_the_labels():
    models = [model_of(), model_of()]
    ensemble = Ensemble(models, weights="confidence")
    distiller = kd.Distiller(
        ensemble,
        model_of(),
        [kd.Transfer(kd.losses.SoftTargets(temperature=1.0))],
    )
    x, y = inputs(), np.array([0, 1, 2, 0, 1, 2])
    _, targets, _ = distiller.complete_batch((x, y))
    expected = numpy(ensemble(x, labels=y))
    assert np.abs(expected - numpy(ensemble(x))).max() > 1e-3
    assert_close(numpy(targets.teacher.output), expected)


# --- saving -----------------------------------------------------------------


@pytest.mark.parametrize("weights", [[2, 1], "learned", "confidence"])
def test_saves(weights, tmp_path):
    members = [
        model_of(name="first"),
        Member(
            model_of(4, size=2),
            preprocess=layers.Dense(2),
            classes=[2, None, 0, 1],
        ),
    ]
    ensemble = Ensemble(members, weights=weights, temperature=3.0)
    if weights == "learned":
        ensemble.member_logits.assign([0.5, -1.0])
    path = tmp_path / "ensemble.keras"
    ensemble.save(path)
    loaded = keras.saving.load_model(path)
    assert_close(numpy(loaded(inputs())), numpy(ensemble(inputs())))
    configs = [each.get_config() for each in (loaded, ensemble)]
    for one in configs:
        for member in one["members"]:
            # Keras' own: what a model was compiled and built with.
            del member["config"]["model"], member["config"]["preprocess"]
    assert configs[0] == configs[1]
    assert [model.name for model in loaded.members][0] == "first"


# --- fingerprints -----------------------------------------------------------


def fingerprint_of(ensemble):
    return kd.teachers.fingerprint(ensemble).tolist()


def test_fingerprints_tell_settings_apart():
    first, second = model_of(), model_of()
    settings = [
        {},
        {"weights": [0.9, 0.1]},
        {"weights": [0.1, 0.9]},
        {"weights": "entropy"},
        {"weights": "confidence"},
        {"weights": "learned"},
        {"temperature": 4.0},
        {"average": "logits"},
    ]

    def made(**arguments):
        return fingerprint_of(Ensemble([first, second], **arguments))

    prints = [made(**arguments) for arguments in settings]
    for place, each in enumerate(prints):
        assert each not in prints[:place]
    assert prints == [made(**arguments) for arguments in settings]
    assert made(weights=[1, 1], temperature=1) == prints[0]
    compiled = Ensemble([Member(first, name="one"), second], name="other")
    compiled.compile("adam", cross_entropy())
    first.trainable = False
    assert fingerprint_of(compiled) == prints[0]


def normalization():
    layer = layers.Normalization()
    layer.adapt(inputs(samples=50))
    return layer


def functional():
    x = keras.Input((4,))
    return keras.Model(x, layers.Rescaling(0.7)(layers.Activation("tanh")(x)))


def member_print(**arguments):
    member = Member(MODEL, **arguments)
    return fingerprint_of(Ensemble([member], input_shape=(4,)))


def test_fingerprints_tell_members_and_their_layers_apart():
    settings = [
        lambda: {},
        lambda: {"from_logits": False},
        lambda: {"classes": [1, 0, 2]},
        lambda: {"classes": [1, 0, None]},
        lambda: {"preprocess": layers.Rescaling(0.5)},
        lambda: {"preprocess": layers.Rescaling(0.7)},
        lambda: {"preprocess": layers.Rescaling(0.5), "version": "2"},
        lambda: {"preprocess": layers.Normalization(mean=1.0, variance=4.0)},
        lambda: {"preprocess": normalization()},
        lambda: {"preprocess": functional()},
        lambda: {"preprocess": Scaled(3.0)},
        lambda: {"preprocess": Scaled(2.0)},
        lambda: {
            "preprocess": keras.Sequential(
                [layers.GaussianNoise(0.9), layers.Rescaling(0.3)]
            )
        },
    ]
    prints = [member_print(**arguments()) for arguments in settings]
    for place, each in enumerate(prints):
        assert each not in prints[:place]
    # Made anew: at other addresses, by other names, with other seeds.
    assert prints == [member_print(**arguments()) for arguments in settings]


def test_fingerprints_tell_versions_of_a_function_apart():
    def of(version, preprocess=lambda x: x / 255):
        return member_print(preprocess=preprocess, version=version)

    prints = [of("1"), of("2"), member_print()]
    prints += [of("1", layers.Lambda(lambda x: x / 255))]
    for place, each in enumerate(prints):
        assert each not in prints[:place]
    # The version alone tells.
    assert of("1", ops.log) == prints[0]
    assert of("1", layers.Lambda(lambda x: x**2)) == prints[3]


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda x: x / 255,
        layers.Lambda(lambda x: x / 255),
        keras.Sequential([layers.Lambda(lambda x: x / 255)]),
    ],
    ids=["function", "lambda", "nested"],
)
@pytest.mark.one_backend
def test_a_function_without_a_version_gives_a_warning_once(preprocess):
    member = Member(MODEL, preprocess=preprocess)
    ensemble = Ensemble([member], input_shape=(4,))
    with pytest.warns(UserWarning) as warned:
        assert fingerprint_of(ensemble) == fingerprint_of(ensemble)
    # PyTorch has warnings of its own.
    (warning,) = [each for each in warned if each.category is UserWarning]
    message = str(warning.message)
    assert "preprocess of member 'model' is a function" in message
    assert "`Member(..., version='2024-05')`" in message


@pytest.mark.one_backend
def test_what_is_counted_of_a_member_is_the_same_in_each_process():
    def counted(**arguments):
        return Member(MODEL, **arguments).fingerprint_bytes().decode()

    assert counted(classes=[1, 0, 2]) == "[[1, 0, 2], True]"
    function = {"preprocess": lambda x: x / 255, "version": "1"}
    assert counted(**function) == "[None, True, None, '1']"
    layer = counted(preprocess=layers.Rescaling(0.5, name="anything"))
    assert '"class_name": "Rescaling"' in layer and '"scale": 0.5' in layer
    assert "anything" not in layer


def test_a_function_as_a_member_counts_in_the_fingerprint():
    model = model_of()

    def made(version):
        function = kd.teachers.FunctionTeacher(
            lambda x: x[:, :3], (4,), 3, version=version
        )
        return fingerprint_of(Ensemble([model, function]))

    assert made("1") == made("1") != made("2")


def test_a_loaded_ensemble_has_the_same_fingerprint(tmp_path):
    member = Member(
        model_of(4, size=2), preprocess=layers.Dense(2), classes=[2, None, 0, 1]
    )
    ensemble = Ensemble([model_of(), member], weights=[2, 1], temperature=3)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert fingerprint_of(loaded) == fingerprint_of(ensemble)


def test_a_loaded_ensemble_of_integers_has_the_same_fingerprint(tmp_path):
    words = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(9, 2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    other = keras.Sequential(
        [keras.Input((4, 2)), layers.Flatten(), layers.Dense(3)]
    )
    ensemble = Ensemble(
        [words, Member(other, preprocess=layers.Embedding(9, 2))]
    )
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert fingerprint_of(loaded) == fingerprint_of(ensemble)


# --- errors -----------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"average": "median"}, "one of 'probabilities', 'logits'"),
        ({"weights": "best"}, "'confidence'"),
        ({"weights": [1.0]}, "for 2 members"),
        ({"weights": [0.0, 0.0]}, "not all zero"),
        ({"weights": [-1.0, 2.0]}, "none negative"),
        ({"weights": [float("nan"), 1.0]}, "one number per member"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"num_classes": "3"}, "ensemble of '3' classes"),
        ({"num_classes": 2}, r"with 3 classes.*Member\(model, classes"),
    ],
)
def test_argument_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble([model_of(), model_of()], **arguments)


@pytest.mark.one_backend
def test_member_errors():
    model, small = model_of(name="large"), model_of(2, name="small")
    unbuilt = keras.Sequential([layers.Dense(2)], name="fresh")
    image = keras.Sequential([keras.Input((4, 2)), layers.Dense(3)])
    for members, message in [
        ([], "at least one"),
        (model, "must be a list"),
        ([model, np.tanh], "must be a Keras model"),
        ([unbuilt], "'fresh' is not built.*call it on a batch"),
        ([model, model], "'large' twice.*weights"),
        ([model, small], r"'small' with 2 classes.*Member\(model, classes"),
        ([Member(model, classes=[0, 1])], "one entry per output"),
        ([Member(model, classes=[0, 1, 3])], r"\[2\] are known to none"),
        ([image], r"\(batch, outputs\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            Ensemble(members)
    partial = [model, Member(small, classes=[0, 1])]
    with pytest.raises(ValueError, match="know all classes"):
        Ensemble(partial, average="logits")
    with pytest.raises(ValueError, match=r"\[2\] are known to none"):
        Ensemble(partial, weights=[0, 1])
    with pytest.raises(ValueError, match="must agree"):
        Ensemble([Member(small, classes=[0, 5])], num_classes=3)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "classes", [[0, 0, 1], [None] * 3, [-2, 0, 1], [0.5, 1, 2], "abc", 3]
)
def test_classes_must_be_class_numbers(classes):
    with pytest.raises(ValueError, match="different class numbers"):
        Member(model_of(), classes=classes)


@pytest.mark.one_backend
def test_preprocess_must_be_callable():
    with pytest.raises(ValueError, match="layer or a function"):
        Member(model_of(), preprocess="resize")
