"""Before training: each fault is found, with its figures, and nothing moves."""

import time
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import subclassed_model
from support import weights_of

import keras_kd as kd

SPARSE = keras.losses.SparseCategoricalCrossentropy


def linear(units=3, name=None, **kwargs):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, name="head", **kwargs)],
        name=name,
    )


def rows(samples=32, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, 4)).astype("float32")
    return x, random.integers(0, 3, samples).astype("int32")


def distiller_of(teacher, student, transfers=None, loss="default", **kwargs):
    distiller = kd.Distiller(teacher, student, transfers, **kwargs)
    loss = cross_entropy() if loss == "default" else loss
    distiller.compile(keras.optimizers.SGD(0.1), loss)
    return distiller


class Fixed(kd.teachers.Teacher):
    """Predicts the class that a function makes of the first input."""

    name = "fixed"

    def __init__(self, change=lambda x: x, height=9.0, classes=3):
        self.change, self.height, self.classes = change, height, classes

    def predictions(self, batch, taps, state_mapping=None, training=True):
        first = ops.reshape(batch.inputs, (ops.shape(batch.inputs)[0], -1))
        first = ops.cast(self.change(first[:, 0]), "int32")
        hot = ops.one_hot(first, self.classes, dtype="float32")
        return self.at_output(self.height * hot, taps)


def named(samples=120, classes=3):
    """Inputs whose first value names the label."""
    x, _ = rows(samples)
    y = (np.arange(samples) % classes).astype("int32")
    x[:, 0] = y
    return x, y


# --- nothing is changed -------------------------------------------------------


def models_that_move():
    student = subclassed_model(4, name="student", dropout=0.5)
    return functional_model(8, name="teacher", dropout=0.5), student


def prepared():
    """A distiller of random layers, statistics, and an adapter to be built."""
    keras.utils.set_random_seed(3)
    teacher, _ = models_that_move()
    inputs = keras.Input((None, None, 2))
    source = functional_model(4, name="source", dropout=0.5)
    x = inputs
    for layer in source.layers[1:]:
        x = layer(x)
    student = keras.Model(inputs, x, name="student")
    hint = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="stage1",
        student="stage1",
        adapter=kd.layers.FeatureAdapter(),
    )
    moving = kd.schedules.Annealing(4.0, 1.0, steps=9)
    soft = kd.losses.SoftTargets(moving)
    distiller = kd.Distiller(teacher, student, [soft, hint])
    distiller.compile("adam", cross_entropy(), metrics=["accuracy"])
    return distiller


def test_training_afterwards_is_the_same_to_the_bit():
    x, y = data(40)
    found = []
    for diagnosed in (True, False):
        distiller = prepared()
        before = weights_of(distiller.teacher) + weights_of(distiller.student)
        if diagnosed:
            report = distiller.diagnose(x, y, batch_size=8, batches=3)
            assert (report.batches, report.samples) == (3, 24)
            after = weights_of(distiller.teacher)
            after += weights_of(distiller.student)
            for one, other in zip(before, after):
                np.testing.assert_array_equal(one, other)
            assert distiller.training_step == 0
        history = distiller.fit(x, y, batch_size=8, epochs=2, verbose=0)
        if diagnosed:  # And in the middle of a training.
            distiller.diagnose(x, y, batch_size=8, batches=1)
        distiller.fit(x, y, batch_size=8, verbose=0)
        found.append((history.history, weights_of(distiller)))
    (first, trained), (second, expected) = found
    assert first == second
    for one, other in zip(trained, expected):
        np.testing.assert_array_equal(one, other)


