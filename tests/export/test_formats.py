"""Files of each format, run here by their own runtimes."""

import json

import keras
import numpy as np
import pytest
import students
from support import BACKEND

import keras_kd as kd

TF_ONLY = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="elsewhere by the same code, in a process"
)
# The first of these is written in a process of another backend.
ELSEWHERE = {
    "jax": {"litert", "torch"},
    "torch": {"litert", "saved_model"},
    "tensorflow": {"torch"},
}
SUFFIXES = {
    "litert": ".tflite",
    "onnx": ".onnx",
    "openvino": ".xml",
    "saved_model": "",
    "torch": ".pt2",
}
NEEDS = {
    "litert": ["ai_edge_litert", "tensorflow"],
    "onnx": ["onnx", "onnxruntime"],
    "openvino": ["onnx", "onnxruntime", "openvino"],
    "saved_model": ["tensorflow"],
    "torch": ["torch"],
}
CONVERTERS = {"jax": "jax2onnx", "tensorflow": "tf2onnx", "torch": "onnxscript"}


def exported(folder, student, format, samples=None, **options):
    path = folder / f"student{SUFFIXES[format]}"
    needs = list(NEEDS[format])
    if "onnx" in needs:
        needs.append(CONVERTERS[BACKEND])
    for name in needs:
        pytest.importorskip(name)
    if samples is None:
        samples = students.samples_for(student)
    report = kd.export(student, path, format=format, samples=samples, **options)
    assert report.path == str(path) and path.exists()
    return path, samples, report


def run_litert(path, samples):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner("serving_default")
    rows = [
        run(**{name: array[i : i + 1] for name, array in samples.items()})
        for i in range(students.SAMPLES)
    ]
    return {n: np.concatenate([row[n] for row in rows]) for n in rows[0]}


def run_onnx(path, samples):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, samples)))


def run_openvino(path, samples):
    import openvino

    # By default it computes in bfloat16 where the CPU can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", exact)
    outputs = model(samples)
    return {each.any_name: outputs[each] for each in model.outputs}


def run_saved_model(path, samples):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    inputs = {name: tf.constant(array) for name, array in samples.items()}
    outputs = loaded.signatures["serving_default"](**inputs)
    return {name: value.numpy() for name, value in outputs.items()}


RUN = {
    "litert": run_litert,
    "onnx": run_onnx,
    "openvino": run_openvino,
    "saved_model": run_saved_model,
}


def assert_follows(path, format, student, samples, tolerance=1e-5):
    if not isinstance(samples, dict):
        name = "image" if student.name == "cnn" else "input_0"
        samples, given = {name: samples}, samples
    else:
        given = samples
    found = RUN[format](path, samples)
    expected = students.predictions(student, given)
    if not isinstance(expected, dict):
        expected = {"output_0": expected}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=tolerance)


# --- in this process --------------------------------------------------------

MAKERS = {
    "litert": [students.mlp, students.text, students.residual],
    "onnx": [students.mlp, students.cnn, students.text, students.residual],
    # Made of the ONNX file: from JAX, Keras' own export to it fails.
    "openvino": [students.text] if BACKEND == "jax" else [],
    "saved_model": [students.cnn, students.text],
}
HERE = [
    pytest.param(format, make, id=f"{format}-{make.__name__}")
    for format, makes in MAKERS.items()
    if format not in ELSEWHERE[BACKEND]
    for make in makes
]


@pytest.mark.parametrize(("format", "make"), HERE)
def test_a_file_follows_its_student(tmp_path, format, make):
    student = make()
    path, samples, report = exported(tmp_path, student, format)
    assert_follows(path, format, student, samples)
    assert report.relative_difference < 1e-4
    assert report.written_by == BACKEND
    assert report.samples == students.SAMPLES
    for name, value in json.loads(report.to_json()).items():
        assert getattr(report, name) == value


