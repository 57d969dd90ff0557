"""What can go wrong, and what is then at the path."""

import os
import pathlib
import signal
import sys
from importlib.util import find_spec

import keras
import numpy as np
import processes
import pytest
import students
from keras import layers
from support import BACKEND
from support import assert_none
from test_formats import exported

import keras_kd as kd

one_backend = pytest.mark.one_backend
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX")
needs_onnx = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx")


def write_earlier(path):
    path.write_bytes(b"an earlier file")
    return path


def assert_earlier(path):
    assert path.read_bytes() == b"an earlier file"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_differs_is_not_left(tmp_path):
    path = write_earlier(tmp_path / "student.onnx")
    with pytest.raises(ValueError, match="differs from the student"):
        exported(tmp_path, students.unsteady(), "onnx")
    assert_earlier(path)


@one_backend
def test_tolerance(tmp_path):
    path = write_earlier(tmp_path / "student.onnx")
    with pytest.raises(ValueError, match="tolerance=0"):
        exported(tmp_path, students.mlp(), "onnx", tolerance=0.0)
    coarse = dict(quantize="dynamic_int8", tolerance=1e-6)
    with pytest.raises(ValueError, match="Give more samples"):
        exported(tmp_path, students.mlp(), "onnx", **coarse)
    assert_earlier(path)
    report = exported(tmp_path, students.mlp(), "onnx", batch_size=1)[-1]
    assert path.stat().st_size == report.size > 100


@posix
@one_backend
def test_a_full_disk(tmp_path):
    import resource

    path = write_earlier(tmp_path / "student.onnx")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError):
            exported(tmp_path, students.cnn(), "onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_earlier(path)


@posix
@needs_onnx
@one_backend
def test_a_killed_process(tmp_path):
    path = write_earlier(tmp_path / "student.onnx")
    result = processes.run(export_and_die, tmp_path)
    assert result.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"an earlier file"


def export_and_die(folder):
    class Deadly(layers.Layer):
        calls = 0

        def call(self, inputs):
            Deadly.calls += 1
            if Deadly.calls > 2:  # The file is being traced.
                os.kill(os.getpid(), signal.SIGKILL)
            return 2.0 * inputs

    student = keras.Sequential([keras.Input((5,)), Deadly()])
    exported(pathlib.Path(folder), student, "onnx")


@pytest.mark.skipif(BACKEND == "torch", reason="in a process of its own there")
def test_an_earlier_folder_makes_room(tmp_path):
    pytest.importorskip("tensorflow")
    earlier = tmp_path / "student" / "earlier.txt"
    earlier.parent.mkdir()
    earlier.write_text("")
    with pytest.raises(ValueError, match="differs"):
        exported(tmp_path, students.unsteady(), "saved_model")
    assert earlier.exists()
    exported(tmp_path, students.mlp(), "saved_model")
    assert not earlier.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="in this process there")
def test_classes_that_another_process_lacks(tmp_path):
    class Local(layers.Layer):
        def call(self, inputs):
            return inputs

    student = keras.Sequential([keras.Input((5,)), Local(), layers.Dense(1)])
    with pytest.raises(ValueError, match="'Local'.* module of its own"):
        exported(tmp_path, student, "litert")
    assert_none(list(tmp_path.iterdir()))


# --- arguments --------------------------------------------------------------


def export(student=None, path="student.onnx", **options):
    student = student or students.mlp()
    options = {
        "format": "onnx",
        "samples": np.ones((2, 5), "float32"),
    } | options
    return kd.export(student, path, **options)


WRONG = {
    "a format": (dict(format="tflite"), "must be one of 'litert', 'onnx'"),
    "an ending": (dict(path="student.tflite"), "ends with '.onnx'"),
    "a scheme": (dict(quantize="int4"), "must be one of None, 'int8'"),
    "a scheme that the format lacks": (
        dict(format="torch", path="student.pt2", quantize="int8"),
        "for the formats 'litert', 'onnx', 'openvino'",
    ),
    "integers": (dict(integer_only=True), "for format='litert' with"),
    "a batch": (dict(batch_size=0), "`batch_size` must be a positive"),
    "threads": (dict(threads=0), "`threads` must be a positive"),
    "a tolerance": (dict(tolerance=-1.0), "`tolerance` must be a finite"),
    "a shape": (
        dict(samples=np.ones((2, 4), "float32")),
        r"takes float32 of shape \(None, 5\)",
    ),
    "a type": (dict(samples=np.ones((2, 5), "complex64")), "of complex64"),
    "no samples": (dict(samples=np.ones((0, 5), "float32")), "one or more"),
    "no student": (dict(student="student.keras"), "must be a Keras model"),
}


@one_backend
@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(tmp_path, monkeypatch, options, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=text):
        export(**options)
    assert_none(list(tmp_path.iterdir()))


@one_backend
def test_missing_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"install onnx onnxruntime"):
        export()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ValueError, match=r"install tensorflow`"):
        export(format="saved_model", path="student")


@one_backend
def test_wrong_inputs():
    with pytest.raises(ValueError, match="'token_ids', which"):
        export(students.text(), samples={"padding_mask": np.ones((2, 6))})
    samples = {"padding_mask": np.ones((2, 6)), "token_ids": np.ones((2, 6))}
    with pytest.raises(ValueError, match="takes int32 .* of float64"):
        export(students.text(), samples=samples)
    samples = {name: array.astype("int32") for name, array in samples.items()}
    samples["token_ids"] = samples["token_ids"][:1]
    with pytest.raises(ValueError, match="same number for each input"):
        export(students.text(), samples=samples)


@one_backend
def test_students_that_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="is not built"):
        export(keras.Sequential([layers.Dense(1)]))
    inner = layers.Dense(1, dtype="mixed_bfloat16", name="half")
    student = keras.Sequential([keras.Input((5,)), inner])
    with pytest.raises(ValueError, match="'half', which computes in bfloat16"):
        export(student)
    student = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    student.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="quantized to 'int8'"):
        export(student, "student.tflite", format="litert")
    (tmp_path / "student.onnx").mkdir()
    with pytest.raises(ValueError, match="there is a folder"):
        export(path=tmp_path / "student.onnx")


@needs_onnx
@one_backend
def test_a_distiller_exports_its_student(tmp_path):
    student = students.cnn()
    distiller = kd.Distiller(students.cnn(), student)
    samples = students.samples_for(student)
    path = tmp_path / "student.onnx"
    report = kd.export(distiller, path, format="onnx", samples=samples)
    assert report.outputs == {"output_0": "float32 (None, 4)"}
