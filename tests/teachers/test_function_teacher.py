"""Python functions, classifiers and foreign models as the teacher."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import LogisticRegression
from support import BACKEND
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd.teachers import FunctionTeacher
from keras_kd.teachers import fingerprint
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient

MATRIX = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
SAMPLES = np.random.default_rng(2).normal(size=(6, 4)).astype("float32")


class Recorder:
    """A linear function that keeps what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, array):
        self.given.append(array)
        return array @ MATRIX


@keras.saving.register_keras_serializable(package="keras_kd_tests")
def registered(array):
    return array @ MATRIX


def constant(row):
    def same_row(array):
        return np.tile(np.asarray(row), (len(array), 1))

    return same_row


def student(units=3):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(16, "relu"), layers.Dense(units)]
    )


def distiller_of(teacher, **kwargs):
    distiller = kd.Distiller(teacher, student(), hard_weight=0.0)
    distiller.compile(optimizer=keras.optimizers.Adam(0.02), **kwargs)
    return distiller


def compiled(function, inputs):
    """The function's value in a compiled step."""
    if BACKEND == "jax":
        import jax

        return numpy(jax.jit(function)(inputs))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec((None, *inputs.shape[1:]))]
        return numpy(tf.function(function, signature)(inputs))
    return numpy(function(ops.convert_to_tensor(inputs)))


# --- the call to the host ---------------------------------------------------


def test_a_compiled_step_gets_what_the_function_returns_many_times():
    recorder = Recorder()
    teacher = FunctionTeacher(recorder, (4,), 3)

    def step(x):
        return teacher(2.0 * x)

    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(256, 4)).astype("float32")
        assert_close(compiled(step, x), 2.0 * x @ MATRIX)
        assert_close(recorder.given[-1], 2.0 * x)
    assert {type(array) for array in recorder.given} == {np.ndarray}


def test_batches_larger_than_a_copy_buffer():
    # pure_callback hangs here on one core.
    x = np.ones((64, 3 * 64 * 64), "float32")
    teacher = FunctionTeacher(lambda a: a[:, :2], x.shape[1:], 2)
    assert_close(compiled(teacher, x), np.ones((64, 2)))


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's call off the CPU")
def test_where_buffers_are_not_the_hosts(monkeypatch):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    teacher = FunctionTeacher(registered, (4,), 3)
    assert_close(compiled(teacher, SAMPLES), SAMPLES @ MATRIX)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's compiler")
def test_pytorchs_compiler_leaves_the_function_alone():
    import torch

    recorder = Recorder()
    teacher = FunctionTeacher(recorder, (4,), 3)
    step = torch.compile(lambda x: teacher(x) * 2.0, backend="eager")
    for factor in (1.0, 3.0):
        doubled = step(ops.convert_to_tensor(factor * SAMPLES))
        assert_close(numpy(doubled), 2.0 * factor * SAMPLES @ MATRIX)
    assert [type(array) for array in recorder.given] == 2 * [np.ndarray]


def test_xla_is_off_for_it_on_tensorflow_alone():
    teacher = FunctionTeacher(registered, (4,), 3)
    assert teacher.supports_jit == (BACKEND != "tensorflow")


def test_the_function_may_keep_and_change_its_array():
    def spoil(array):
        array[:] = -1.0
        return array[:, :3]

    tensor = ops.convert_to_tensor(SAMPLES)
    FunctionTeacher(spoil, (4,), 3)(tensor)
    assert_close(numpy(tensor), SAMPLES)


def test_no_gradient_flows():
    teacher = FunctionTeacher(registered, (4,), 3)
    _, gradient = value_and_gradient(
        lambda x: ops.sum(x[:, :3] * teacher(x)), SAMPLES
    )
    expected = np.zeros((6, 4))
    expected[:, :3] = SAMPLES @ MATRIX
    assert_close(gradient, expected)


