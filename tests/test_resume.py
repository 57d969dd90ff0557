"""A run killed in the middle of an epoch ends as one that was not."""

import signal

import numpy as np
import processes
import resumable_run

EPOCHS = 4
STEPS_PER_EPOCH = 5


def run(folder, kill_at=0, teacher_seed=0):
    folder.mkdir(exist_ok=True)
    return processes.run(
        resumable_run.main, folder, EPOCHS, kill_at, teacher_seed
    )


def student_of(folder):
    with np.load(folder / "student.npz") as weights:
        return [weights[name] for name in weights.files]


def test_killed_and_resumed_equals_not_killed(tmp_path):
    whole = run(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr

    killed = run(tmp_path / "killed", kill_at=2 * STEPS_PER_EPOCH + 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "student.npz").exists()

    refused = run(tmp_path / "killed", teacher_seed=1)
    assert refused.returncode == 1
    assert "is not the one that this training state" in refused.stderr

    resumed = run(tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    for a, b in zip(
        student_of(tmp_path / "whole"), student_of(tmp_path / "killed")
    ):
        np.testing.assert_array_equal(a, b)
