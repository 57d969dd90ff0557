"""Fixes the seeds, and starts each test from a clean Keras."""

import os

# Compiling takes most of the time on JAX, and the tests' arrays are small.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# PyTorch has to be imported before TensorFlow, or the process may crash.
if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401
import keras
import pytest

tests_since = {"clearing": 0}


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