def test_inferring_shapes_does_not_call_the_function():
    recorder = Recorder()
    teacher = FunctionTeacher(recorder, (4,), 3)
    inputs = keras.Input((4,))
    assert teacher(inputs).shape == (None, 3)
    spec = layers.Lambda(lambda x: teacher(x) + 1.0)(inputs)
    assert spec.shape == (None, 3) and spec.dtype == "float32"
    assert teacher.compute_output_shape((7, 4)) == (7, 3)
    kd.Distiller(teacher, student())
    assert recorder.given == []


# --- outputs ----------------------------------------------------------------


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_logits_are_the_functions(policy):
    keras.config.set_dtype_policy(policy)
    teacher = FunctionTeacher(registered, (4,), 3)
    logits = teacher(ops.convert_to_tensor(SAMPLES))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert_close(numpy(logits), SAMPLES @ MATRIX)


def test_probabilities_become_their_logits():
    row = [0.7, 0.25, 0.05]
    teacher = FunctionTeacher(constant(row), (4,), 3, from_logits=False)
    made = numpy(ops.softmax(teacher(SAMPLES)))
    assert_close(made, np.tile(row, (6, 1)))


def test_zeros_get_the_floor():
    arguments = {"from_logits": False, "floor": 0.01}
    teacher = FunctionTeacher(constant([1.0, 0.0]), (4,), 2, **arguments)
    assert_close(
        numpy(ops.softmax(teacher(SAMPLES)))[0],
        np.array([1 / 1.01, 0.01 / 1.01]),
    )
    default = FunctionTeacher(registered, (4,), 50)
    assert default.floor == 0.01 / 50


@pytest.mark.parametrize("from_logits", [True, False])
def test_columns_are_put_at_their_classes(from_logits):
    row = np.array([0.2, 0.8])
    teacher = FunctionTeacher(
        constant(np.log(row) + 3.0 if from_logits else row),
        (4,),
        4,
        from_logits=from_logits,
        classes=[3, 1],
        floor=0.05,
    )
    expected = np.array([0.05, 0.8, 0.05, 0.2]) / 1.1
    assert_close(numpy(ops.softmax(teacher(SAMPLES)))[0], expected)


def test_the_input_type_is_the_functions():
    recorder = Recorder()
    teacher = FunctionTeacher(recorder, (4,), 3, input_dtype="float64")
    teacher(SAMPLES)
    assert recorder.given[0].dtype == "float64"


@pytest.mark.parametrize(
    "row, from_logits, message",
    [
        ([1.0, 2.0], True, r"shape \(6, 2\).*shape \(6, 3\)"),
        ([1.0, np.nan, 2.0], True, "6 entries NaN or infinite"),
        (["a", "b", "c"], True, "type <U1"),
        ([2.0, -1.0, 0.0], False, "entries from -1 to 2"),
        ([0.9, 0.9, 0.9], False, "rows that sum to 2.7"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused(row, from_logits, message):
    teacher = FunctionTeacher(constant(row), (4,), 3, from_logits=from_logits)
    with pytest.raises(Exception, match=f"(?s)function same_row of.*{message}"):
        compiled(teacher, SAMPLES)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"function": 3}, "`function` must be"),
        ({"function": layers.Dense(2)}, "a Keras model is a teacher itself"),
        ({"num_classes": 0}, "`num_classes` must be"),
        ({"from_logits": "odds"}, "`from_logits` must be"),
        ({"floor": 0.5}, "`floor` must be"),
        ({"floor": 0.0}, "`floor` must be"),
        ({"classes": [0, 3]}, "from 0 to 2"),
        ({"classes": [1, 1]}, "`classes` must be a list"),
        ({"version": 2}, r"`version` must be a text.*version=2 \(of type int"),
        ({"version": ""}, "`version` must be a text"),
    ],
)
def test_arguments_are_checked(changes, message):
    arguments = {"function": registered, "input_shape": (4,), "num_classes": 3}
    with pytest.raises(ValueError, match=message):
        FunctionTeacher(**{**arguments, **changes})


# --- scikit-learn -----------------------------------------------------------


