"""Checks of arguments, with the same wording for the same mistake."""

import math
import numbers

import keras
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


def function_that_makes(value, name):
    """The argument, if it is a function and no model; else a `ValueError`."""
    # Layers can be called, too, but don't make models.
    if callable(value) and not isinstance(value, keras.layers.Layer):
        return value
    raise ValueError(
        f"Argument `{name}` must be a function that makes a new one, so that "
        "each run, also after an interruption, begins in the same way. "
        f"{received(name, value)} Write `{name}=lambda: ...`, or pass your "
        "function without calling it."
    )


def checked_seeds(seeds):
    """Seeds as a list of one or more integers; else a `ValueError`."""
    most = 2**32 - 1  # NumPy's.
    seeds = [integer(seed, "seeds", least=0, most=most) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            "Argument `seeds` must be a list of one or more integers, all "
            f"different. Received: {seeds or 'an empty list'}."
        )
    return seeds


def received(name, value):
    """The sentence of an error that says what was received."""
    return f"Received: {name}={value!r} (of type {type(value).__name__})."
