"""What a record takes up on disk."""


def bytes_of(fields):
    """Bytes of one record's fields.

    Example:
    >>> import numpy as np
    >>> bytes_of({"values": np.dtype(("<f2", (10,)))})
    20
    """
    return sum(dtype.itemsize for dtype in fields.values())