def iris():
    x, y = load_iris(return_X_y=True)
    return ((x - x.mean(0)) / x.std(0)).astype("float32"), y


def forest(x, y):
    return RandomForestClassifier(10, max_depth=4, random_state=0).fit(x, y)


@pytest.mark.parametrize(
    "make", [forest, lambda x, y: LogisticRegression().fit(x, y)]
)
def test_a_classifier_gives_its_probabilities(make):
    x, y = iris()
    classifier = make(x, y)
    teacher = FunctionTeacher.of_classifier(classifier, (4,))
    logits = teacher.predict(x, verbose=0, batch_size=64)
    np.testing.assert_array_equal(logits.argmax(-1), classifier.predict(x))
    expected = np.maximum(classifier.predict_proba(x), 0.01 / 3)
    expected /= expected.sum(-1, keepdims=True)
    assert_close(numpy(ops.softmax(logits)), expected)


def test_a_classifier_that_never_saw_a_class_and_one_of_images():
    x, y = iris()
    classifier = forest(x[y != 1], y[y != 1])
    teacher = FunctionTeacher.of_classifier(classifier, (2, 2), num_classes=4)
    assert teacher.classes == (0, 2)
    logits = numpy(teacher(x.reshape(-1, 2, 2)))
    assert logits.shape == (150, 4)
    assert set(logits.argmax(-1)) == {0, 2}


def test_classes_that_are_no_integers_need_their_numbers():
    x, y = iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    classifier = forest(x, names[y])
    with pytest.raises(ValueError, match="setosa.*Give `classes`"):
        FunctionTeacher.of_classifier(classifier, (4,))
    teacher = FunctionTeacher.of_classifier(classifier, (4,), classes=[2, 0, 1])
    expected = classifier.predict(x) == "versicolor"
    np.testing.assert_array_equal(numpy(teacher(x)).argmax(-1) == 0, expected)


@pytest.mark.one_backend
def test_classifiers_without_probabilities_are_refused():
    x, y = iris()
    with pytest.raises(ValueError, match="fitted"):
        FunctionTeacher.of_classifier(LogisticRegression(), (4,))
    classifier = forest(x, np.stack([y, y], axis=-1))
    with pytest.raises(ValueError, match="2 outputs"):
        FunctionTeacher.of_classifier(classifier, (4,))


def test_a_regressor_gives_its_numbers():
    x, y = iris()
    regressor = LinearRegression().fit(x, y.astype("float64"))
    teacher = FunctionTeacher.of_regressor(regressor, (2, 2))
    values = numpy(teacher(x.reshape(-1, 2, 2)))
    assert values.shape == (150, 1)
    assert_close(values[:, 0], regressor.predict(x))
    both = LinearRegression().fit(x, np.stack([y, -2.0 * y], axis=-1))
    teacher = FunctionTeacher.of_regressor(both, (4,), outputs=2, version="1")
    distiller = kd.Distiller(
        teacher, student(2), keras.losses.MeanSquaredError(), hard_weight=0.0
    )
    distiller.compile("sgd", loss=None)
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    predicted = distiller.student.predict(x, verbose=0)
    expected = np.mean((predicted - both.predict(x)) ** 2)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.one_backend
def test_regressors_and_classifiers_are_told_apart():
    x, y = iris()
    regressor = LinearRegression().fit(x, y)
    with pytest.raises(ValueError, match="`FunctionTeacher.of_regressor`"):
        FunctionTeacher.of_classifier(regressor, (4,))
    with pytest.raises(ValueError, match="`FunctionTeacher.of_classifier`"):
        FunctionTeacher.of_regressor(forest(x, y), (4,))
    both = LinearRegression().fit(x, np.stack([y, y], axis=-1))
    teacher = FunctionTeacher.of_regressor(both, (4,))
    with pytest.raises(ValueError, match=r"\(6, 2\).*Expected.*\(6, 1\)"):
        teacher(SAMPLES)


# --- several inputs and outputs ---------------------------------------------

