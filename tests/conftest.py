"""Fixes the seeds, starts each test from a clean Keras, chooses tests."""

import os
import pathlib
from importlib.util import find_spec

# Compiling takes most of the time on JAX, and the tests' arrays are small: it
# takes a third without fused loops. (A flag that a new XLA lacks ends the
# process with the flag's name.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)
# PyTorch has to be imported before TensorFlow, or the process may crash.
if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401
import keras
import pytest

# Modules that tests share hold no doctests, and may need what is not installed.
collect_ignore = [
    str(path)
    for path in pathlib.Path(__file__).parent.rglob("*.py")
    if not path.name.startswith("test_")
]

CONVERTERS = {"jax": "jax2onnx", "tensorflow": "tf2onnx", "torch": "onnxscript"}
# Packages that the example of a docstring needs.
EXAMPLES_NEED = {
    "keras_kd._src.export.export.export": [
        "onnx",
        "onnxruntime",
        CONVERTERS[keras.backend.backend()],
    ],
    "keras_kd._src.teachers.onnx_model.OnnxModel": ["onnxruntime"],
}
# Where tests marked `one_backend` run: nothing has to be compiled there.
ONE_BACKEND = "torch"
tests_since = {"clearing": 0}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    skip_others(items)
    skip_examples(items)
    mark_quick(items)


def skip_others(items):
    if keras.backend.backend() == ONE_BACKEND:
        return
    skip = pytest.mark.skip(
        reason=f"no backend changes it: runs with KERAS_BACKEND={ONE_BACKEND}"
    )
    for item in items:
        if item.get_closest_marker("one_backend"):
            item.add_marker(skip)


def skip_examples(items):
    """Examples in docstrings whose packages are not all there."""
    for item in items:
        needs = EXAMPLES_NEED.get(item.name, [])
        lacking = [name for name in needs if not find_spec(name)]
        if lacking:
            reason = f"needs {' and '.join(lacking)}"
            item.add_marker(pytest.mark.skip(reason=reason))


def mark_quick(items):
    """The first test of each file is quick, and the first example of a folder.

    Of those that run here; not those that start a guide.
    """
    seen = {pathlib.Path(__file__).with_name("test_guides.py")}
    for item in items:
        is_example = isinstance(item, pytest.DoctestItem)
        place = item.path.parent if is_example else item.path
        if place not in seen and not any(item.iter_markers("skip")):
            item.add_marker(pytest.mark.quick)
            seen.add(place)


@pytest.fixture(autouse=True)
def clean_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    clear_compiled()


def clear_compiled(every=100):
    # Each function that JAX compiled holds memory mappings. A process may have
    # some 65,000 of them, and crashes beyond.
    tests_since["clearing"] += 1
    on_jax = keras.backend.backend() == "jax"
    if on_jax and tests_since["clearing"] % every == 0:
        import jax

        jax.clear_caches()
