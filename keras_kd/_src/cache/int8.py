"""Int8: whole numbers, with a scale for each channel."""

import numpy as np
from keras import ops

from keras_kd._src.cache.record_size import bytes_of


class Int8:
    """Whole numbers from -127 to 127, with a scale for each channel.

    For feature maps, hidden states and embeddings: a quarter of float32. The
    last axis is the channels'. A channel's scale is its largest value among
    some samples (512, spread over the data if it is an array, else its first)
    divided by 127; larger values are cut off there.

        stored = round(value / scale_channel);  value = stored * scale_channel

    Args:
        scale: None, or positive numbers, one a channel, to begin with.

    Raises:
        ValueError: a scale isn't positive, or they aren't one a channel.

    Example:
    >>> Int8().bytes_per_sample((7, 7, 512))
    25088
    """

    kind = "int8"
    needs_samples = True

    def __init__(self, scale=None):
        self.scale = scale if scale is None else [float(s) for s in scale]
        if scale is not None and not all(s > 0 for s in self.scale):
            raise ValueError(
                "Argument `scale` must be positive numbers, one a channel. "
                f"Received: scale={scale!r}."
            )

    def fields(self, shape):
        channels = tuple(shape[-1:])  # None where a view is one number.
        scales = channels if self.scale is None else (len(self.scale),)
        if not channels or scales != channels:
            raise ValueError(
                "Int8 has a scale for each channel, the last axis of a view. "
                f"Received: a view of shape {tuple(shape)}, and "
                f"scale={self.scale}. Give as many, or store `cache.Dense()`."
            )
        return {"values": np.dtype(("i1", tuple(shape)))}

    def prepare(self, view):
        return {"values": ops.cast(view, "float32")}

    def calibrate(self, prepared):
        if self.scale is not None:
            return {"scale": self.scale}
        values = np.abs(prepared["values"])
        largest = values.max(axis=tuple(range(values.ndim - 1)))
        # A channel that is always 0 needs a scale, too.
        scale = np.where(largest > 0, largest / 127, 1.0)
        return {"scale": scale.astype("float32").tolist()}

    def pack(self, prepared, constants):
        scale = np.asarray(constants["scale"], "float32")
        scaled = np.rint(prepared["values"] / scale)
        return {"values": np.clip(scaled, -127, 127)}

    def unpack(self, fields, constants):
        scale = np.asarray(constants["scale"], "float32")
        return {"values": fields["values"] * scale}

    def restore(self, carried, shape):
        return ops.cast(carried["values"], "float32")

    def bytes_per_sample(self, shape):
        return bytes_of(self.fields(shape))

    def get_config(self):
        return {"scale": self.scale}
