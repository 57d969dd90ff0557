"""A run's folder: what is finished, and what each stage came to."""

import json
import pathlib
import random

import numpy as np

from keras_kd._src.atomic_write import write_json
from keras_kd._src.fingerprint import hexadecimal


class RunFolder:
    """Where a run of several stages keeps its students and its report.

    A stage counts as finished as soon as `report.json` says so, which is
    written after all that the stage leaves behind. Every file is there in
    whole or not at all.

    Args:
        path: the folder; it is made with the first file.

    Example:
    >>> import tempfile
    >>> folder = RunFolder(tempfile.mkdtemp())
    >>> folder.read_report() is None
    True
    >>> folder.write_report({"stages": []})
    >>> folder.read_report()
    {'stages': []}
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def read_report(self):
        """The report that a run before this one left, or None."""
        path = self.path / "report.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write_report(self, report):
        """Writes the report."""
        write_json(self.path / "report.json", report)

    def begin(self, teacher, seed, settings):
        """Begins a run, or goes on with the one that is in the folder.

        Args:
            teacher: the first teacher's fingerprint.
            seed: of the run; None takes the folder's, or draws one.
            settings: list of what must not change, of each stage.

        Returns:
            The report, of all stages finished so far.

        Raises:
            ValueError: the run in the folder is another one.
        """
        teacher, report = hexadecimal(teacher), self.read_report()
        if report is None:
            drawn = random.randrange(2**31)
            seed = drawn if seed is None else seed
            report = {"seed": seed, "teacher": teacher, "stages": []}
            self.write_report(report)
        self.check("teacher", report["teacher"], teacher)
        if seed is not None:
            self.check("seed", report["seed"], seed)
        for place, finished in enumerate(report["stages"]):
            now = settings[place] if place < len(settings) else None
            self.check(f"stage {place + 1}", finished["settings"], now)
        return report

    def check(self, what, before, now):
        """Raises a `ValueError` unless something is as it was before."""
        if before != now:
            raise ValueError(
                f"The folder {str(self.path)!r} holds another run: its {what} "
                "differs, and what is finished is not trained again. "
                f"Received: {what} {now!r}; in the folder: {before!r}. Put it "
                "back, or begin a new run in another folder."
            )

    def student_path(self, place, name):
        """The file of a stage's student; stages are counted from 1."""
        return self.path / f"{place + 1}_{name}.keras"

    def backup_path(self, place, name):
        """The folder of a stage that is not finished."""
        return self.path / f"{place + 1}_{name}_backup"


def seed_of_stage(seed, place):
    """The random seed of a stage; runs of nearby seeds share none.

    Example:
    >>> seed_of_stage(0, 1) == seed_of_stage(1, 0)
    False
    """
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
