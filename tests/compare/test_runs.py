"""Runs: what training by hand gives, by any way, data and task."""

import io
import sys

import keras
import numpy as np
import pytest
from comparisons import build
from comparisons import classes_data
from comparisons import compare
from comparisons import cooler
from comparisons import settings
from comparisons import without_times
from keras import layers
from support import numpy
from support import weights_of

import keras_kd as kd


def trained_by_hand(seed, make):
    keras.utils.set_random_seed(seed)
    student = build()
    model = make(student)
    model.compile(**settings())
    keras.utils.set_random_seed(seed)
    x, y = classes_data()
    model.fit(x[:40], y[:40], batch_size=16, epochs=2, verbose=0)
    return student


def softmax(logits):
    powers = np.exp(logits.astype("float64"))
    return powers / powers.sum(axis=-1, keepdims=True)


def calibration_by_hand(probabilities, labels, bins=15):
    confidence, total = probabilities.max(axis=-1), 0.0
    right = probabilities.argmax(axis=-1) == labels
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


def test_runs_are_what_training_by_hand_gives(tmp_path):
    teacher = build(8)
    before = weights_of(teacher)
    report = compare(teacher, folder=tmp_path)
    x, labels = (array[40:] for array in classes_data())
    taught = numpy(teacher(x)).argmax(axis=-1)
    makes = {
        "student alone": lambda student: student,
        "student distilled": lambda student: kd.Distiller(teacher, student),
    }
    for way, make in makes.items():
        student = trained_by_hand(1, make)
        name = way.replace(" ", "_")
        with np.load(tmp_path / f"{name}_seed_1.npz") as kept:
            for a, b in zip(kept.values(), student.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
        probabilities = softmax(numpy(student(x)))
        found = probabilities.argmax(axis=-1)
        expected = {
            "metric": np.mean(found == labels),
            "agreement": np.mean(found == taught),
            "calibration_error": calibration_by_hand(probabilities, labels),
            "class_accuracy": [
                np.mean(found[labels == each] == each) for each in range(3)
            ],
            "steps": 6,
        }
        for key, value in expected.items():
            close = pytest.approx(value, abs=1e-5)
            assert report.values(way, key)[1] == close, (way, key)
    assert report.costs["student alone"]["flops"] == 2 * (4 * 3 + 3 * 3)
    assert report.costs["teacher"]["parameters"] == 5 * 8 + 9 * 3
    assert report.values("teacher").tolist() == [np.mean(taught == labels)]
    assert report.values("teacher", "agreement").tolist() == [1.0]
    for a, b in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(a, b)


def test_order_of_ways_changes_nothing():
    """All start from the same weights with a seed, also after others."""
    starts = []

    def noted(make):
        def way(teacher, student):
            starts.append(weights_of(student)[0])
            return make(teacher, student)

        return way

    first = {"a": noted(cooler), "b": noted(lambda teacher, student: student)}
    second = {"b": first["b"], "a": first["a"]}
    teacher = build(8)
    reports = [
        compare(teacher, ways=ways, epochs=1, seeds=(3,))
        for ways in (first, second)
    ]
    assert without_times(reports[0]) == without_times(reports[1])
    for other in starts[1:]:
        np.testing.assert_array_equal(starts[0], other)
    # The way "b" is the student alone once more.
    one, two = (
        next(run for run in reports[1].runs if run["way"] == way)
        for way in ("b", "student alone")
    )
    assert one["metric"] == two["metric"] and one["history"] == two["history"]


@pytest.mark.one_backend
def test_way_may_have_data_settings_and_steps_of_its_own():
    x, y = classes_data()
    asked = []

    def data_of(seed):
        asked.append(seed)
        return x[:8], y[:8]

    def without_learning():
        return {**settings(), "optimizer": keras.optimizers.SGD(0.0)}

    report = compare(
        steps=5,
        ways={
            "few": kd.Way(train_data=data_of),
            "fixed": kd.Way(compile=without_learning, epochs=4),
            "teacher": kd.Way(steps=2),
        },
    )
    assert asked == [0, 1]
    steps = {way: report.values(way, "steps").tolist() for way in report.ways}
    assert steps.pop("teacher") == [2, 2]
    assert steps.pop("fixed") == [12, 12]
    assert steps == {
        way: [5, 5] for way in ("student alone", "student distilled", "few")
    }
    losses = report.runs[4]["history"]["loss"]
    assert report.runs[4]["way"] == "fixed"
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


@pytest.mark.one_backend
def test_same_time():
    report = compare(seconds=0.2, seeds=(0,))
    for run in report.runs:
        assert run["seconds"] >= 0.2
        # It ends with the first step beyond, and counts no step twice.
        assert run["timed_steps"] < run["steps"]
        step = run["seconds"] / run["timed_steps"]
        assert run["seconds"] < 0.2 + max(1.0, 100 * step)
        assert run["compile_seconds"] > 0.0
        assert run["cpu_seconds"] > 0.0


def as_py_dataset(x, y, size):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(x) // size

        def __getitem__(self, index):
            rows = slice(size * index, size * (index + 1))
            return x[rows], y[rows]

    return Batches()


def as_loader(x, y, size):
    import torch

    data = torch.utils.data.TensorDataset(*map(torch.as_tensor, (x, y)))
    return torch.utils.data.DataLoader(data, batch_size=size)


def as_tf_data(x, y, size):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", [as_py_dataset, as_loader, as_tf_data])
def test_kinds_of_data(kind):
    x, y = (array[:40] for array in classes_data())
    report = compare(
        train_data=kind(x, y, 40), test_data=kind(x, y, 10), seeds=(0,)
    )
    arrays = compare(
        train_data=(x, y), test_data=(x, y), batch_size=40, seeds=(0,)
    )
    assert report.about["samples"] == 40
    np.testing.assert_allclose(
        [run["history"]["loss"] for run in report.runs],
        [run["history"]["loss"] for run in arrays.runs],
        rtol=1e-5,
    )
    for way in report.ways:
        assert report.values(way) == arrays.values(way)


def fixed(weights, activation=None):
    """A model of a known product, which settings without learning keep."""
    dense = layers.Dense(len(weights[0]), use_bias=False, activation=activation)
    model = keras.Sequential([keras.Input((2,)), dense])
    dense.set_weights([np.array(weights, "float32")])
    return model


def compare_fixed(teacher, student, labels, loss, **arguments):
    x = np.array([[1, 0], [0, 1], [1, 1], [2, 1]], "float32")
    return kd.compare(
        teacher,
        lambda: keras.models.clone_model(student),
        (x, labels),
        (x, labels),
        compile=lambda: {"optimizer": keras.optimizers.SGD(0.0), "loss": loss},
        ways={"fixed": lambda teacher, _: student},
        epochs=1,
        seeds=(0,),
        verbose=0,
        **arguments,
    )


@pytest.mark.one_backend
def test_one_hot_labels():
    teacher = fixed([[2.0, -1.0, 0.0], [-1.0, 1.0, 0.5]])  # Says 0, 1, 0, 0.
    student = fixed([[0.0, 2.0, 0.0], [0.0, 0.0, 2.5]])  # Says 1, 2, 2, 1.
    labels = np.eye(3, dtype="float32")[[0, 2, 2, 0]]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    report = compare_fixed(teacher, student, labels, loss)
    assert report.about["task"] == "classification"
    assert report.values("fixed").tolist() == [0.5]
    assert report.values("fixed", "agreement").tolist() == [0.0]
    by_class = report.runs[-1]["class_accuracy"]
    assert by_class == [0.0, None, 1.0]


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:.*they come from a sigmoid")
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_yes_and_no(activation):
    logits = np.array([2.0, -1.0, 1.0, 3.0])
    labels = np.array([1, 0, 0, 1], "int32")
    student = fixed([[2.0], [-1.0]], activation)
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    report = compare_fixed(fixed([[1.0], [1.0]]), student, labels, loss)
    assert report.about["task"] == "binary"
    assert report.values("fixed").tolist() == [0.75]
    # The teacher says yes to all.
    assert report.values("fixed", "agreement").tolist() == [0.75]
    assert report.runs[-1]["class_accuracy"] == [0.5, 1.0]
    yes = 1 / (1 + np.exp(-logits))
    expected = calibration_by_hand(np.stack([1 - yes, yes], axis=-1), labels)
    found = report.values("fixed", "calibration_error")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.one_backend
def test_predictions_that_are_not_finite():
    teacher = fixed([[2.0, -1.0], [-1.0, 1.0]])
    lost = fixed([[np.nan, 0.0], [0.0, 1.0]])
    labels, loss = np.array([0, 1, 0, 1]), settings()["loss"]
    report = compare_fixed(teacher, lost, labels, loss)
    assert np.isnan(report.values("fixed")).all()
    assert np.isnan(report.values("fixed", "class_accuracy")).all()
    assert report.values("teacher").tolist() == [0.75]
    with pytest.raises(ValueError, match="the teacher predicts NaN"):
        compare_fixed(lost, teacher, labels, loss)


def mean_absolute_error(labels, outputs):
    return np.abs(labels - outputs).mean()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "metric", [mean_absolute_error, "mae", keras.metrics.MeanAbsoluteError()]
)
def test_regression(metric):
    labels = np.array([[1.5], [-1.0], [1.0], [2.0]], "float32")
    report = compare_fixed(
        fixed([[1.0], [1.0]]),
        fixed([[2.0], [-1.0]]),  # Predicts 2, -1, 1, 3.
        labels,
        "mse",
        metric=metric,
        lower_is_better=True,
    )
    assert report.values("fixed").tolist() == [0.375]
    assert report.about["metric"] == "mean_absolute_error"
    assert "agreement" not in report.runs[-1]
    assert "agreement" not in str(report)


