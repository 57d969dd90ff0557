"""Weights and masks per position (token, pixel), fitted to features.

Both are called `entries` here: one number per position, 0 where it is absent,
of shape `(batch,)` or `(batch, positions...)`.
"""

from keras import ops

from keras_kd._src.resize import area_matrix
from keras_kd._src.resize import resize_axis


def at_positions(entries, shape, resize=True):
    """The entries, broadcastable to a shape `(batch, positions...)`.

    None if they are per sample, or of other positions: if the number of axes
    differs, or (unless they may be resized) a size.
    """
    entries = without_column(entries, len(shape))
    axes = len(entries.shape)
    if axes < 2 or axes > len(shape):
        return None
    for axis in range(1, axes):
        if not fits(entries.shape[axis], shape[axis]):
            if not resize or axes < len(shape):
                return None
            size = shape[axis]
            entries = resize_axis(entries, axis, size, area_matrix)
    return expand_to(entries, len(shape))


def fits(size, wanted):
    """Whether an axis broadcasts to a size; True if either is unknown."""
    known = isinstance(size, int) and isinstance(wanted, int)
    return not known or size in (1, wanted)


def without_column(entries, rank):
    """The entries as float32, without a last axis of 1 beyond the rank."""
    entries = ops.cast(ops.convert_to_tensor(entries), "float32")
    if len(entries.shape) > rank and entries.shape[-1] == 1:
        entries = ops.squeeze(entries, axis=-1)
    return entries


def expand_to(tensor, rank):
    """The tensor with axes of size 1 appended, up to a rank."""
    while len(tensor.shape) < rank:
        tensor = ops.expand_dims(tensor, axis=-1)
    return tensor


def broadcast_weights(sample_weight, shape):
    """Weights per sample or position, broadcast to the shape of the values.

    Weights of other positions are averaged to one per sample.
    """
    weight = at_positions(sample_weight, shape)
    if weight is None:
        weight = without_column(sample_weight, len(shape))
        weight = expand_to(mean_of_rest(weight), len(shape))
    # A copy: on PyTorch, Keras multiplies the mask into it in place.
    return ops.copy(ops.broadcast_to(weight, shape))


def mean_of_rest(weight):
    """Each sample's weight: the mean of its positions' weights above 0."""
    axes = tuple(range(1, len(weight.shape)))
    if not axes:
        return weight
    number = ops.sum(ops.cast(weight > 0.0, weight.dtype), axis=axes)
    return ops.sum(weight, axis=axes) / ops.maximum(number, 1.0)


def weight_of_samples(sample_weight, mask, present):
    """Weights of shape `(batch,)`; 0 for a sample without positions.

    Args:
        sample_weight: per sample or per position, or None.
        mask: which positions of the weights count, or None for all.
        present: which positions of the features count, or None for all.
    """
    weight = sample_weight
    if weight is not None:
        weight = without_column(weight, 1)
        shape = weight.shape
        if mask is not None:
            mask = at_positions(mask, shape, resize=False)
        if mask is not None:
            weight = ops.where(mask > 0.0, weight, 0.0)
        weight = mean_of_rest(weight)
    if present is None:
        return weight
    counts = ops.any(present, axis=tuple(range(1, len(present.shape))))
    counts = ops.cast(counts, "float32")
    return counts if weight is None else weight * counts
