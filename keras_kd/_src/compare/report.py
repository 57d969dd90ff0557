"""ComparisonReport: a comparison's results as text, figure, HTML or JSON."""

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

FORMAT = 1  # The version of the JSON format.


class ComparisonReport:
    """The results of `keras_kd.compare`; prints as tables and sentences.

    **Quality** on the test data, as mean and standard deviation over the seeds
    (sample standard deviation, with n - 1): the metric; the agreement with the
    teacher (share of samples with the same predicted class); the expected
    calibration error (ECE, with 15 bins of confidence, Guo et al., 2017); the
    accuracy within each class. Regression has only the metric.

    **Differences** are paired by seed, as all ways start from the same weights
    with the same seed. They have a 95 % t interval:

        mean ± t(0.975, n - 1) * standard deviation of differences / sqrt(n)

    A difference is called *beyond the spread* if 0 is outside the interval.
    This is about other seeds only: it says nothing about other test samples,
    and is not corrected for comparing several ways.

    **Cost of the model**: parameters; bytes of the weights in memory and in a
    file; FLOPs for one sample, counted layer by layer, as 2 for each
    multiplication and addition in dense layers, convolutions, recurrent layers
    and attention (unknown types of layers with weights are listed); latency,
    the median of `predict_on_batch` on this machine, for one sample and for a
    batch. A teacher that is not a Keras model is not measured.

    **Cost of training**: steps, seconds, and seconds of all CPUs together,
    without compiling (see `keras_kd.compare`).

    Args:
        about: dict of what was compared: budget, seeds, metric, machine.
        runs: list of dicts, one for each run: `"way"`, `"seed"` (None for a
            teacher that was given trained), `"metric"`, `"agreement"`,
            `"calibration_error"`, `"class_accuracy"` (a list, with None for a
            class without samples), `"steps"`, `"seconds"` and `"cpu_seconds"`
            of the `"timed_steps"`, `"compile_seconds"` of the others, and
            `"history"`, the logs of `fit` by epoch.
        costs: dict, way -> dict of its model's costs.

    Raises:
        ValueError: there is no such way, or `plot` needs matplotlib.

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
        """The measurements of a way, one value for each seed.

        Args:
            way: the way's name.
            key: which measurement: `"metric"`, `"agreement"`, `"seconds"`, or
                another key of `runs`.

        Returns:
            NumPy array `(seeds,)`, or `(seeds, classes)` for
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
            other: name of another way.
            key: as in `values`.

        Returns:
            A named tuple `(mean, low, high, n)`, with the limits of the 95 %
            interval and the number of seeds; its `beyond` is whether 0 is
            outside the interval.
        """
        return paired_difference(self.values(way, key), self.values(other, key))

    def sentences(self):
        """The result in one to four plain sentences.

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
        """Draws each seed's metric by way, and the differences to alone.

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
        """Writes the report as a single HTML file, which loads no others.

        Args:
            path: the file's path, such as "report.html".
        """
        text = html.page_of(self)
        atomic_write(
            pathlib.Path(path), lambda file: file.write_text(text, "utf-8")
        )

    def to_json(self):
        """All measurements as a JSON string, which `from_json` reads."""
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
            ValueError: the text is not what `to_json` returned.
        """
        damaged = (
            "A report is read from what `to_json` of this version returned."
        )
        found = parse_json(text, damaged)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"{damaged} Received: {text[:40]!r}.")
        checked_report(found, damaged)
        return cls(found["about"], found["runs"], found["costs"])