class Noisy(keras.utils.PyDataset):
    """Draws from NumPy's global generator, as augmentations do."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        noise = np.random.normal(size=(8, 4)).astype("float32")
        return noise, np.arange(8) % 3


@pytest.mark.one_backend
def test_random_states_and_the_order_of_a_loader_stay():
    import torch

    x, y = rows(16)
    tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    generators = None, torch.Generator().manual_seed(1)
    for source in (Noisy, *generators):
        orders = []
        for diagnosed in (True, False):
            keras.utils.set_random_seed(0)
            given = source and source is not Noisy and source.manual_seed(1)
            loader = Noisy()
            if source is not Noisy:
                loader = torch.utils.data.DataLoader(
                    tensors, batch_size=4, shuffle=True, generator=given or None
                )
            distiller = distiller_of(linear(), linear())
            if diagnosed:
                assert distiller.diagnose(loader, batches=2).batches == 2
            orders.append([numpy(batch[0]) for batch in map(tuple, loader)])
        np.testing.assert_array_equal(*map(np.concatenate, orders))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_the_order_of_a_shuffled_tf_dataset_stays():
    import tensorflow as tf

    orders = []
    for diagnosed in (True, False):
        keras.utils.set_random_seed(0)
        dataset = tf.data.Dataset.from_tensor_slices(rows()).shuffle(32)
        distiller = distiller_of(linear(), linear())
        if diagnosed:
            report = distiller.diagnose(dataset.batch(8), batches=2)
            assert report.samples == 16
        orders.append([batch[1].numpy() for batch in dataset.batch(8)])
    np.testing.assert_array_equal(*map(np.concatenate, orders))


# --- terms --------------------------------------------------------------------


def softmax(z):
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def test_values_and_gradients_are_those_of_the_formula():
    x, y = rows(12)
    teacher, student = linear(), linear(use_bias=False)
    soft = kd.Transfer(kd.losses.SoftTargets(2.0), weight=0.7)
    match = kd.Transfer(kd.losses.LogitMatching(), weight=5.0)
    distiller = distiller_of(teacher, student, [soft, match], hard_weight=0.3)
    report = distiller.diagnose(x, y, batch_size=12)
    taught, learned = (
        model.predict(x, verbose=0).astype("float64")
        for model in (teacher, student)
    )
    hot = np.eye(3)[y]
    p, q = softmax(taught / 2.0), softmax(learned / 2.0)
    divergence = 4.0 * np.sum(p * np.log(p / q), axis=-1).mean()
    logs = np.log(np.sum(softmax(learned) * hot, axis=-1))
    expected = {
        "hard loss": (-0.3 * logs.mean(), 0.3 * (softmax(learned) - hot) / 12),
        "term soft_targets": (0.7 * divergence, 0.7 * 2.0 * (q - p) / 12),
    }
    norms = {}
    for check, (value, of_logits) in expected.items():
        figures = report.of(check).figures
        norms[check] = np.linalg.norm(x.T @ of_logits)
        assert figures["value"] == pytest.approx(value, rel=1e-4)
        assert figures["gradient"] == pytest.approx(norms[check], rel=1e-4)
    times = report.of("term soft_targets").figures["times_hard"]
    ratio = norms["term soft_targets"] / norms["hard loss"]
    assert times == pytest.approx(ratio, rel=1e-4)
    # The mean of squares over the logits: its size is in the loss's own tests.
    figures = report.of("term logit_matching").figures
    value = figures["value"]
    scale = value / ((learned - taught) ** 2).sum()
    of_logits = 2.0 * scale * (learned - taught)
    norm = np.linalg.norm(x.T @ of_logits)
    assert figures["gradient"] == pytest.approx(norm, rel=1e-4)
    assert f"{times:.3g} times" in report.of("term soft_targets").seen


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "weight, severity, text",
    [
        (1e-5, "look", "too little to matter. Received: weight=1e-05"),
        (1e5, "look", "dominates the hard loss"),
        (0.0, "look", "has no effect"),
        (0.9, "fine", "times the hard loss's"),
    ],
)
def test_weights_that_do_nothing_or_too_much(weight, severity, text):
    soft = kd.Transfer(kd.losses.SoftTargets(), weight=weight)
    report = distiller_of(linear(), linear(), soft).diagnose(*rows())
    found = report.of("term soft_targets")
    assert found.severity == severity
    assert text in found.seen
    assert bool(found.remedy) == (severity == "look")


@pytest.mark.one_backend
def test_a_term_that_gives_no_gradient():
    student = functional_model(4, name="student")
    hint = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="stage1", student="stage1"
    )
    for frozen, severity in ((True, "wrong"), (False, "fine")):
        student.get_layer("stage1").trainable = not frozen
        distiller = distiller_of(
            functional_model(4, name="teacher"), student, hint
        )
        found = distiller.diagnose(*data()).of("term feature_matching")
        assert found.severity == severity
        assert (found.figures["gradient"] == 0.0) == frozen


@pytest.mark.one_backend
def test_a_hard_loss_that_teaches_nothing():
    x, y = rows()
    student = linear()
    student.layers[0].trainable = False
    for value, severity in ((1.0, "look"), (np.nan, "wrong")):
        student.layers[0].bias.assign(value + np.zeros(3))
        found = distiller_of(linear(), student).diagnose(x, y).of("hard loss")
        assert found.severity == severity
        assert found.remedy


@pytest.mark.one_backend
def test_weight_decay_and_own_losses_count_in_the_total():
    student = linear(kernel_regularizer=keras.regularizers.L2(0.5))
    report = distiller_of(linear(), student).diagnose(*rows())
    decay = 0.5 * np.sum(numpy(student.layers[0].kernel) ** 2)
    hard, soft = (report.of(c) for c in ("hard loss", "term soft_targets"))
    value = soft.figures["value"]
    total = hard.figures["value"] + value + decay
    assert soft.figures["share"] == pytest.approx(value / total, rel=1e-4)


def test_chunks_of_positions_have_the_same_terms():
    tokens = np.random.default_rng(0).integers(5, size=(4, 6)).astype("int32")

    def model(units, name):
        inputs = keras.Input((6,), dtype="int32")
        x = layers.Embedding(5, units)(inputs)
        return keras.Model(inputs, layers.Dense(5)(x), name=name)

    teacher, student = model(4, "teacher"), model(3, "student")
    found = []
    for chunk_size in (None, 2):
        distiller = distiller_of(
            teacher,
            student,
            loss=SPARSE(from_logits=True, reduction="mean_with_sample_weight"),
            chunk_size=chunk_size,
        )
        report = distiller.diagnose(tokens, tokens, batch_size=4)
        found.append(
            [
                report.of(check).figures[name]
                for check in ("hard loss", "term soft_targets")
                for name in ("value", "gradient")
            ]
        )
    assert found[1] == pytest.approx(found[0], rel=1e-4)


# --- logits or probabilities --------------------------------------------------


class Probable(keras.layers.Layer):
    """Makes probabilities in code, where no activation is to be seen."""

    def call(self, x):
        return ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)


def with_probabilities(model):
    return keras.Model(model.inputs, Probable()(model.outputs[0]))


@pytest.mark.one_backend
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_probabilities_in_place_of_logits(side):
    models = {"teacher": linear(), "student": linear()}
    models[side] = with_probabilities(models[side])
    distiller = distiller_of(**models)
    report = distiller.diagnose(*rows())
    found = report.of(f"outputs of the {side}, soft_targets")
    assert found.severity == "wrong"
    assert not report.ok
    assert f"`{side}_from_logits=False`" in found.remedy
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distiller.fit(*rows(), verbose=0)
    assert found.text in [str(each.message) for each in caught]
    hard = report.of("outputs of the student, hard loss, 0")
    assert (hard is not None) == (side == "student")
    report = distiller_of(linear(), linear()).diagnose(*rows())
    assert report.of("outputs, soft_targets").severity == "fine"


@pytest.mark.one_backend
def test_a_compiled_loss_of_the_other_kind():
    distiller = distiller_of(linear(), linear(), loss=SPARSE())
    found = distiller.diagnose(*rows())
    found = found.of("outputs of the student, hard loss, 0")
    assert found.severity == "wrong"
    assert "expects probabilities" in found.seen


# --- the teacher and the labels -----------------------------------------------


@pytest.mark.one_backend
def test_the_teachers_accuracy():
    x, y = named()
    wrong = distiller_of(Fixed(lambda x: (x + 1) % 3), linear())
    found = wrong.diagnose(x, y, batch_size=40).of("teacher accuracy")
    assert found.severity == "wrong"
    assert found.figures["accuracy"] == 0.0
    with pytest.warns(UserWarning) as caught:
        wrong.fit(x, y, batch_size=40, verbose=0)
    assert found.text in [str(each.message) for each in caught]
    x[:30, 0] = (y[:30] + 1) % 3
    found = distiller_of(Fixed(), linear()).diagnose(x, y, batch_size=40)
    found = found.of("teacher accuracy")
    assert found.severity == "fine"
    expected = {"accuracy": 0.75, "chance": 1 / 3, "labeled": 120}
    assert found.figures == pytest.approx(expected)
    assert "75.0 % right of 120" in found.seen


@pytest.mark.one_backend
def test_labels_that_do_not_count_are_left_out():
    x, y = named()
    weight = np.ones(120, "float32")
    weight[:60] = 0.0
    x[:60, 0] = (y[:60] + 1) % 3
    ignored = np.where(weight > 0.0, y, -1)
    soft = kd.losses.SoftTargets()
    distiller = distiller_of(Fixed(), linear(), soft)
    first = distiller.diagnose(x, y, weight, batch_size=40)
    distiller.compile("sgd", SPARSE(from_logits=True, ignore_class=-1))
    second = distiller.diagnose(x, ignored, batch_size=40)
    for report in (first, second):
        figures = report.of("teacher accuracy").figures
        assert (figures["accuracy"], figures["labeled"]) == (1.0, 60)
    one_hot = np.eye(3, dtype="float32")[y]
    distiller.compile("sgd", keras.losses.CategoricalCrossentropy(True))
    figures = distiller.diagnose(x, one_hot, batch_size=40)
    figures = figures.of("teacher accuracy").figures
    assert figures["accuracy"] == pytest.approx(0.5)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "classes, change, pairs",
    [
        (4, lambda x: ops.where(x > 1, 5 - x, x), {2: 3, 3: 2}),
        (6, lambda x: x + 1, {0: 1, 1: 2, 2: 3, 3: 4}),
        (4, lambda x: x, {}),
        (4, lambda x: 0 * x + 2, {}),  # One class for all is no order.
        (4, lambda x: ops.where(x > 2, 2, x), {}),  # Two for one, as well.
    ],
)
def test_the_order_of_the_classes(classes, change, pairs):
    x, y = named(classes=4)
    student = linear(classes)
    distiller = distiller_of(Fixed(change, classes=classes), student)
    found = distiller.diagnose(x, y, batch_size=40).of("class order")
    assert found.figures["pairs"] == pairs
    assert found.severity == ("wrong" if pairs else "fine")
    if pairs:
        assert found.figures["accuracy_if_mapped"] == 1.0
        first, second = next(iter(pairs.items()))
        assert f"{first} is {second}" in found.seen


@pytest.mark.one_backend
@pytest.mark.parametrize("classes", [2, 3])
def test_a_teacher_that_guesses_has_no_order(classes):
    distiller = distiller_of(Fixed(classes=classes), linear(classes))
    for seed in range(10):
        random = np.random.default_rng(seed)
        x, y = rows(60, seed)
        x[:, 0] = random.integers(0, classes, 60)
        y = y % classes
        found = distiller.diagnose(x, y, batch_size=60).of("class order")
        assert found.severity == "fine"


@pytest.mark.one_backend
def test_classes_that_are_numbered_from_1_with_few_samples_of_each():
    x, y = named(60, classes=30)
    x[:, 0] = y + 1
    distiller = distiller_of(Fixed(classes=31), linear(31))
    found = distiller.diagnose(x, y, batch_size=60).of("class order")
    assert found.severity == "wrong"
    assert found.figures["pairs"] == {n: n + 1 for n in range(30)}


# --- inputs -------------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "scale, severity", [(1.0, "fine"), (3.0, "look"), (255.0, "wrong")]
)
def test_inputs_against_the_moving_statistics(scale, severity):
    x, y = rows(64)
    norm = layers.BatchNormalization(name="norm", epsilon=0.0)
    teacher = keras.Sequential([keras.Input((4,)), norm, layers.Dense(3)])
    norm.moving_mean.assign(x.mean(axis=0))
    norm.moving_variance.assign(x.var(axis=0))
    distiller = distiller_of(teacher, linear())
    report = distiller.diagnose(scale * x, y, batch_size=32)
    found = report.of("input range, norm")
    assert found.severity == severity
    ratio = found.figures["variance_ratio"]
    assert ratio == pytest.approx(scale**2, rel=1e-3)
    shift = np.median(np.abs((scale - 1.0) * x.mean(axis=0)) / x.std(axis=0))
    assert found.figures["shift"] == pytest.approx(shift, rel=1e-3, abs=1e-5)


@pytest.mark.one_backend
def test_inputs_against_a_normalization():
    x, y = rows(64)
    norm = layers.Normalization(name="norm")
    norm.adapt(x)
    teacher = keras.Sequential([keras.Input((4,)), norm, layers.Dense(3)])
    distiller = distiller_of(teacher, linear())
    for shift, severity in ((0.0, "fine"), (20.0, "wrong")):
        given = x + shift * x.std(axis=0)
        report = distiller.diagnose(given, y, batch_size=32)
        found = report.of("input range, norm")
        assert found.severity == severity
        figures = found.figures
        assert figures["shift"] == pytest.approx(shift, abs=0.1)
        assert figures["variance_ratio"] == pytest.approx(1.0, rel=0.1)


@pytest.mark.one_backend
@pytest.mark.parametrize("scale, severity", [(1, "wrong"), (255, "fine")])
def test_inputs_against_a_rescaling(scale, severity):
    x = np.random.default_rng(0).uniform(0, scale, (32, 4)).astype("float32")
    rescaling = layers.Rescaling(1 / 255, name="rescaling")
    teacher = keras.Sequential([keras.Input((4,)), rescaling, layers.Dense(3)])
    report = distiller_of(teacher, linear(), loss=None).diagnose(x)
    assert report.of("input range, rescaling").severity == severity


class Bins(keras.layers.Layer):
    """Right on inputs of 0 to 1: one class for each third of the range."""

    def call(self, x):
        return -100.0 * (x[:, :1] - ops.array([[1 / 6, 3 / 6, 5 / 6]])) ** 2


def test_a_teacher_that_is_right_on_inputs_of_another_range():
    x = np.random.default_rng(0).uniform(0, 1, (64, 4)).astype("float32")
    y = (3.0 * x[:, 0]).astype("int32")
    teacher = keras.Sequential([keras.Input((4,)), Bins()])
    distiller = distiller_of(teacher, linear())
    found = distiller.diagnose(255.0 * x, y).of("input range")
    assert found.severity == "wrong"
    assert found.figures["divided by 255"] == 1.0
    right = (y == 2).mean()
    assert found.figures["as they are"] == pytest.approx(right)
    found = distiller.diagnose(x, y).of("input range")
    assert found.severity == "fine"
    assert found.figures["as they are"] == 1.0


@pytest.mark.one_backend
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_a_teacher_whose_outputs_are_inflated(scale):
    x = np.random.default_rng(0).uniform(0, 1, (32, 4)).astype("float32")
    teacher = linear(kernel_initializer="ones")
    distiller = distiller_of(teacher, linear(), loss=None)
    found = distiller.diagnose(scale * x).of("input range, outputs")
    assert (found is None) == (scale == 1.0)
    if found:
        assert found.severity == "look"
        largest = x.sum(axis=1).max()
        assert found.figures["largest"] == pytest.approx(255.0 * largest)
        assert found.figures["largest_if_divided"] == pytest.approx(largest)


@pytest.mark.one_backend
def test_a_range_that_can_not_be_judged():
    report = distiller_of(linear(), linear(), loss=None).diagnose(rows()[0])
    assert "Not judged" in report.of("input range").seen


# --- inference mode -----------------------------------------------------------


class InTraining(keras.layers.Layer):
    """Runs a layer in training mode, whatever it is told."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        return self.layer(x, training=True)


