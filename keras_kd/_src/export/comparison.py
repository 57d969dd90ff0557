"""Compares the outputs of a file with those of its student."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class OutputComparison:
    """How close one output of a file is to the student's.

    Args:
        largest_difference: the largest absolute difference of an entry.
        relative_difference: the same, divided by the student's largest entry.
        error: root mean square of the differences, divided by that of the
            student's entries.
        agreement: share of the rows along the last axis whose largest entry
            is the same; for integers, share of equal entries; None if a row
            has a single number.
    """

    largest_difference: float
    relative_difference: float
    error: float
    agreement: float | None

    def description(self):
        """The measures as text, for an error message."""
        agreed = ""
        if self.agreement is not None:
            agreed = f", and {self.agreement:.1%} of the rows agree"
        return (
            f"a largest difference of {self.largest_difference:.3g}, "
            f"{self.relative_difference:.3g} of the largest entry, and an "
            f"error of {self.error:.3g}{agreed}"
        )


def compare(name, expected, found):
    """Compares one output; raises a `ValueError` on another shape."""
    if expected.shape != found.shape:
        raise ValueError(
            f"The file's output {name!r} has another shape than the "
            f"student's. Received: {found.shape}, expected {expected.shape}."
        )
    agreement = _agreement(expected, found)
    expected, found = (each.astype("float64") for each in (expected, found))
    # The same infinity, or NaN on both sides, is no difference.
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(found - expected))
    sizes = np.abs(expected[np.isfinite(expected)])
    largest = float(differences.max(initial=0.0))
    return OutputComparison(
        largest,
        _ratio(largest, sizes.max(initial=0.0)),
        _ratio(_root_mean_square(differences), _root_mean_square(sizes)),
        agreement,
    )


def _agreement(expected, found):
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected == found))
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    return float(np.mean(expected.argmax(-1) == found.argmax(-1)))


def _ratio(part, whole):
    return float(part / whole) if whole else float(part)


def _root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def too_far(compared, quantized, tolerance):
    """Whether an output differs from the student's by more than tolerated."""
    if not np.isfinite(compared.largest_difference):
        return True
    if not quantized:
        return compared.relative_difference > tolerance
    # Rounding may swap classes whose logits are nearly equal.
    if compared.error <= tolerance:
        return False
    agreement = 0.0 if compared.agreement is None else compared.agreement
    # Classes may agree by chance, so a large error is refused as well.
    return 1.0 - agreement > tolerance or compared.error > 5 * tolerance