IDS = np.array([[1, 2], [0, 3], [4, 4], [2, 0], [1, 1], [3, 2]], "int32")
STRUCTURES = {
    "dict": ({"x": (4,), "ids": (2,)}, {"x": "float32", "ids": "int64"}),
    "list": ([(4,), (2,)], ["float32", "int64"]),
}


def parts_of(inputs):
    if isinstance(inputs, dict):
        assert sorted(inputs) == ["ids", "x"]
        return inputs["x"], inputs["ids"]
    return inputs


def several(inputs):
    x, ids = parts_of(inputs)
    assert x.dtype == "float32" and ids.dtype == "int64"
    return {"cls": x @ MATRIX, "size": ids.sum(axis=-1)}


def two_heads(names=("x", "ids")):
    inputs = [
        keras.Input((4,), name=names[0]),
        keras.Input((2,), dtype="int32", name=names[1]),
    ]
    hidden = layers.Concatenate()([inputs[0], ops.cast(inputs[1], "float32")])
    outputs = {
        "cls": layers.Dense(3, name="cls")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    return inputs, outputs


@pytest.mark.parametrize("kind", STRUCTURES)
def test_several_inputs_and_outputs(kind):
    shapes, types = STRUCTURES[kind]
    outputs = {"cls": (3,), "size": (1,)}
    teacher = FunctionTeacher(
        several, shapes, output_shape=outputs, input_dtype=types, version="1"
    )
    inputs, heads = two_heads()
    named = dict(zip(["x", "ids"], inputs)) if kind == "dict" else inputs
    distiller = kd.Distiller(
        teacher,
        keras.Model(named, heads),
        [
            kd.Transfer(
                keras.losses.MeanSquaredError(),
                name=name,
                teacher=f"[{name}]",
                student=f"[{name}]",
            )
            for name in outputs
        ],
        hard_weight=0.0,
    )
    distiller.compile("sgd", loss=None)
    data = {"x": SAMPLES, "ids": IDS} if kind == "dict" else [SAMPLES, IDS]
    logs = distiller.evaluate(data, batch_size=6, verbose=0, return_dict=True)
    student = distiller.student.predict(data, verbose=0)
    expected = np.mean((student["cls"] - SAMPLES @ MATRIX) ** 2)
    assert logs["cls_loss"] == pytest.approx(expected, rel=1e-5)
    sizes = IDS.sum(axis=-1, keepdims=True)
    expected = np.mean((student["size"] - sizes) ** 2)
    assert logs["size_loss"] == pytest.approx(expected, rel=1e-5)
    distiller.fit(data, verbose=0)


def test_entries_that_the_function_does_not_take_are_left_out():
    teacher = FunctionTeacher(
        lambda inputs: inputs["x"] @ MATRIX, {"x": (4,)}, 3, version="1"
    )
    data = {"x": ops.convert_to_tensor(SAMPLES), "ids": IDS}
    assert_close(numpy(teacher(data)), SAMPLES @ MATRIX)
    with pytest.raises(ValueError, match=r"entries \['x'\].*\['ids'\]"):
        teacher({"ids": IDS})


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "returned, message",
    [
        (lambda n: {"cls": np.ones((n, 3))}, "Received: a dict with"),
        (lambda n: np.ones((n, 3)), "Received: one array"),
        (
            lambda n: {"cls": np.ones((n, 3)), "size": np.ones((n, 2))},
            r"\(6, 2\).*Expected: numbers of shape \(6, 1\)",
        ),
    ],
)
def test_outputs_of_another_structure_are_refused(returned, message):
    shapes = {"cls": (3,), "size": (1,)}
    teacher = FunctionTeacher(
        lambda x: returned(len(x)), (4,), output_shape=shapes
    )
    with pytest.raises(ValueError, match=f"(?s)can't be used. .*{message}"):
        teacher(SAMPLES)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "or else `output_shape`"),
        ({"num_classes": 3, "output_shape": (3,)}, "or else `output_shape`"),
        ({"output_shape": (3,), "classes": [0]}, "`num_classes` instead"),
        ({"output_shape": "three"}, "Argument `output_shape` must be"),
        ({"num_classes": 3, "input_shape": 4}, "Argument `input_shape` must"),
    ],
)
def test_shapes_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        FunctionTeacher(registered, **{"input_shape": (4,), **changes})