@pytest.mark.parametrize(
    "layer, figure",
    [
        (lambda: layers.Dropout(0.5), "repeated"),
        (layers.BatchNormalization, "rearranged"),
    ],
)
def test_a_teacher_in_training_mode(layer, figure):
    x, y = rows()
    teacher = keras.Sequential(
        [keras.Input((4,)), InTraining(layer()), layers.Dense(3)]
    )
    before = weights_of(teacher)
    found = distiller_of(teacher, linear()).diagnose(x, y, batch_size=16)
    found = found.of("teacher mode")
    assert found.severity == "wrong"
    assert found.figures[figure] > 0.01
    for one, other in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_backend
def test_a_teacher_in_inference_mode():
    teacher = functional_model(4, name="teacher", dropout=0.5)
    teacher.get_layer("norm").trainable = False
    student = functional_model(4, name="student")
    found = distiller_of(teacher, student).diagnose(*data(25), batch_size=5)
    found = found.of("teacher mode")
    assert found.severity == "fine"
    assert max(found.figures.values()) < 1e-5


# --- features -----------------------------------------------------------------


def spoiled(kernel, bias):
    student = functional_model(4, name="student")
    stage = student.get_layer("stage2")
    stage.kernel.assign(kernel + 0.0 * numpy(stage.kernel))
    stage.bias.assign(bias + 0.0 * numpy(stage.bias))
    return student


