"""Checks of arguments: one wording for each kind of mistake."""

import math
import numbers

import numpy as np


def integer(value, name, *, least=1, most=None):
    """The argument as a Python integer in its range; else a `ValueError`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return int(value)
    kind = {0: "a non-negative integer", 1: "a positive integer"}.get(
        least, f"an integer of at least {least}"
    )
    limit = "" if most is None else f" of at most {most}"
    raise ValueError(
        f"Argument `{name}` must be {kind}{limit}. {received(name, value)}"
    )


def number(
    value, name, *, least=-math.inf, above=None, most=math.inf, below=None
):
    """The argument as a finite float in its range; else a `ValueError`."""
    real = isinstance(value, (numbers.Real, np.number))
    real = real and not isinstance(value, (bool, np.bool_))
    low = real and (value < least or (above is not None and value <= above))
    high = real and (value > most or (below is not None and value >= below))
    if real and math.isfinite(value) and not low and not high:
        return float(value)
    limits = [
        f"above {above:g}" if above is not None else "",
        f"of at least {least:g}" if math.isfinite(least) else "",
        f"of at most {most:g}" if math.isfinite(most) else "",
        f"below {below:g}" if below is not None else "",
    ]
    limits = " and ".join(limit for limit in limits if limit)
    raise ValueError(
        f"Argument `{name}` must be a finite number"
        f"{' ' + limits if limits else ''}. {received(name, value)}"
    )


def one_of(value, name, choices):
    """The argument, if it is one of the choices; else a `ValueError`."""
    if value in choices:
        return value
    raise ValueError(
        f"Argument `{name}` must be one of "
        f"{', '.join(map(repr, choices))}. {received(name, value)}"
    )


def received(name, value):
    """The sentence of an error with what was received."""
    return f"Received: {name}={value!r} (of type {type(value).__name__})."