# --- distillation -----------------------------------------------------------


def test_a_student_learns_from_a_forest_without_labels():
    x, y = iris()
    classifier = forest(x, y)
    distiller = distiller_of(FunctionTeacher.of_classifier(classifier, (4,)))
    distiller.fit(x, epochs=20, verbose=0)
    classes = distiller.predict(x, verbose=0).argmax(-1)
    # 0.33 by chance.
    assert np.mean(classes == classifier.predict(x)) > 0.85


def test_the_function_runs_once_a_step():
    recorder = Recorder()
    distiller = distiller_of(FunctionTeacher(recorder, (4,), 3))
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    distiller.fit(x, epochs=2, batch_size=16, shuffle=False, verbose=0)
    assert len(recorder.given) == 6
    for given, start in zip(recorder.given, [0, 16, 32, 0, 16, 32]):
        assert type(given) is np.ndarray
        assert_close(given, x[start : start + 16])
    logs = distiller.evaluate(x, batch_size=16, return_dict=True, verbose=0)
    assert len(recorder.given) == 9
    assert np.isfinite(logs["soft_targets_loss"])


def test_a_wrong_array_in_fit_names_the_function():
    distiller = distiller_of(FunctionTeacher(constant([1.0, 2.0]), (4,), 3))
    with pytest.raises(Exception, match="(?s)function same_row of.*Expected"):
        distiller.fit(SAMPLES, verbose=0)


# --- saving and telling apart -----------------------------------------------


@pytest.mark.one_backend
def test_a_plain_function_is_not_saved():
    with pytest.raises(ValueError, match="rarely needed"):
        FunctionTeacher(constant([1.0]), (4,), 1).get_config()


def test_a_registered_function_is_saved(tmp_path):
    teacher = FunctionTeacher(registered, (4,), 5, classes=[4, 0, 2])
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.saving.load_model(tmp_path / "teacher.keras")
    assert loaded.get_config() == teacher.get_config()
    assert_close(numpy(loaded(SAMPLES)), numpy(teacher(SAMPLES)))


def test_several_outputs_are_saved(tmp_path):
    teacher = FunctionTeacher(
        registered, [(4,)], output_shape={"y": (3,)}, input_dtype=["float32"]
    )
    config = teacher.get_config()
    loaded = FunctionTeacher.from_config(json.loads(json.dumps(config)))
    assert loaded.compute_output_shape([(7, 4)]) == {"y": (7, 3)}


@pytest.mark.one_backend
def test_fingerprints_tell_versions_and_settings_apart():
    def of(function=registered, version="1", **kwargs):
        return fingerprint(
            FunctionTeacher(function, (4,), 3, version=version, **kwargs)
        ).tolist()

    recorder = Recorder()
    assert of(recorder) == of() == of(name="other")
    assert recorder.given == []
    settings = [
        {},
        {"version": "2"},
        {"classes": [1, 0, 2]},
        {"from_logits": False},
        {"floor": 0.1},
        {"input_dtype": "float64"},
    ]
    prints = [of(**arguments) for arguments in settings]
    for place, each in enumerate(prints):
        assert each not in prints[:place]
    # As it is in every process.
    teacher = FunctionTeacher(registered, (4,), 3, version="1")
    assert teacher.fingerprint_bytes() == (
        b"[('classes', (0, 1, 2)), ('floor', 0.0033333333333333335), "
        b"('from_logits', True), ('input_dtype', 'float32'), "
        b"('input_shape', (4,)), ('name', None), ('num_classes', 3), "
        b"('version', '1')]"
    )


