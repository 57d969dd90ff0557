"""8 bits: what is in the files, and how closely they follow."""

import keras
import numpy as np
import pytest
import students
from keras import layers
from support import BACKEND
from test_formats import exported
from test_formats import run_onnx

TF_ONLY = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="elsewhere by the same code, in a process"
)


def wide():
    """Weights that are worth quantizing."""
    return keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(4),
        ]
    )


def stored_types(path):
    """Types of the constants in an ONNX file, by their number of axes."""
    onnx = pytest.importorskip("onnx")

    return {
        (each.data_type, len(each.dims))
        for each in onnx.load(path).graph.initializer
    }


def test_onnx_in_8_bits(tmp_path):
    onnx = pytest.importorskip("onnx")

    student = students.cnn()
    path, samples, report = exported(tmp_path, student, "onnx", quantize="int8")
    # Batch normalization and the bounds are in the convolutions, on each
    # backend: nothing is rounded between.
    arithmetic = {"Add", "Sub", "Mul", "Div", "Clip", "Min", "Max", "Relu"}
    assert not arithmetic & report.operations.keys()
    assert report.operations["Conv"] == 2
    assert "Conv" not in report.in_float
    assert (onnx.TensorProto.INT8, 4) in stored_types(path)
    assert (onnx.TensorProto.FLOAT, 4) not in stored_types(path)
    # A scale for each channel.
    assert (onnx.TensorProto.FLOAT, 1) in stored_types(path)
    found = run_onnx(path, {"image": samples})["output_0"]
    expected = students.predictions(student, samples)
    steps = np.abs(found - expected) / (np.ptp(expected) / 255)
    assert 0.1 < steps.max() < 8


def test_masks_leave_onnx_its_8_bits(tmp_path):
    # A mask adds the lowest of all numbers to attention scores.
    report = exported(tmp_path, students.text(), "onnx", quantize="int8")[-1]
    for compared in report.comparisons.values():
        assert compared["error"] < 0.05


def test_onnx_with_weights_in_8_bits(tmp_path):
    onnx = pytest.importorskip("onnx")

    student = wide()
    path, samples, report = exported(
        tmp_path, student, "onnx", quantize="dynamic_int8"
    )
    assert (onnx.TensorProto.INT8, 2) in stored_types(path)
    assert (onnx.TensorProto.FLOAT, 2) not in stored_types(path)
    assert 1e-4 < report.relative_difference < 0.05


@pytest.mark.one_backend
def test_openvino_in_8_bits(tmp_path):
    report = exported(tmp_path, students.cnn(), "openvino", quantize="int8")[-1]
    assert report.operations["FakeQuantize"] > 2
    assert "Convolution" not in report.in_float
    assert 1e-4 < report.relative_difference < 0.05


@TF_ONLY
def test_litert_in_integers_only(tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    student = students.cnn()
    path, samples, report = exported(
        tmp_path, student, "litert", quantize="int8", integer_only=True
    )
    assert report.operations == {
        "CONV_2D": 1,
        "DEPTHWISE_CONV_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }
    assert report.in_float == []
    interpreter = litert.Interpreter(str(path))
    types = {each["dtype"] for each in interpreter.get_tensor_details()}
    assert types <= {np.int8, np.int32}
    assert 1e-4 < report.relative_difference < 0.05


@TF_ONLY
def test_litert_names_what_stays_in_float(tmp_path):
    student = students.text()
    report = exported(tmp_path, student, "litert", quantize="int8")[-1]
    assert "NEG" in report.in_float
    assert "left in float       " in str(report)
    with pytest.raises(ValueError, match="NEG.* have no 8-bit version"):
        exported(
            tmp_path, student, "litert", quantize="int8", integer_only=True
        )
    assert len(list(tmp_path.iterdir())) == 1  # The first stays.


@TF_ONLY
def test_loops_have_no_8_bits_in_litert(tmp_path):
    student = keras.Sequential([keras.Input((4, 2)), layers.GRU(3)])
    with pytest.raises(ValueError, match="unroll=True"):
        exported(tmp_path, student, "litert", quantize="int8")


@TF_ONLY
def test_litert_with_weights_in_8_bits(tmp_path):
    student = wide()
    sizes, differences = [], []
    for quantize in (None, "dynamic_int8"):
        report = exported(tmp_path, student, "litert", quantize=quantize)[-1]
        sizes.append(report.size)
        differences.append(report.relative_difference)
    assert sizes[1] < 0.5 * sizes[0]
    assert differences[0] < 1e-5 < differences[1] < 0.05