@pytest.mark.one_backend
@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize(
    "kernel, bias, text",
    [
        (0.0, 0.0, "are 0"),
        (0.0, 2.0, "the same for all samples (up to 2)"),
        (np.nan, 0.0, "NaN or infinity"),
    ],
)
def test_features_that_hold_no_information(side, kernel, bias, text):
    models = {
        "teacher": functional_model(4, name="teacher"),
        "student": functional_model(4, name="student"),
    }
    models[side] = spoiled(kernel, bias)
    hint = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="stage2", student="stage2"
    )
    report = distiller_of(**models, transfers=hint).diagnose(*data())
    found = report.of(f"features of the {side}, stage2")
    assert found.severity == "wrong"
    assert text in found.seen
    other = "student" if side == "teacher" else "teacher"
    assert report.of(f"features of the {other}, stage2").severity == "fine"
    term = report.of("term feature_matching").severity
    assert (term == "wrong") == (kernel != 0.0)


# --- temperature --------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "height, temperature, severity, suggested",
    [
        (9.0, 1.0, "look", 4.0),  # A first class of 0.9998 and of 0.826.
        (20.0, 4.0, "look", 8.0),  # 0.987 and 0.859.
        (60.0, 8.0, "look", 16.0),  # 0.955 there: it is the highest.
        (60.0, 16.0, "fine", 16.0),
        (2.0, 1.0, "fine", 1.0),  # 0.787, neither sure nor soft.
        (0.5, 4.0, "look", 1.0),  # 1.0984 nats of 1.0986.
        (0.5, 1.0, "fine", 1.0),
    ],
)
def test_temperatures(height, temperature, severity, suggested):
    distiller = distiller_of(
        Fixed(height=height), linear(), kd.losses.SoftTargets(temperature)
    )
    found = distiller.diagnose(*named()).of("temperature, soft_targets")
    assert found.severity == severity
    figures = found.figures
    assert figures["suggested"] == suggested
    for name, t in (("_at_1", 1.0), ("", temperature)):
        p = softmax(np.array([height, 0.0, 0.0]) / t)
        entropy = -np.sum(p * np.log(p))
        assert figures[f"top_1{name}"] == pytest.approx(p[0], rel=1e-4)
        assert figures[f"entropy{name}"] == pytest.approx(entropy, 1e-3, 1e-8)
    if severity == "fine":
        assert not found.remedy
    else:
        assert f"try {suggested:g}" in found.remedy.lower()


