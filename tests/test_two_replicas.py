"""Several devices train the student that one trains."""

import os
import pathlib
import subprocess
import sys

import pytest
from support import BACKEND

TESTS = pathlib.Path(__file__).parent


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_two_replicas_train_the_same_student():
    run("replicated_run.py")


@pytest.mark.skipif(BACKEND != "jax", reason="ModelParallel is JAX' only")
def test_a_sharded_head_trains_the_same_student():
    run("sharded_run.py")


def run(program):
    result = subprocess.run(
        [sys.executable, str(TESTS / program)],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-5000:]
