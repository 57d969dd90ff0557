"""Models in ONNX files as the teacher."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import numpy

import keras_kd as kd
from keras_kd.teachers import OnnxModel
from keras_kd.teachers import fingerprint
from keras_kd.testing import assert_close

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MATRIX = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
SAMPLES = np.random.default_rng(2).normal(size=(10, 4)).astype("float32")
IDS = np.random.default_rng(3).integers(0, 4, size=(10, 5)).astype("int32")
MASK = (np.arange(5) < np.arange(1, 11)[:, None]).astype("int32")


def value(name, kind, shape):
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def saved(path, nodes, inputs, outputs, constants=None):
    """Writes a graph of nodes `(operation, inputs, output, attributes)`."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(kind, given, [made], **options)
            for kind, given, made, options in nodes
        ],
        "graph",
        inputs,
        outputs,
        [
            onnx.numpy_helper.from_array(array, name)
            for name, array in (constants or {}).items()
        ],
    )
    opset = onnx.helper.make_opsetid("", 13)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, path)
    return path


def linear(path, matrix=MATRIX, batch="n"):
    """`x @ matrix`."""
    kind = onnx.TensorProto.FLOAT
    return saved(
        path / "linear.onnx",
        [("MatMul", ["x", "matrix"], "logits", {})],
        [value("x", kind, [batch, 4])],
        [value("logits", kind, [batch, 3])],
        {"matrix": matrix},
    )


def tokens(path):
    """An embedding of tokens times a mask, each and their sum."""
    whole, kind = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    return saved(
        path / "tokens.onnx",
        [
            ("Gather", ["table", "ids"], "embedded", {}),
            ("Cast", ["mask"], "float_mask", {"to": kind}),
            ("Unsqueeze", ["float_mask", "last"], "column", {}),
            ("Mul", ["embedded", "column"], "hidden", {}),
            ("ReduceSum", ["hidden", "time"], "logits", {"keepdims": 0}),
        ],
        [value("ids", whole, ["n", "t"]), value("mask", whole, ["n", "t"])],
        [
            value("hidden", kind, ["n", "t", 3]),
            value("logits", kind, ["n", 3]),
        ],
        {
            "table": MATRIX,
            "last": np.array([-1], "int64"),
            "time": np.array([1], "int64"),
        },
    )


def hidden_of(ids, mask):
    return MATRIX[ids] * mask[..., None]


def student():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def text_student(length=5):
    inputs = {
        name: keras.Input((length,), dtype="int32", name=name)
        for name in ("ids", "mask")
    }
    hidden = layers.Embedding(4, 3, name="hidden")(inputs["ids"])
    mask = ops.cast(ops.expand_dims(inputs["mask"], -1), "float32")
    return keras.Model(inputs, ops.sum(hidden * mask, axis=1))


def squared(**taps):
    return kd.Transfer(keras.losses.MeanSquaredError(), **taps)


def logs_of(distiller, *data, **options):
    distiller.compile("sgd", loss=None)
    return distiller.evaluate(*data, verbose=0, return_dict=True, **options)


# --- values -----------------------------------------------------------------


@pytest.mark.parametrize("batch", ["n", 4], ids=["any batch", "batches of 4"])
def test_the_step_compares_with_the_graphs_output(tmp_path, batch):
    teacher = OnnxModel(linear(tmp_path, batch=batch))
    distiller = kd.Distiller(teacher, student(), squared())
    # Batches of 7 and 3: neither is the graph's.
    logs = logs_of(distiller, SAMPLES, batch_size=7)
    predicted = distiller.student.predict(SAMPLES, verbose=0)
    errors = np.mean((predicted - SAMPLES @ MATRIX) ** 2, axis=-1)
    assert logs["mean_squared_error_loss"] == pytest.approx(
        np.mean(errors), rel=1e-5
    )
    before = fingerprint(teacher)
    distiller.fit(SAMPLES, batch_size=7, verbose=0)
    found = distiller.complete_batch((ops.convert_to_tensor(SAMPLES),))[1]
    assert_close(numpy(found.teacher.output), SAMPLES @ MATRIX)
    np.testing.assert_array_equal(before, fingerprint(teacher))
    assert teacher.supports_jit == (BACKEND != "tensorflow")


@pytest.mark.parametrize("length", [5, None], ids=["stated", "the data's"])
def test_inputs_by_name_and_outputs_by_tap(tmp_path, length):
    teacher = OnnxModel(tokens(tmp_path))
    distiller = kd.Distiller(
        teacher,
        text_student(length),
        [
            kd.Transfer(
                keras.losses.MeanSquaredError(),
                name="hidden",
                teacher="[hidden]",
                student="hidden",
            ),
            squared(teacher="[logits]"),
        ],
    )
    data = {"ids": IDS, "mask": MASK}
    logs = logs_of(distiller, data, batch_size=10)
    expected = hidden_of(IDS, MASK)
    hidden = numpy(distiller.student.get_layer("hidden")(IDS))
    assert logs["hidden_loss"] == pytest.approx(
        np.mean((hidden - expected) ** 2), rel=1e-5
    )
    logits = distiller.student.predict(data, verbose=0)
    assert logs["mean_squared_error_loss"] == pytest.approx(
        np.mean((logits - expected.sum(axis=1)) ** 2), rel=1e-5
    )
    distiller.fit(data, batch_size=5, verbose=0)