# --- cost ---------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_slow_teacher_pays_from_epoch_2():
    def slow(x):
        time.sleep(0.05)
        return np.zeros((len(x), 3), "float32")

    teacher = kd.teachers.FunctionTeacher(slow, (4,), 3)
    report = distiller_of(teacher, linear()).diagnose(*rows(), batch_size=8)
    found = report.of("teacher cost")
    figures = found.figures
    assert figures["seconds"] >= 0.05
    assert figures["samples"] == 8
    assert figures["bytes_per_sample"] == 4 * 3 + 8
    once = figures["seconds"] + figures["writing"]
    saved = figures["seconds"] - figures["reading"]
    epoch = figures["pays_from_epoch"]
    assert (epoch - 1) * saved <= once < epoch * saved
    assert f"pays from epoch {epoch}" in found.seen


@pytest.mark.one_backend
def test_a_cached_teacher_is_not_run(tmp_path):
    x, y = named()
    kd.cache.write(linear(), x, tmp_path / "cache", verbose=0)
    cache = kd.cache.open(tmp_path / "cache")
    distiller = distiller_of(cache, linear())
    joined = cache.join(x, y, batch_size=40)
    report = distiller.diagnose(joined)
    assert report.samples == 120
    assert report.of("teacher accuracy").figures["labeled"] == 120
    assert report.of("teacher cost") is report.of("teacher mode") is None
    with pytest.raises(ValueError, match="must bring its predictions along"):
        distiller.diagnose(x, y)


