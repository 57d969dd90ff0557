"""Cached logits of language models, restored a few positions at a time."""

from keras_kd._src.losses.chunked_logits import register_with_jax
from keras_kd._src.losses.chunked_logits import slice_of


class StoredLogits:
    """A batch's cached token logits, with the interface of `ChunkedLogits`.

    Args:
        carried: what the batch carries, a dict of tensors with the positions
            on their second axis.
        encoding: how the logits are stored.
        shape: the shape of one sample's logits, `(length, classes)`.
    """

    def __init__(self, carried, encoding, shape):
        self.carried = carried
        self.encoding = encoding
        self.shape = (None, *shape)

    @property
    def source(self):
        """The tensor that the logits are made from."""
        return self.carried["values"]

    def logits_at(self, start, size):
        """The logits of `size` positions from `start` on."""
        part = {
            name: slice_of(each, 1, start, size)
            for name, each in self.carried.items()
        }
        return self.encoding.restore(part, (size, self.shape[-1]))


register_with_jax(StoredLogits, arrays=("carried",), rest=("encoding", "shape"))
