"""Two replicas train the student that one trains."""

import os
import pathlib
import subprocess
import sys

import pytest
from support import BACKEND

PROGRAM = pathlib.Path(__file__).with_name("replicated_run.py")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_two_replicas_train_the_same_student():
    result = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-5000:]