def test_a_batch_of_fixed_size(tmp_path):
    student = students.cnn()
    path, samples, report = exported(tmp_path, student, "onnx", batch_size=4)
    assert report.batch_size == 4
    assert report.inputs == {"image": "float32 (4, 8, 8, 3)"}
    found = run_onnx(path, {"image": samples[:4]})["output_0"]
    expected = students.predictions(student, samples[:4])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="written in this process there")
def test_a_program_of_pytorch(tmp_path):
    import torch

    student = students.text()
    path, samples, report = exported(tmp_path, student, "torch")
    program = torch.export.load(path).module()
    for rows in (slice(1), slice(None)):
        inputs = {n: torch.tensor(array[rows]) for n, array in samples.items()}
        found = program(inputs)
        for name, values in students.predictions(student, samples).items():
            np.testing.assert_allclose(
                found[name].detach().numpy(), values[rows], atol=1e-5
            )
    assert report.operations["aten.embedding.default"] == 1


@TF_ONLY
def test_operations_that_phones_lack_are_named(tmp_path):
    inputs = keras.Input((3, 3))
    student = keras.Model(inputs, keras.ops.svd(inputs, compute_uv=False))
    with pytest.raises(ValueError, match="computes Svd"):
        exported(tmp_path, student, "litert")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BACKEND != "jax", reason="other exporters can")
def test_what_has_no_batch_of_any_size(tmp_path):
    class Local(keras.layers.Layer):
        """No other process has it."""

        def call(self, inputs):
            return 2.0 * inputs

    student = keras.Sequential(
        [keras.Input((3, 3, 1)), keras.layers.Resizing(2, 2), Local()]
    )
    with pytest.raises(ValueError, match="Try `batch_size=1`"):
        exported(tmp_path, student, "onnx")
    assert not list(tmp_path.iterdir())
    report = exported(tmp_path, student, "onnx", batch_size=1)[-1]
    assert report.relative_difference < 1e-4 and report.written_by == "jax"


@pytest.mark.skipif(BACKEND != "jax", reason="other exporters can")
def test_another_backend_writes_what_this_one_can_not(tmp_path):
    student = keras.Sequential(
        [keras.Input((3, 3, 1)), keras.layers.Resizing(2, 2)]
    )
    report = exported(tmp_path, student, "onnx")[-1]
    assert report.relative_difference < 1e-4 and report.written_by != "jax"


def test_layers_that_converters_got_wrong(tmp_path):
    """By this backend itself, in operations that each runtime has."""
    student = keras.Sequential(
        [
            keras.Input((7, 5, 2)),
            keras.layers.Normalization(mean=[0.1, 0.2], variance=[2.0, 3.0]),
            keras.layers.MaxPooling2D((3, 1), strides=(2, 1), padding="same"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
        ]
    )
    report = exported(tmp_path, student, "onnx")[-1]
    assert report.relative_difference < 1e-6 and report.written_by == BACKEND
    assert report.operations["MaxPool"] == 2


# --- in a process of another backend ----------------------------------------


# From JAX, tests/export/test_quantized_students.py goes there.
@pytest.mark.skipif(BACKEND != "torch", reason="one way is enough")
def test_litert_by_way_of_tensorflow(tmp_path):
    student = students.text()
    path, samples, report = exported(tmp_path, student, "litert")
    assert_follows(path, "litert", student, samples)
    assert report.written_by == "tensorflow"
    assert report.runtime == "ai-edge-litert"
    assert report.relative_difference < 1e-4


@pytest.mark.skipif(BACKEND != "torch", reason="written in this process")
def test_a_saved_model_by_way_of_tensorflow(tmp_path):
    student = students.residual()
    path, samples, report = exported(tmp_path, student, "saved_model")
    assert (path / "saved_model.pb").exists()
    assert report.written_by == "tensorflow"
    assert report.relative_difference < 1e-4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one way is enough")
def test_a_program_by_way_of_pytorch(tmp_path):
    student = students.residual()
    path, samples, report = exported(tmp_path, student, "torch")
    assert path.stat().st_size == report.size
    assert report.written_by == "torch"
    assert report.relative_difference < 1e-4
    assert report.operations["aten.gelu.default"] == 1