def test_inputs_are_brought_to_the_graphs(tmp_path):
    teacher = OnnxModel(
        tokens(tmp_path),
        outputs="logits",
        preprocess=lambda x: {"ids": x, "mask": x > 0},
        version="1",
    )
    inputs = keras.Input((5,), dtype="int32")
    outputs = layers.Flatten()(layers.Embedding(4, 3)(inputs))
    pupil = keras.Model(inputs, layers.Dense(3)(outputs))
    distiller = kd.Distiller(teacher, pupil, squared())
    logs = logs_of(distiller, IDS, batch_size=10)
    expected = hidden_of(IDS, IDS > 0).sum(axis=1)
    predicted = pupil.predict(IDS, verbose=0)
    assert logs["mean_squared_error_loss"] == pytest.approx(
        np.mean((predicted - expected) ** 2), rel=1e-5
    )


def test_a_cache_of_its_predictions(tmp_path):
    teacher = OnnxModel(tokens(tmp_path), outputs=["logits"])
    kd.cache.write(
        teacher,
        {"ids": IDS, "mask": MASK},
        tmp_path / "cache",
        outputs={"[logits]": kd.cache.Dense("float32")},
        batch_size=4,
        verbose=0,
    )
    cached = kd.cache.open(tmp_path / "cache", teacher=teacher)
    stored = cached.predictions_of(np.arange(10))["[logits]"]
    assert_close(stored, hidden_of(IDS, MASK).sum(axis=1))


# --- telling apart ----------------------------------------------------------


def test_a_state_refuses_another_file(tmp_path):
    def distiller_of(matrix):
        teacher = OnnxModel(linear(tmp_path, matrix))
        distiller = kd.Distiller(teacher, student())
        distiller.compile("sgd", loss=None)
        return distiller

    path = tmp_path / "state.weights.h5"
    distiller_of(MATRIX).save_weights(path)
    distiller_of(MATRIX).load_weights(path)
    with pytest.raises(ValueError, match="is not the one that this training"):
        distiller_of(2.0 * MATRIX).load_weights(path)


@pytest.mark.one_backend
def test_a_preprocess_is_told_by_its_version(tmp_path):
    path = linear(tmp_path)

    def of(**options):
        return OnnxModel(path, **options)

    with pytest.warns(UserWarning, match=r"OnnxModel\(..., version='2024-05'"):
        fingerprint(of(preprocess=abs))
    first, second = (of(preprocess=abs, version=text) for text in "12")
    assert not np.array_equal(fingerprint(first), fingerprint(second))
    assert not np.array_equal(fingerprint(first), fingerprint(of()))


# --- errors -----------------------------------------------------------------


@pytest.mark.one_backend
def test_inputs_that_it_does_not_take(tmp_path):
    path = linear(tmp_path)
    whole = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"shape \(None, 4\).*\(None, 5\)"):
        kd.Distiller(OnnxModel(path), whole)
    teacher = OnnxModel(tokens(tmp_path))
    taken = [squared(teacher="[logits]")]
    inputs = {"token_ids": keras.Input((5,), name="token_ids")}
    outputs = layers.Dense(3)(inputs["token_ids"])
    with pytest.raises(ValueError, match=r"\['ids', 'mask'\].*'token_ids'"):
        kd.Distiller(teacher, keras.Model(inputs, outputs), taken)
    inputs = {name: keras.Input((5,), name=name) for name in ("ids", "mask")}
    outputs = layers.Dense(3)(inputs["ids"])
    with pytest.raises(ValueError, match="takes int64 .*Received: float32"):
        kd.Distiller(teacher, keras.Model(inputs, outputs), taken)


@pytest.mark.one_backend
def test_files_and_outputs_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`path` must be an ONNX file"):
        OnnxModel(tmp_path / "none.onnx")
    path = linear(tmp_path)
    with pytest.raises(ValueError, match=r"tensors: \['logits'\].*'scores'"):
        OnnxModel(path, outputs="scores")
    text = onnx.TensorProto.STRING
    words = saved(
        tmp_path / "words.onnx",
        [("Identity", ["words"], "same", {})],
        [value("words", text, ["n"])],
        [value("same", text, ["n"])],
    )
    with pytest.raises(ValueError, match=r"whose inputs \['words'\] are not"):
        OnnxModel(words)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(ValueError, match=r"pip install onnxruntime"):
            OnnxModel(path)


@pytest.mark.one_backend
def test_a_layer_is_not_tapped(tmp_path):
    teacher = OnnxModel(linear(tmp_path))
    with pytest.raises(ValueError, match="has an output and no layers"):
        kd.Distiller(teacher, student(), squared(teacher="hidden"))