# --- a quantized student ------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_student_whose_kernels_can_not_train():
    x, y = rows()
    student = linear()
    student.quantize("int8")
    distiller = distiller_of(linear(), student)
    for run in (distiller.fit, distiller.train_on_batch):
        with pytest.raises(
            ValueError, match="keras_kd.quantization.QuantizationAwareModel"
        ):
            run(x, y)
    distiller.evaluate(x, y, verbose=0)
    found = distiller.diagnose(x, y).of("student quantized")
    assert found.severity == "wrong"
    assert found.figures == {"quantized_layers": 1, "trainable_kernels": 0}
    assert distiller_of(linear(), linear()).diagnose(x, y).of(
        "student quantized"
    ) is (None)
    student = keras.Sequential([linear(), layers.Dense(3)])
    student.layers[0].quantize("int8")
    distiller = distiller_of(linear(), student)
    assert distiller.diagnose(x, y).of("student quantized").severity == "look"
    distiller.fit(x, y, verbose=0)


# --- other distillers, models and data ----------------------------------------


def test_several_outputs_by_name():
    def model(name):
        inputs = keras.Input((4,))
        outputs = {
            "kind": layers.Dense(3, name="kind")(inputs),
            "size": layers.Dense(1, name="size")(inputs),
        }
        return keras.Model(inputs, outputs, name=name)

    x, y = rows(120)
    teacher = model("teacher")
    labels = {"kind": y, "size": x[:, :1]}
    losses = {"kind": SPARSE(from_logits=True), "size": "mse"}
    soft, match = kd.losses.SoftTargets(), kd.losses.LogitMatching()
    distiller = distiller_of(
        teacher,
        model("student"),
        [
            kd.Transfer(soft, teacher="[kind]", student="[kind]", name="kinds"),
            kd.Transfer(
                match, teacher="[size]", student="[size]", name="sizes"
            ),
        ],
        losses,
    )
    report = distiller.diagnose(x, labels, batch_size=30)
    taught = teacher.predict(x, verbose=0)["kind"].argmax(axis=-1)
    figures = report.of("teacher accuracy, kind").figures
    assert figures["accuracy"] == pytest.approx((taught == y).mean())
    assert report.of("teacher accuracy, size") is None
    for check in ("hard loss", "term kinds", "term sizes"):
        assert report.of(check).figures["gradient"] > 0.0


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "transfer, loss, check",
    [
        (kd.losses.LogitMatching, "mse", "term logit_matching"),
        (
            kd.losses.BinarySoftTargets,
            keras.losses.BinaryCrossentropy(from_logits=True),
            "term binary_soft_targets",
        ),
    ],
)
def test_numbers_and_yes_or_no_have_no_findings_of_classes(
    transfer, loss, check
):
    x, _ = rows()
    distiller = distiller_of(linear(1), linear(1), transfer(), loss)
    report = distiller.diagnose(x, (x[:, :1] > 0).astype("float32"))
    checks = " ".join(each.check for each in report.findings)
    for about in ("accuracy", "order", "temperature"):
        assert about not in checks
    assert report.of(check).severity == "fine"


