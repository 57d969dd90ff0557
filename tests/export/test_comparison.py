"""What a report says of differences, computed here by NumPy."""

import numpy as np
import pytest
import students
from support import numpy
from test_formats import exported
from test_formats import run_onnx

pytestmark = pytest.mark.one_backend


def test_numbers_of_a_report(tmp_path):
    student = students.text()
    path, samples, report = exported(
        tmp_path, student, "onnx", quantize="int8", tolerance=0.5
    )
    found = run_onnx(path, samples)
    largest, agreements = [], []
    for name, expected in student(samples).items():
        expected = numpy(expected)
        differences = found[name] - expected
        compared = report.comparisons[name]
        largest.append(np.abs(differences).max())
        agreements.append(np.mean(found[name].argmax(1) == expected.argmax(1)))
        for key, value in {
            "largest_difference": largest[-1],
            "relative_difference": largest[-1] / np.abs(expected).max(),
            "error": np.sqrt(np.mean(differences**2) / np.mean(expected**2)),
            "agreement": agreements[-1],
        }.items():
            np.testing.assert_allclose(compared[key], value, rtol=1e-3)
    assert report.largest_difference == pytest.approx(max(largest), rel=1e-3)
    assert report.agreement == min(agreements)
    assert report.size == path.stat().st_size


def test_classes_that_agree_by_chance(tmp_path):
    # One class is far ahead of others, whose values the file may not lose.
    student = students.unsteady()
    student.layers[0].bias.assign([50.0, 0.0, 0.0])
    options = dict(quantize="dynamic_int8", tolerance=0.001)
    with pytest.raises(ValueError, match="100.0% of the rows agree"):
        exported(tmp_path, student, "onnx", **options)
