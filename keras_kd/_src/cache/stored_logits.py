"""Cached logits of language models, of a few positions at a time."""

from keras_kd._src.losses.chunked_logits import register_with_jax
from keras_kd._src.losses.chunked_logits import slice_of


class StoredLogits:
    """A batch's cached logits of tokens, as `ChunkedLogits` has a model's.

    Args:
        carried: what the batch brings along, a dict of tensors with the
            positions on their second axis.
        encoding: how they are stored.
        shape: of a sample's logits, `(length, classes)`.
    """

    def __init__(self, carried, encoding, shape):
        self.carried = carried
        self.encoding = encoding
        self.shape = (None, *shape)

    @property
    def source(self):
        """What the logits are made of."""
        return self.carried["values"]

    def logits_at(self, start, size):
        """The logits of `size` positions from `start` on."""
        part = {
            name: slice_of(each, 1, start, size)
            for name, each in self.carried.items()
        }
        return self.encoding.restore(part, (size, self.shape[-1]))


register_with_jax(StoredLogits, arrays=("carried",), rest=("encoding", "shape"))