def test_a_student_that_teaches_itself():
    peers = kd.students.peers({name: linear(name=name) for name in "ab"})
    distiller = kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers))
    distiller.compile("sgd", cross_entropy())
    report = distiller.diagnose(*rows())
    checks = [each.check for each in report.findings]
    assert not any(check.startswith("teacher") for check in checks)
    assert report.of("hard loss").figures["gradient"] > 0.0
    assert report.of("term a_to_b").figures["gradient"] > 0.0
    assert report.of("features of the student, [a]").severity == "fine"


def test_a_generator_of_samples():
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    distiller = kd.data_free.DataFreeDistiller(
        linear(), linear(), generator, [kd.data_free.ClassCertainty()]
    )
    distiller.compile("sgd", metrics=["accuracy"])
    before = weights_of(distiller)
    report = distiller.diagnose(batch_size=16, batches=2)
    assert report.samples == 32
    assert report.of("term soft_targets").figures["gradient"] > 0.0
    assert report.of("teacher accuracy") is report.of("hard loss") is None
    assert "pays_from_epoch" not in report.of("teacher cost").figures
    for one, other in zip(before, weights_of(distiller)):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="makes its own samples"):
        distiller.diagnose(rows()[0])


class OwnLoss(keras.Model):
    """Adds a penalty to what it was compiled with."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        own = super().compute_loss(x, y, y_pred, sample_weight, training)
        return own + ops.mean(ops.square(y_pred))


def test_a_student_with_a_loss_of_its_own():
    x, y = rows(12)
    source = linear(use_bias=False)
    student = OwnLoss(source.inputs, source.outputs)
    distiller = distiller_of(linear(), student, hard_weight=0.5)
    figures = distiller.diagnose(x, y, batch_size=12).of("hard loss").figures
    learned = student.predict(x, verbose=0).astype("float64")
    hot = np.eye(3)[y]
    logs = np.log(np.sum(softmax(learned) * hot, axis=-1))
    value = 0.5 * (-logs.mean() + (learned**2).mean())
    of_logits = (softmax(learned) - hot) / 12 + 2.0 * learned / learned.size
    assert figures["value"] == pytest.approx(value, rel=1e-4)
    norm = np.linalg.norm(0.5 * x.T @ of_logits)
    assert figures["gradient"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.one_backend
def test_teachers_of_other_kinds(tmp_path):
    import torch

    x, y = named()
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))
    ensemble = kd.teachers.Ensemble([linear(name="a"), linear(name="b")])
    student = linear(name="student")
    teachers = {
        "module": kd.teachers.TorchModule(module),
        "ensemble": ensemble,
        "moving": kd.teachers.MovingAverage(student),
    }
    for name, teacher in teachers.items():
        soft = kd.losses.SoftTargets(1.0)
        distiller = distiller_of(teacher, student, soft)
        report = distiller.diagnose(x, y, batch_size=40)
        assert report.of("teacher mode").severity == "fine", name
        follows = name == "moving"
        assert (report.of("teacher accuracy") is None) == follows
        assert (report.of("teacher cost") is None) == follows
        if name == "module":
            with torch.no_grad():
                predicted = numpy(module.eval()(torch.tensor(x)))
            right = (predicted.argmax(axis=-1) == y).mean()
            figures = report.of("teacher accuracy").figures
            assert figures["accuracy"] == pytest.approx(right)
    with pytest.warns(UserWarning, match="two temperatures"):
        distiller = distiller_of(ensemble, student)
    found = distiller.diagnose(x, y).of("ensemble temperature, soft_targets")
    assert found.figures == {"ensemble": 1.0, "loss": 4.0}


@pytest.mark.one_backend
def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    report = distiller_of(linear(), linear()).diagnose(*rows())
    assert report.of("teacher mode").severity == "fine"
    assert report.of("term soft_targets").figures["gradient"] > 0.0


@pytest.mark.one_backend
def test_labels_that_nothing_uses():
    distiller = distiller_of(linear(), linear(), loss=None)
    assert distiller.diagnose(*rows()).of("labels").severity == "look"
    assert distiller.diagnose(rows()[0]).of("labels") is None


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return rows(8, seed=index)


@pytest.mark.one_backend
def test_data_of_any_kind():
    import torch

    x, y = rows(24)
    distiller = distiller_of(linear(), linear())
    tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    index = {"labels": y, "sample_index": np.arange(24)}
    for given, batches in (
        ((x, y), 1),
        ((x.astype("float64"), index), 1),
        ((x, y, np.ones(24)), 1),
        ((Batches(),), 3),
        ((torch.utils.data.DataLoader(tensors, batch_size=6),), 4),
    ):
        report = distiller.diagnose(*given)
        assert (report.batches, report.samples) == (batches, 24)
    assert distiller.diagnose(x, y, batch_size=7).samples == 21
    assert distiller.diagnose(Batches(), batches=2).batches == 2


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "given, settings, error",
    [
        ((iter([rows()]),), {}, "A generator gives each batch once"),
        ((3,), {}, "Argument `x` must be what `fit` takes.*Received: x=3"),
        ((Batches(), rows()[1]), {}, "contain its labels and weights"),
        ((rows()[0], rows(31)[1]), {}, r"Received: arrays of \[31, 32\] rows"),
        ((np.zeros((0, 4)), np.zeros(0)), {}, "data without samples"),
        ((*rows(), np.zeros(32)), {}, "`sample_weight` of 0"),
        (rows(), {"batches": 0}, "`batches` must be a positive integer"),
        (rows(), {"batch_size": 0}, "`batch_size` must be a positive"),
        ((np.ones((8, 5)), np.ones(8)), {}, "takes inputs of shape"),
    ],
)
def test_bad_data(given, settings, error):
    with pytest.raises(ValueError, match=error):
        distiller_of(linear(), linear()).diagnose(*given, **settings)


@pytest.mark.one_backend
def test_a_distiller_that_is_not_ready():
    with pytest.raises(ValueError, match="compiled before it is diagnosed"):
        kd.Distiller(linear(), linear()).diagnose(*rows())
    with pytest.raises(ValueError, match="has no teacher"):
        kd.Distiller(None, linear()).diagnose(*rows())


# --- the report ---------------------------------------------------------------


@pytest.mark.one_backend
def test_the_report_fits_80_columns_and_has_the_worst_first():
    distiller = prepared()
    text = str(distiller.diagnose(*data(120)))
    assert max(map(len, text.splitlines())) <= 80
    words = [
        line.split()[0] for line in text.splitlines()[1:] if line[0] != " "
    ]
    order = ["wrong", "look", "fine"]
    assert words == sorted(words, key=order.index)
    findings = [
        kd.diagnosis.Finding("a", "fine", "Seen."),
        kd.diagnosis.Finding("b", "look", "Seen.", "Do."),
    ]
    report = kd.diagnosis.Diagnosis("d", findings, batches=2, samples=64)
    assert report.ok
    assert report.of("b").text == "Seen. Do."
    assert str(report).splitlines() == [
        "Diagnosis of 'd', by 2 batches, 64 samples: 1 to look at.",
        "look    b",
        "        Seen.",
        "        -> Do.",
        "fine    a",
        "        Seen.",
    ]
