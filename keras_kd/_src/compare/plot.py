"""The figure of a report, drawn with matplotlib."""

import numpy as np

from keras_kd._src.compare.ways import ALONE
from keras_kd._src.compare.ways import TEACHER


def figure_of(report):
    """Each seed's metric by way, and the differences with their intervals."""
    from matplotlib.figure import Figure

    height = 1.5 + 0.45 * len(report.ways)
    figure = Figure(figsize=(10, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    percent = report.about["percent"]
    factor = 100.0 if percent else 1.0
    _draw_values(left, report, factor)
    _draw_differences(right, report, factor)
    left.set_xlabel(f"{report.about['metric']}{', %' * percent}")
    right.set_xlabel(f"difference to alone{', points' * percent}")
    return figure


def _draw_values(axis, report, factor):
    ways = report.ways
    for place, way in enumerate(ways):
        values = factor * report.values(way)
        axis.plot(
            values, [place] * len(values), "o", color="tab:blue", alpha=0.6
        )
        axis.plot(np.mean(values), place, "|", color="black", markersize=20)
    axis.set_yticks(range(len(ways)), ways)
    axis.set_ylim(len(ways) - 0.5, -0.5)
    count = len(report.about["seeds"])
    axis.set_title(f"Each of {count} seeds, and the mean", loc="left")


def _draw_differences(axis, report, factor):
    ways = [way for way in report.ways if way not in (TEACHER, ALONE)]
    for place, way in enumerate(ways):
        found = report.difference(way)
        color = "tab:green" if found.beyond else "0.5"
        if found.n > 1:
            limits = [factor * found.low, factor * found.high]
            axis.plot(limits, [place, place], color=color, lw=2)
        axis.plot(factor * found.mean, place, "o", color=color)
    axis.axvline(0.0, color="black", lw=0.8)
    axis.set_yticks(range(len(ways)), ways)
    axis.set_ylim(len(ways) - 0.5, -0.5)
    axis.set_title("Paired difference, 95 % interval", loc="left")
