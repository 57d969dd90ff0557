"""Arrays of any library, as NumPy's."""

import numpy as np


def to_numpy(value):
    """A tensor of any library as a NumPy array; None stays None."""
    if value is None:  # A structure may lack a part, such as the labels.
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)
