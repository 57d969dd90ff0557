"""A chain killed in a stage, and while it saves, ends as one that was not."""

import json
import signal

import keras
import numpy as np
import processes
import resumable_chain
from chains import WIDTHS

FILES = [f"{place}_{name}.keras" for place, name in enumerate(WIDTHS, 1)]


def run(*chains):
    """Runs chains in a new process; each is a folder, a stage and a step."""
    return processes.run(resumable_chain.main, *chains)


def finished(folder):
    report = json.loads((folder / "report.json").read_text())
    return [stage["stage"] for stage in report["stages"]]


def test_killed_and_resumed_equals_not_killed(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()

    # Five batches an epoch: in the middle of the second epoch.
    first = run((whole, "", ""), (folder, "medium", "8"))
    assert finished(whole) == list(WIDTHS)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert finished(folder) == ["large"]

    second = run((folder, "medium", "save"))
    assert second.returncode == -signal.SIGKILL, second.stderr
    assert second.stdout.split("\n")[:-1] == ["medium 1", "medium 2"]
    assert finished(folder) == ["large"]
    assert not (folder / "2_medium.keras").exists()

    third = run((folder, "", ""))
    assert third.returncode == 0, third.stderr
    assert third.stdout.split("\n")[:-1] == [f"small {e}" for e in range(3)]
    for file in FILES:
        one = keras.saving.load_model(whole / file)
        two = keras.saving.load_model(folder / file)
        for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
