"""Means and spreads over seeds, paired differences, calibration."""

import math
from typing import NamedTuple

import numpy as np

BINS = 15  # Bins of confidence, as in Guo et al., 2017.


class Difference(NamedTuple):
    """A paired difference over seeds, with its 95 % t interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def beyond(self):
        """Whether 0 is outside the interval; False with one seed."""
        return self.n > 1 and (self.low > 0.0 or self.high < 0.0)


def spread(values):
    """Sample standard deviation, divided by n - 1; NaN for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def mean_and_spread(values, factor=1.0, digits=1):
    """Text such as "81.2 ± 0.7"; the mean alone if there is one value."""
    if not len(values):
        return ""
    values = factor * np.asarray(values, "float64")
    text = f"{values.mean():.{digits}f}"
    if len(values) < 2:
        return text
    return f"{text} ± {spread(values):.{digits}f}"


def metric_text(values, percent):
    """A metric as text: "81.2 ± 0.7 %", or numbers that are no shares."""
    if percent:
        return f"{mean_and_spread(values, 100.0)} %"
    return mean_and_spread(values, digits=digits_of(values))


def digits_of(values):
    """How many decimals give the mean of some numbers four digits."""
    size = abs(float(np.mean(values)))
    if not size or not math.isfinite(size):
        return 4
    return min(max(0, 3 - math.floor(math.log10(size))), 8)


def paired_difference(values, others):
    """The `Difference` of two lists of one value for each seed, in order.

    mean ± t(0.975, n - 1) * standard deviation of the differences / sqrt(n)
    """
    differences = np.asarray(values, "float64") - np.asarray(others, "float64")
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return Difference(mean, -math.inf, math.inf, n)
    margin = t_quantile(0.975, n - 1) * spread(differences) / math.sqrt(n)
    return Difference(mean, mean - margin, mean + margin, n)


def t_quantile(probability, degrees):
    """Quantile of Student's t distribution for a probability above 1/2."""
    low, high = 0.0, 1.0
    while _t_within(high, degrees) < 2 * probability - 1:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if _t_within(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _t_within(t, degrees):
    """The probability of [-t, t]: the finite series for integer degrees.

    Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    if odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total


def calibration_error(probabilities, labels):
    """Expected calibration error (ECE): the gap of confidence and accuracy.

        value = sum over bins of samples in it / samples
                * |accuracy in the bin - mean confidence in it|

    Args:
        probabilities: class probabilities, NumPy array `(samples, classes)`.
        labels: the true classes, integers `(samples,)`.

    Returns:
        A number from 0 (best) to 1, over 15 bins of equal width.

    Reference: Guo et al., 2017, "On Calibration of Modern Neural Networks",
    arXiv 1706.04599.
    """
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    bin_of = np.ceil(BINS * confidence).astype(int)
    gaps = np.bincount(bin_of, weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(labels))