@pytest.mark.one_backend
def test_a_function_without_a_version_gives_a_warning_once():
    teacher = FunctionTeacher(registered, (4,), 3, name="api")
    with pytest.warns(UserWarning) as warned:
        first = fingerprint(teacher)
        second = fingerprint(teacher)
    np.testing.assert_array_equal(first, second)
    # PyTorch has warnings of its own.
    (warning,) = [each for each in warned if each.category is UserWarning]
    message = str(warning.message)
    assert "teacher 'api' is the function registered" in message
    assert "`FunctionTeacher(..., version='2024-05')`" in message


def test_a_changed_function_is_refused_by_its_version(tmp_path):
    def states_of(version):
        teacher = FunctionTeacher(registered, (4,), 3, version=version)
        distiller = distiller_of(teacher, loss=None)
        distiller.fit(SAMPLES, verbose=0)
        return distiller

    path = tmp_path / "state.weights.h5"
    states_of("2024-05").save_weights(path)
    states_of("2024-05").load_weights(path)
    with pytest.raises(ValueError, match="is not the one that this training"):
        states_of("2024-06").load_weights(path)


# --- models of other libraries, wrapped by Keras ----------------------------


def torch_teacher(path):
    import torch

    module = torch.nn.Linear(4, 3)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.TorchModuleWrapper(module, output_shape=(None, 3)),
        ]
    )


def tensorflow_teacher(path):
    import tensorflow as tf

    class Linear(tf.Module):
        def __init__(self):
            self.matrix = tf.Variable(MATRIX)

        @tf.function(input_signature=[tf.TensorSpec((None, 4))])
        def serve(self, x):
            return x @ self.matrix

    tf.saved_model.save(Linear(), str(path))
    return keras.Sequential([keras.Input((4,)), layers.TFSMLayer(str(path))])


def jax_teacher(path):
    layer = layers.JaxLayer(
        lambda params, inputs: inputs @ params["matrix"],
        params={"matrix": MATRIX},
    )
    return keras.Sequential([keras.Input((4,)), layer])


def test_a_wrapped_model_of_the_backend_teaches(tmp_path):
    makers = {
        "torch": torch_teacher,
        "tensorflow": tensorflow_teacher,
        "jax": jax_teacher,
    }
    teacher = makers[BACKEND](tmp_path / "teacher")
    before = [np.copy(weight) for weight in weights_of(teacher)]
    assert before
    distiller = distiller_of(teacher, jit_compile="auto")
    weights = [np.copy(weight) for weight in weights_of(distiller.student)]
    distiller.fit(SAMPLES, verbose=0)
    for old, new in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)
    assert all(weight.trainable for weight in teacher.trainable_weights)
    changed = weights_of(distiller.student)
    assert not np.array_equal(weights[0], changed[0])
    assert_close(
        numpy(distiller.complete_batch((SAMPLES,))[1].teacher.output),
        teacher.predict(SAMPLES, verbose=0),
    )


def test_xla_is_off_on_tensorflow_alone():
    distiller = distiller_of(FunctionTeacher(lambda x: x[:, :3], (4,), 3))
    assert distiller.supports_jit == (BACKEND != "tensorflow")


def test_a_loaded_distiller_goes_on_with_its_function(tmp_path):
    teacher = FunctionTeacher(lambda x: x[:, :3], (4,), 3, version="1")
    distiller = distiller_of(teacher, loss=None)
    distiller.fit(SAMPLES, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    loaded.set_teacher(teacher)
    loaded.fit(SAMPLES, verbose=0)
    assert loaded.training_step == 2 * distiller.training_step > 0
    if BACKEND == "tensorflow":
        assert loaded.jit_compile is False


def test_a_function_takes_the_place_of_a_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    distiller = distiller_of(model, loss=None, jit_compile=BACKEND != "torch")
    distiller.fit(SAMPLES, verbose=0)
    sizes = []

    def function(x):
        sizes.append(len(x))
        return x[:, :3]

    distiller.set_teacher(FunctionTeacher(function, (4,), 3))
    sizes.clear()
    for run in (distiller.fit, distiller.evaluate):
        run(SAMPLES, verbose=0)
        assert sum(sizes) == len(SAMPLES)
        sizes.clear()
