"""ComparisonReport: what a comparison found, as text, figure, HTML, JSON."""

import importlib.util
import json
import pathlib
import textwrap

import numpy as np

from keras_kd._src.arguments import one_of
from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.checked_json import parse_json
from keras_kd._src.compare import html
from keras_kd._src.compare import plot
from keras_kd._src.compare import rows
from keras_kd._src.compare import sentences
from keras_kd._src.compare.contents import checked_report
from keras_kd._src.compare.statistics import paired_difference
from keras_kd._src.compare.table import text_table
from keras_kd._src.compare.ways import ALONE

FORMAT = 1  # Of the JSON.


class ComparisonReport:
    """What `keras_kd.compare` found: prints as tables and plain sentences.

    **Quality**, on the test data, mean and standard deviation over the seeds
    (of a sample, n - 1): the metric; the agreement with the teacher (share of
    the same class); the expected calibration error (15 bins of confidence,
    Guo et al., 2017); the accuracy within each class. Agreement and
    calibration are those of classes: regression has none.

    **Differences** are paired by seed, as ways start from the same weights
    with the same seed, and are given with their 95 % t interval:

        mean ± t(0.975, n - 1) * standard deviation of differences / sqrt(n)

    A difference is called *beyond the spread* if 0 is outside of the
    interval. That is about other seeds: it says nothing of other test
    samples, and several ways are not corrected for.

    **Cost**: parameters, bytes of the weights in memory and in a file; FLOPs
    of one sample, 2 for each multiplication and addition of dense layers,
    convolutions, recurrent layers and attention, counted by layers (the types
    of layers with weights that are not known are listed; the teacher's pass in
    training isn't part of it); latency, the median of `predict_on_batch` on
    this machine for one sample and for a batch; training: steps, seconds, and
    seconds of all CPUs together, without what compiles (see
    `keras_kd.compare`). A teacher that is no Keras model is not measured.

    Args:
        about: dict of what was compared: budget, seeds, metric, machine.
        runs: list of dicts, one a run: `"way"`, `"seed"` (None for a teacher
            that was trained before), `"metric"`, `"agreement"`,
            `"calibration_error"`, `"class_accuracy"` (a list, None for a
            class without samples), `"steps"`, `"seconds"` and `"cpu_seconds"`
            of the `"timed_steps"`, `"compile_seconds"` of the others, and
            `"history"`, the logs of `fit` by epoch.
        costs: dict, way -> dict of what its model costs.

    Raises:
        ValueError: there is no such way, or `plot` lacks matplotlib.

    Example:
    >>> about = {
    ...     "budget": "9 epochs", "batch_size": 8, "seeds": [0, 1],
    ...     "metric": "accuracy", "percent": True, "lower_is_better": False,
    ...     "task": "classification", "samples": 100, "machine": {},
    ... }
    >>> runs = [
    ...     {"way": way, "seed": seed, "metric": value}
    ...     for way, values in {
    ...         "teacher": (0.95, 0.97), "student alone": (0.80, 0.82),
    ...         "student distilled": (0.90, 0.92),
    ...     }.items()
    ...     for seed, value in enumerate(values)
    ... ]
    >>> report = ComparisonReport(about, runs, {})
    >>> report.values("student distilled").tolist()
    [0.9, 0.92]
    >>> round(report.difference("student distilled").mean, 4)
    0.1

    Reference: Stanton et al., 2021, "Does Knowledge Distillation Really
    Work?", arXiv 2106.05945.
    """

    def __init__(self, about, runs, costs):
        self.about, self.runs, self.costs = about, runs, costs

    @property
    def ways(self):
        """The names of the ways, in the order of the rows."""
        return list(dict.fromkeys(run["way"] for run in self.runs))

    def values(self, way, key="metric"):
        """What was measured of a way, one value a seed.

        Args:
            way: its name.
            key: what of a run: `"metric"`, `"agreement"`, `"seconds"`, ....

        Returns:
            NumPy array `(seeds,)`, or `(seeds, classes)` of
            `"class_accuracy"`; empty if it was not measured.
        """
        one_of(way, "way", self.ways)
        found = [
            run[key] for run in self.runs if run["way"] == way and key in run
        ]
        return np.array(found, "float64")

    def difference(self, way, other=ALONE, key="metric"):
        """The paired difference of two ways, `way` - `other`, over seeds.

        Args:
            way: name of a way.
            other: name of another.
            key: as in `values`.

        Returns:
            A named tuple `(mean, low, high, n)`, with the limits of the 95 %
            interval and the number of seeds; its `beyond` is whether 0 is
            outside of the interval.
        """
        return paired_difference(self.values(way, key), self.values(other, key))

    def sentences(self):
        """What was found, in two to four plain sentences.

        Returns:
            List of texts.
        """
        return sentences.of_report(self)

    def __str__(self):
        tables = [
            f"{title}\n{text_table(titles, cells)}"
            for title, titles, cells in rows.tables(self)
        ]
        texts = [*rows.notes(self), *self.sentences()]
        wrapped = [textwrap.fill(text, 80) for text in texts]
        return "\n\n".join([*tables, *wrapped])

    def plot(self):
        """Draws each seed's metric by way, and the differences.

        Returns:
            A `matplotlib.figure.Figure`; `savefig(path)` writes it.

        Raises:
            ValueError: matplotlib is not installed.
        """
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError(
                "`plot` draws with matplotlib. Received: a Python without it. "
                "Install it (`pip install matplotlib`), or use `to_html`, "
                "which needs none."
            )
        return plot.figure_of(self)

    def to_html(self, path):
        """Writes the report as one file, which loads nothing else.

        Args:
            path: of the file, such as "report.html".
        """
        text = html.page_of(self)
        atomic_write(
            pathlib.Path(path), lambda file: file.write_text(text, "utf-8")
        )

    def to_json(self):
        """All that was measured as JSON, in a string; `from_json` reads it."""
        whole = {
            "format": FORMAT,
            "about": self.about,
            "runs": self.runs,
            "costs": self.costs,
        }
        return json.dumps(whole, indent=1)

    @classmethod
    def from_json(cls, text):
        """Reads what `to_json` returned.

        Args:
            text: the string.

        Returns:
            A `ComparisonReport`.

        Raises:
            ValueError: it is something else.
        """
        damaged = (
            "A report is read from what `to_json` of this version returned."
        )
        found = parse_json(text, damaged)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"{damaged} Received: {text[:40]!r}.")
        checked_report(found, damaged)
        return cls(found["about"], found["runs"], found["costs"])
