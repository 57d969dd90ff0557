"""Fixes the seeds, and starts each test from a clean Keras."""

import os

# Compiling takes most of the time on JAX, and the tests' arrays are small.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# PyTorch has to be imported before TensorFlow, or the process may crash.
if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401
import keras
import pytest


@pytest.fixture(autouse=True)
def clean_keras():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
