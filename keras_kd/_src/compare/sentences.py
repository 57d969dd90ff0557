"""The result of a comparison in plain sentences."""

import numpy as np

from keras_kd._src.compare.rows import value_text
from keras_kd._src.compare.statistics import digits_of
from keras_kd._src.compare.ways import ALONE
from keras_kd._src.compare.ways import DISTILLED
from keras_kd._src.compare.ways import TEACHER


def of_report(report):
    """List of sentences."""
    found = [
        _effect(report),
        _against_teacher(report),
        _best(report),
        _training(report),
    ]
    return [sentence for sentence in found if sentence]


def _effect(report):
    """Whether distillation pays."""
    name = report.about["metric"]
    for way in (ALONE, DISTILLED):
        lost = np.sum(~np.isfinite(report.values(way)))
        if lost:
            return (
                f"Nothing can be said: {way!r} predicts what is not finite "
                f"with {lost} of {len(report.about['seeds'])} seeds. Lower "
                "its learning rate, or look at the data."
            )
    values = [_value(report, way) for way in (DISTILLED, ALONE)]
    reached = f"{values[0]} {name} distilled and {values[1]} alone"
    found = report.difference(DISTILLED)
    if found.n < 2:
        return (
            f"With one seed the spread isn't known: the student reaches "
            f"{reached}."
        )
    result = f"the student reaches {reached}; {_difference(report, found)}."
    if not found.beyond:
        return (
            f"Distillation makes no clear difference here: {result} More seeds "
            "would narrow the interval."
        )
    better = (found.mean < 0) == report.about["lower_is_better"]
    return f"Distillation {'pays' if better else 'hurts'} here: {result}"


def _value(report, way):
    unit = " %" * report.about["percent"]
    return f"{value_text(report, report.values(way))}{unit}"


def _difference(report, found):
    points = report.about["percent"]
    factor, digits = 100.0, 1
    if not points:
        factor, digits = 1.0, digits_of(report.values(ALONE))
    mean, low, high = (f"{factor * each:+.{digits}f}" for each in found[:3])
    return (
        f"the paired difference over {found.n} seeds is {mean}"
        f"{' points' * points} (95 % interval {low} to {high}), "
        f"{'beyond' if found.beyond else 'within'} the spread"
    )


def _against_teacher(report):
    """What is gained and lost against the teacher."""
    large, small = (report.costs.get(way) for way in (TEACHER, DISTILLED))
    if not large or not small:
        return ""
    text = (
        f"The distilled student has {small['parameters']:,} parameters where "
        f"the teacher has {large['parameters']:,}, and predicts one sample in "
        f"{1000 * small['latency']:.2f} ms where the teacher takes "
        f"{1000 * large['latency']:.2f} ms; the teacher reaches "
        f"{_value(report, TEACHER)}"
    )
    agreement = report.values(DISTILLED, "agreement")
    if len(agreement):
        text += (
            f", and they agree on {100 * agreement.mean():.1f} % of the test"
        )
    return f"{text}."


def _best(report):
    """How the best of further ways compares with the distilled student."""
    sign = -1 if report.about["lower_is_better"] else 1
    others = [w for w in report.ways if w not in (TEACHER, ALONE, DISTILLED)]
    if not others:
        return ""
    best = max(others, key=lambda way: sign * np.mean(report.values(way)))
    text = f"Of the other ways, {best!r} is best, with {_value(report, best)}"
    found = report.difference(best, DISTILLED)
    if found.n < 2:
        return f"{text}."
    return f"{text}: against 'student distilled', {_difference(report, found)}."


def _training(report):
    """How much longer distilling takes."""
    distilled, alone = (_step_time(report, way) for way in (DISTILLED, ALONE))
    if not distilled or not alone:
        return ""
    return (
        f"A step of distilling takes {distilled / alone:.1f} times as long as "
        f"one alone ({distilled:.2f} and {alone:.2f} ms)."
    )


def _step_time(report, way):
    """The mean of all timed steps, in milliseconds; 0 if there are none."""
    seconds, steps = (
        report.values(way, key).sum() for key in ("seconds", "timed_steps")
    )
    return 1000 * seconds / steps if steps else 0.0
