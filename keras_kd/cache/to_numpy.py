"""Arrays of any library, as NumPy's."""

import numpy as np


def to_numpy(value):
    """A tensor of any library as a NumPy array.

    Example:
    >>> to_numpy([1, 2]).tolist()
    [1, 2]
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)