def model_of(layer, *after):
    parts = [layers.Reshape((16, 4))] if layer.__class__ in SEQUENCES else []
    return keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            *parts,
            layer,
            *after,
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


SEQUENCES = (
    layers.Conv1D,
    layers.SimpleRNN,
    layers.GRU,
    layers.LSTM,
    layers.Bidirectional,
)


def attention(kind, *sizes):
    inputs = keras.Input((4, 4, 4))
    x = layers.Reshape((16, 4))(inputs)
    x = layers.Flatten()(kind(*sizes)(x, x))
    return keras.Model(inputs, layers.Dense(2)(x))


class Doubled(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


class Tied(layers.Embedding):
    """As language models have it: the same weights give the logits."""

    def call(self, inputs, reverse=False):
        if reverse:
            weights = keras.ops.transpose(self.embeddings)
            return keras.ops.matmul(inputs, weights)
        return super().call(inputs)

    def compute_output_spec(self, inputs, reverse=False):
        return keras.KerasTensor((*inputs.shape[:-1], self.input_dim))


def tied_embedding():
    tied, inputs = Tied(5, 4), keras.Input((4, 4, 4))
    tied.build()
    x = layers.Flatten()(tied(inputs, reverse=True))
    return keras.Model(inputs, layers.Dense(2)(x))


# What the layer multiplies for 4 x 4 places of 4 values, and what it returns.
FLOPS = {
    "Dense": (lambda: model_of(layers.Dense(5)), 16 * 4 * 5, 80),
    "EinsumDense": (
        lambda: model_of(layers.EinsumDense("abcd,de->abce", (4, 4, 5))),
        16 * 4 * 5,
        80,
    ),
    "Embedding, reversed": (tied_embedding, 16 * 4 * 5, 80),
    "Conv1D": (lambda: model_of(layers.Conv1D(6, 3)), 14 * 6 * 3 * 4, 84),
    "Conv2D": (
        lambda: model_of(layers.Conv2D(6, 2, strides=2, groups=2)),
        4 * 6 * 4 * 2,
        24,
    ),
    "DepthwiseConv2D": (
        lambda: model_of(layers.DepthwiseConv2D(3, depth_multiplier=2)),
        4 * 8 * 9,
        32,
    ),
    "SeparableConv2D": (
        lambda: model_of(layers.SeparableConv2D(6, 3, padding="same")),
        16 * (4 * 9 + 4 * 6),
        96,
    ),
    "Conv2DTranspose": (
        lambda: model_of(layers.Conv2DTranspose(2, 2, strides=2)),
        16 * 4 * 4 * 2,
        128,
    ),
    "SimpleRNN": (lambda: model_of(layers.SimpleRNN(5)), 16 * 5 * 9, 5),
    "GRU": (lambda: model_of(layers.GRU(5)), 3 * 16 * 5 * 9, 5),
    "LSTM": (lambda: model_of(layers.LSTM(5)), 4 * 16 * 5 * 9, 5),
    "Bidirectional": (
        lambda: model_of(layers.Bidirectional(layers.SimpleRNN(5))),
        2 * 16 * 5 * 9,
        10,
    ),
    "MultiHeadAttention": (
        lambda: attention(layers.MultiHeadAttention, 2, 3),
        4 * 16 * 4 * 6 + 2 * 16 * 16 * (3 + 3),
        64,
    ),
    "GroupQueryAttention": (
        lambda: attention(layers.GroupQueryAttention, 3, 4, 2),
        2 * 16 * 4 * 12 + 2 * 16 * 4 * 6 + 4 * 16 * 16 * (3 + 3),
        64,
    ),
    "BatchNormalization": (
        lambda: model_of(layers.BatchNormalization(), layers.ReLU()),
        0,
        64,
    ),
    "unknown": (lambda: model_of(Doubled()), 0, 64),
}


@pytest.mark.one_backend
def test_flops_and_sizes_are_those_counted_by_hand():
    """A way may fit any model: here one for each kind of layer."""
    x = np.zeros((2, 4, 4, 4), "float32")
    report = kd.compare(
        model_of(layers.Flatten()),
        lambda: model_of(layers.Flatten()),
        (x, np.array([0, 1])),
        (x, np.array([0, 1])),
        compile=settings,
        steps=1,
        seeds=(0,),
        verbose=0,
        ways={
            name: lambda teacher, student, make=make: make()
            for name, (make, _, _) in FLOPS.items()
        },
    )
    found = {name: report.costs[name]["flops"] for name in FLOPS}
    expected = {
        name: 2 * (products + 2 * size)
        for name, (_, products, size) in FLOPS.items()
    }
    assert found == expected
    kinds = {name: report.costs[name]["not_counted"] for name in FLOPS}
    assert kinds.pop("unknown") == ["Doubled"]
    assert not any(kinds.values())
    dense = report.costs["Dense"]
    assert dense["parameters"] == 25 + 162
    assert dense["memory_bytes"] == 4 * (25 + 162) < dense["disk_bytes"] < 4000
    assert 0.0 < dense["latency"] < 1.0 and dense["batch"] == 2
    # One student, one latency.
    assert report.costs["student alone"] == report.costs["student distilled"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.one_backend
def test_progress_names_what_runs(capsys, monkeypatch):
    why = kd.Way(description="What the teacher adds is measured from here.")
    ways = {"student alone": why}
    compare(seeds=(3, 4), epochs=1, verbose=1, ways=ways)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/6 teacher, seed 3: accuracy ")
    assert lines[0].endswith(" s left")
    assert lines[1] == f"student alone: {why.description}"
    assert lines[3].startswith("3/6 student distilled, seed 3: accuracy ")
    assert lines[5].startswith("5/6 student alone, seed 4: accuracy ")
    assert len(lines) == 7 and "left" not in lines[-1]

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    compare(
        seeds=(3,),
        epochs=1,
        verbose=1,
        compile=lambda: {**settings(), "metrics": ["accuracy"]},
    )
    assert "\r1/3 teacher, seed 3 [" in terminal.getvalue()
    assert "] accuracy 0." in terminal.getvalue()


class Two(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)
        self.built = True
        self.dense.build((None, 4))

    def call(self, inputs):
        return {"a": self.dense(inputs), "b": self.dense(inputs)}


ONE, MODEL = keras.optimizers.SGD(0.1), build()
UNBUILT = keras.Sequential([layers.Dense(3)])
X, Y = classes_data(8)


class Shuffled(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        order = np.random.permutation(8)
        return X[order], Y[order]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"epochs": None}, "one of `epochs`, `steps` and `seconds`.*none"),
        ({"steps": 3, "seconds": 1.0}, "one of `epochs`.*'seconds'"),
        ({"seconds": 0.0}, "`seconds` must be .* above 0"),
        ({"seeds": ()}, "one or more integers"),
        ({"seeds": (1, 1)}, r"all different. Received: \[1, 1\]"),
        ({"build_student": build()}, "`build_student` must be a function"),
        ({"compile": {"optimizer": "sgd"}}, "`compile` must be a function"),
        ({"train_data": iter([])}, "Received: a generator"),
        ({"test_data": X}, "inputs and labels"),
        ({"test_data": (X, Y, Y)}, "with sample weights"),
        ({"test_data": (X, Y + 2)}, "classes from 0 to 2.*from 2 to "),
        ({"test_data": (X, Y[:4])}, "one row for each sample"),
        ({"test_data": (np.array(["a", "b"]), Y[:2])}, "of texts or objects"),
        ({"test_data": Shuffled()}, "same order each time.*from sample 0"),
        ({"task": "detection"}, "`task` must be one of"),
        ({"task": "regression"}, "for regression there is no default"),
        ({"metric": 3}, "`metric` must be a function"),
        ({"metric": "mse"}, "`lower_is_better=True`.*Received: .*None"),
        ({"ways": [cooler]}, "must be a dict"),
        ({"ways": {"teacher": cooler}}, "builds the teacher"),
        ({"ways": {"a b": cooler, "a_b": cooler}}, "differ in letters"),
        ({"teacher": Two()}, "one output.*returns dict"),
        ({"teacher": build(8).layers}, "`teacher` must be a function"),
    ],
)
def test_errors_come_before_training(changed, told):
    def refused():
        raise AssertionError

    arguments = {"compile": refused, **changed}
    with pytest.raises(ValueError, match=f"(?s){told}"):
        compare(**arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"compile": lambda: {**settings(), "optimizer": ONE}},
            "new optimizer",
        ),
        ({"compile": lambda: "adam"}, "as a dict"),
        ({"build_student": lambda: MODEL}, "new Keras model"),
        (
            {"build_student": lambda: UNBUILT},
            "that has its weights.*'sequential",
        ),
        ({"ways": {"way": lambda *_: None}}, "'way' must return a Keras model"),
    ],
)
def test_errors_of_functions(changed, told):
    with pytest.raises(ValueError, match=told):
        compare(build(8), **{"epochs": 1, **changed})
