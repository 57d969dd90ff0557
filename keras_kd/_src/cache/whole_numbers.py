"""Arguments that count something."""

import numpy as np


def check_whole(name, value):
    """Raises a `ValueError` unless an argument is a whole number from 1.

    Example:
    >>> check_whole("batch_size", 256)
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"Argument `{name}` must be a whole number from 1. Received: "
            f"{name}={value!r}."
        )
