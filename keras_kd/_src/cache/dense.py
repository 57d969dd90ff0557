"""Dense: all values of a view."""

import ml_dtypes
import numpy as np
from keras import ops

from keras_kd._src.cache.record_size import bytes_of

# What NumPy's file format has no name for is stored as the bits that it is.
_STORED = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}


class Dense:
    """All values of a view, as they are.

    For logits of few classes, embeddings and feature maps. float16 keeps
    three digits of values up to 65,504, bfloat16 two of any; float32 keeps a
    float32 teacher's answers bit for bit.

    Args:
        dtype: `"float16"`, `"bfloat16"` or `"float32"`.

    Raises:
        ValueError: another type; or, while writing, a value that overflows.

    Example:
    >>> Dense("float16").bytes_per_sample((10,))
    20
    """

    kind = "dense"
    needs_samples = False

    def __init__(self, dtype="float16"):
        if dtype not in _STORED:
            raise ValueError(
                f"Argument `dtype` must be one of {list(_STORED)}. Received: "
                f"dtype={dtype!r}."
            )
        self.dtype = dtype

    def fields(self, shape):
        """Type of each field of a record, for a view of a shape."""
        return {"values": np.dtype((_STORED[self.dtype], tuple(shape)))}

    def prepare(self, view):
        """What is kept of a view; computed in the teacher's pass."""
        return {"values": ops.cast(view, "float32")}

    def calibrate(self, prepared):
        """Numbers that all samples of a part share: none."""
        return {}

    def pack(self, prepared, constants):
        """What is stored of what was prepared."""
        values = prepared["values"]
        with np.errstate(over="ignore"):
            packed = values.astype(getattr(ml_dtypes, self.dtype, self.dtype))
        if not np.isfinite(packed).all():
            largest = float(np.abs(values).max())
            raise ValueError(
                f"A value of the teacher is too large for {self.dtype}. "
                f"Received: {largest:.6g}. Store it as "
                "`cache.Dense('bfloat16')` or `cache.Dense('float32')`."
            )
        return {"values": packed.view(_STORED[self.dtype])}

    def unpack(self, fields, constants):
        """What a batch carries of what is stored."""
        values = fields["values"]
        if self.dtype == "bfloat16":  # PyTorch takes none from NumPy.
            return {"values": bfloat16_to_float32(values)}
        return {"values": values}

    def restore(self, carried, shape):
        """The view, from what a batch carries; in the student's step."""
        return ops.cast(carried["values"], "float32")

    def bytes_per_sample(self, shape):
        """Bytes of one sample's view; its record has 8 more, for its index."""
        return bytes_of(self.fields(shape))

    def get_config(self):
        return {"dtype": self.dtype}


def bfloat16_to_float32(bits):
    """Numbers whose bfloat16 bits are stored as uint16.

    Example:
    >>> float(bfloat16_to_float32(np.array(0x3F80, "uint16")))
    1.0
    """
    return (bits.astype("uint32") << 16).view("float32")
