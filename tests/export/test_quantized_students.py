"""Files of students that were trained with quantization."""

import keras
import numpy as np
import pytest
import students
from support import BACKEND
from support import numpy
from test_formats import exported

from keras_kd.quantization import QuantizationAwareModel


def quantized(student, samples, **settings):
    """Ranges that training moved: no calibration finds them."""
    model = QuantizationAwareModel(student, samples, **settings)
    for each in model.activation_ranges:
        each.minimum.assign(0.6 * each.minimum)
        each.maximum.assign(0.6 * each.maximum)
    return model


FORMATS = ["onnx", "litert"]


@pytest.mark.parametrize("format", FORMATS)
def test_file_computes_what_was_trained(format, tmp_path):
    float_student = students.cnn()
    samples = students.random(40, 8, 8, 3)
    student = quantized(float_student, samples, weight_bits=4)
    path, samples, report = exported(
        tmp_path, student, format, samples=samples, quantize="int8"
    )
    low, high = list(student.ranges.values())[-1]
    step = (high - low) / 255
    assert report.largest_difference < 3.1 * step
    # Training changed more than that.
    off = np.abs(numpy(student(samples)) - numpy(float_student(samples)))
    assert off.max() > 10 * step
    arithmetic = {"Clip", "Relu", "Max", "Min", "MAXIMUM", "MINIMUM", "RELU"}
    assert not arithmetic & report.operations.keys()
    # Moves of channels, and no computation.
    assert set(report.in_float) <= {"Transpose"}


@pytest.mark.skipif(BACKEND == "jax", reason="as on the other backends")
def test_other_students(tmp_path):
    is_subclassed = BACKEND == "tensorflow"
    float_student = students.residual() if is_subclassed else students.text()
    samples = students.samples_for(float_student)
    student = QuantizationAwareModel(float_student, samples)
    format = "litert" if is_subclassed else "onnx"
    report = exported(
        tmp_path, student, format, samples=samples, quantize="int8"
    )[-1]
    for compared in report.comparisons.values():
        assert compared["error"] < 0.05


@pytest.mark.one_backend
def test_errors(tmp_path):
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = students.random(8, 4)
    model = QuantizationAwareModel(student, x)
    with pytest.raises(ValueError, match="Pass quantize='int8', or export"):
        exported(tmp_path, model, "onnx", samples=x)
    model = QuantizationAwareModel(student, x, activation_bits=16)
    with pytest.raises(ValueError, match="activation_bits=16"):
        exported(tmp_path, model, "onnx", samples=x, quantize="int8")
