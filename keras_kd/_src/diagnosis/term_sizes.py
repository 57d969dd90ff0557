"""Checks of the terms of the loss: their values and their gradients."""

from typing import NamedTuple

import numpy as np

from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.distillation.taps import text_of

# A term below this share of the total has no effect.
LEAST_SHARE = 1e-3
# A loss (before its weight) below this is rounding: both sides agree.
ROUNDING = 1e-6
# A gradient this many times the hard loss's leaves it without effect.
MOST_TIMES = 100.0


def too_small(teacher, transfer, part, total):
    """The finding about a term that is too small a part of the loss.

    None for a term that may grow, or whose two sides agree.

    Args:
        teacher: the `Teacher`.
        transfer: the `Transfer`.
        part: its weighted value, averaged over an epoch.
        total: the whole loss.
    """
    part, total = abs(part), abs(total)
    if _may_grow(teacher, transfer) or _agrees(transfer, part):
        return
    if part < LEAST_SHARE * total:
        yield _too_little(transfer, part / total, "the loss of the first epoch")


def _may_grow(teacher, transfer):
    # A teacher that follows the student starts equal to it.
    weight, *_ = transfer.hyperparameters()
    return weight.moves or teacher.follows_student


def _agrees(transfer, part):
    weight, *_ = transfer.hyperparameters()
    return part <= ROUNDING * weight.number


def _too_little(transfer, share, whole, figures=None):
    return Finding(
        f"term {transfer.name}",
        "look",
        f"Transfer {transfer.name!r} is {_percent(share)} of "
        f"{whole}, too little to matter. {_received(transfer)}",
        "Raise the weight, or leave the transfer out.",
        figures or {},
    )


def _received(transfer):
    weight, *_ = transfer.hyperparameters()
    return (
        f"Received: weight={weight.text}, teacher "
        f"{text_of(transfer.teacher_taps)}, student "
        f"{text_of(transfer.student_taps)}."
    )


class Sizes(NamedTuple):
    """A part of the loss in some batches: means of value and gradient norm."""

    value: float
    gradient: float


def terms(teacher, transfers, hard, sizes, total):
    """The findings about the hard loss and each term.

    Args:
        teacher: the `Teacher`.
        transfers: the `Transfer`s.
        hard: `Sizes` of the hard loss.
        sizes: `Sizes` of each transfer.
        total: the whole loss.
    """
    found = [] if hard.value == 0.0 else [_hard(hard, total)]
    largest = max((each.gradient for each in sizes), default=0.0)
    for transfer, each in zip(transfers, sizes):
        figures = {
            "value": each.value,
            "share": each.value / total if total else 0.0,
            "gradient": each.gradient,
        }
        if hard.gradient > 0.0:
            figures["times_hard"] = each.gradient / hard.gradient
        found.append(_term(teacher, transfer, figures, hard, largest))
    return found


def _hard(hard, total):
    severity, remedy = "fine", ""
    if not np.isfinite(hard).all():
        severity = "wrong"
        remedy = "Check the labels, the inputs and the student's weights."
    elif hard.gradient == 0.0:
        severity = "look"
        remedy = (
            "The labels have no effect on the student: check that the output "
            "that they belong to depends on trainable weights."
        )
    return Finding(
        "hard loss",
        severity,
        f"{_size_text(hard.value, total)}; its gradient in the student is "
        f"{hard.gradient:.3g}.",
        remedy,
        {"value": hard.value, "gradient": hard.gradient},
    )


def _size_text(value, total):
    share = f", {_percent(value / total)} of the loss" if total else ""
    return f"Weighted value {value:.4g}{share}"


def _percent(share):
    """A share in percent with two significant digits."""
    percent = 100 * share
    return f"{percent:.0f} %" if abs(percent) >= 10 else f"{percent:.2g} %"


def _term(teacher, transfer, figures, hard, largest):
    value, gradient = figures["value"], figures["gradient"]
    weight, *_ = transfer.hyperparameters()
    if not np.isfinite([value, gradient]).all():
        return _not_finite(transfer, figures)
    if weight.number == 0.0 and not weight.moves:
        return _without_weight(transfer, figures)
    if _may_grow(teacher, transfer) or _agrees(transfer, abs(value)):
        return _fine(transfer, figures, hard)
    if gradient == 0.0:
        return _without_gradient(transfer, figures)
    whole, of = hard.gradient, "the hard loss"
    if whole == 0.0:
        whole, of = largest, "the largest term"
    if gradient < LEAST_SHARE * whole:
        of = f"{of}, by the gradient in the student"
        return _too_little(transfer, gradient / whole, of, figures)
    if hard.gradient > 0.0 and gradient > MOST_TIMES * hard.gradient:
        return _dominating(transfer, figures)
    return _fine(transfer, figures, hard)


def _fine(transfer, figures, hard):
    total = figures["value"] / figures["share"] if figures["share"] else 0.0
    times = figures.get("times_hard")
    compared = "" if times is None else f", {times:.3g} times the hard loss's"
    return Finding(
        f"term {transfer.name}",
        "fine",
        f"{_size_text(figures['value'], total)}; its gradient in the student "
        f"is {figures['gradient']:.3g}{compared}.",
        figures=figures,
    )


def _without_weight(transfer, figures):
    return Finding(
        f"term {transfer.name}",
        "look",
        f"Transfer {transfer.name!r} has no effect. {_received(transfer)}",
        "Give it a weight, or leave the transfer out.",
        figures,
    )


def _without_gradient(transfer, figures):
    return Finding(
        f"term {transfer.name}",
        "wrong",
        f"Transfer {transfer.name!r} gives the student no gradient, though "
        f"its value is {figures['value']:.4g}. {_received(transfer)}",
        "Tap a place in the student that depends on trainable weights, and "
        "check that the loss depends on the features there.",
        figures,
    )


def _not_finite(transfer, figures):
    return Finding(
        f"term {transfer.name}",
        "wrong",
        f"Transfer {transfer.name!r} has the value {figures['value']:.4g} and "
        f"a gradient of norm {figures['gradient']:.4g}. {_received(transfer)}",
        "Check the features that it compares: some losses divide by 0 if they "
        "are all zero or constant.",
        figures,
    )


def _dominating(transfer, figures):
    return Finding(
        f"term {transfer.name}",
        "look",
        f"Transfer {transfer.name!r} dominates the hard loss: its gradient in "
        f"the student is {figures['times_hard']:.3g} times that of the "
        f"labels. {_received(transfer)}",
        "Lower its weight or raise `hard_weight` if the labels should count.",
        figures,
    )
