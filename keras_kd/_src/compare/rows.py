"""The tables of a report: titles and cells, for both text and HTML."""

import math

import numpy as np

from keras_kd._src.compare.statistics import digits_of
from keras_kd._src.compare.statistics import mean_and_spread
from keras_kd._src.compare.ways import ALONE
from keras_kd._src.compare.ways import TEACHER

MOST_CLASSES = 10  # If there are more, those that change most are shown.


def tables(report):
    """Tuples of a title, the titles of columns, and rows of texts."""
    found = [_quality(report), _model_cost(report), _training(report)]
    if report.about["task"] != "regression":
        found.append(_by_class(report))
    return [table for table in found if len(table[1]) > 1]


def _quality(report):
    percent = {"agreement": "agreement %", "calibration_error": "calibration %"}
    unit = " %" * report.about["percent"]
    titles = ["", f"{report.about['metric']}{unit}", "against alone"]
    keys = [key for key in percent if _known(report, key)]
    rows = [
        [
            way,
            value_text(report, report.values(way)),
            "" if way in (ALONE, TEACHER) else difference_text(report, way),
            *(mean_and_spread(report.values(way, k), 100.0) for k in keys),
        ]
        for way in report.ways
    ]
    return "Quality", [*titles, *(percent[key] for key in keys)], rows


def _known(report, key):
    return any(key in run for run in report.runs)


def value_text(report, values):
    """A metric's mean and spread, without its unit."""
    if report.about["percent"]:
        return mean_and_spread(values, 100.0)
    return mean_and_spread(values, digits=_digits(report))


def _digits(report):
    return digits_of(report.values(ALONE))


def difference_text(report, way, other=ALONE):
    """A difference and its interval; a star where it is beyond the spread."""
    found = report.difference(way, other)
    factor = 100.0 if report.about["percent"] else 1.0
    digits = 1 if report.about["percent"] else _digits(report)
    mean, low, high = (f"{factor * value:+.{digits}f}" for value in found[:3])
    if found.n < 2:
        return mean
    return f"{mean} ({low} to {high}){'*' if found.beyond else ' '}"


def _model_cost(report):
    if not any(report.costs.values()):
        return "Cost of the model", [""], []
    batch = next(cost["batch"] for cost in report.costs.values() if cost)
    titles = ["", "parameters", "memory", "on disk", "FLOPs", "ms for 1"]
    titles.append(f"ms for {batch}")
    rows = []
    for way in report.ways:
        cost = report.costs.get(way)
        cells = (
            [
                f"{cost['parameters']:,}",
                scaled(cost["memory_bytes"], "B"),
                scaled(cost["disk_bytes"], "B"),
                scaled(cost["flops"]) + "+" * bool(cost["not_counted"]),
                f"{1000 * cost['latency']:.2f}",
                f"{1000 * cost['batch_latency']:.2f}",
            ]
            if cost
            else ["not measured"]
        )
        rows.append([way, *cells])
    return "Cost of the model", titles, rows


def scaled(number, unit=""):
    """A number with three digits: 2,410 is "2.41 k"."""
    power = 0
    while number >= 1000 and power < 5:
        number, power = number / 1000, power + 1
    digits = max(0, 2 - math.floor(math.log10(number))) if number else 0
    text = f"{number:.{digits if power else 0}f}"
    return f"{text} {' kMGTP'[power].strip()}{unit}".strip()


def _training(report):
    titles = ["", "steps", "seconds", "CPU seconds", "compiling"]
    keys = "steps", "seconds", "cpu_seconds", "compile_seconds"
    rows = []
    for way in report.ways:
        if not len(report.values(way, "steps")):
            rows.append([way, "trained before"])
            continue
        steps, *times = (report.values(way, key) for key in keys)
        cells = [mean_and_spread(each, digits=2) for each in times]
        rows.append([way, f"{steps.mean():,.0f}", *cells])
    known = _known(report, "steps")
    return "Cost of training", titles if known else [""], rows


def _by_class(report):
    """The mean accuracy of each class, and the change against alone."""
    if not _known(report, "class_accuracy"):
        return "Accuracy by class, %", [""], []
    means = {
        way: np.mean(report.values(way, "class_accuracy"), axis=0)
        for way in report.ways
    }
    changes = {
        way: mean - means[ALONE]
        for way, mean in means.items()
        if way not in (TEACHER, ALONE)
    }
    largest = np.nan_to_num(np.max(np.abs([*changes.values()]), axis=0))
    order = np.sort(np.argsort(-largest, kind="stable")[:MOST_CLASSES])
    title = (
        "Accuracy by class, %, mean over the seeds (and change against alone)"
    )
    if len(largest) > MOST_CLASSES:
        title += f": {MOST_CLASSES} of {len(largest)} that change most"
    rows = [
        [
            str(each),
            *(_class_cell(means[w], changes.get(w), each) for w in means),
        ]
        for each in order
    ]
    return title, ["", *means], rows


def _class_cell(means, changes, place):
    if np.isnan(means[place]):
        return "-"
    text = f"{100 * means[place]:.1f}"
    return text if changes is None else f"{text} ({100 * changes[place]:+.1f})"


def notes(report):
    """List of texts: the conditions, and what the signs mean."""
    about, machine = report.about, report.about["machine"]
    count = len(about["seeds"])
    lines = [
        f"n = {count} seed{'s' * (count > 1)}, {about['budget']}, batches of "
        f"{about['batch_size']}, {about['samples']:,} test samples. ± is the "
        "standard deviation over seeds. Against alone: paired difference by "
        "seed with its 95 % t interval; * beyond the spread (0 is outside).",
    ]
    if machine:
        lines.append(
            f"Measured with {machine['backend']}, Keras {machine['keras']}, on "
            f"{machine['processor']}, {machine['threads']} threads; latency is "
            "the median."
        )
    kinds = {
        kind
        for cost in report.costs.values()
        for kind in cost.get("not_counted", [])
    }
    if kinds:
        lines.append(f"FLOPs+: not counted are {', '.join(sorted(kinds))}.")
    return lines
