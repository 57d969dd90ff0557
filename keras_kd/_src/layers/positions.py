"""Shared by adapters: the channels' axis, and resizing of positions."""

from keras_kd._src.resize import resize_axis


def channels_last(shape, axis):
    """A shape, including the batch axis, with the channels moved to the end."""
    shape = list(shape)
    channels = shape.pop(axis)
    return (*shape, channels)


def check_same_rank(layer, source, target):
    """Raises a `ValueError` unless features can be resized to the target."""
    differ = source[1:-1] != target[1:-1]
    unknown = None in (source[-1], target[-1]) or (
        differ and None in source[1:-1] + target[1:-1]
    )
    if len(source) != len(target) or unknown:
        raise ValueError(
            f"{type(layer).__name__} takes features of the same rank and of "
            f"known sizes. Received: student {source[1:]}, teacher "
            f"{target[1:]} (without the batch, channels last). Tap layers of "
            "the same rank, and give both models inputs of a fixed size."
        )


def check_target(layer):
    """Raises a `ValueError` if an adapter has no `target_shape` yet."""
    if layer.target_shape is None:
        raise ValueError(
            f"{type(layer).__name__} needs `target_shape`, the shape to adapt "
            "to without its batch axis. Received: target_shape=None. Pass the "
            "layer to a `Transfer`, or give it a shape."
        )


def match_positions(features, positions):
    """Resizes `(batch, ..., channels)` to positions; None leaves an axis."""
    for axis, size in enumerate(positions, start=1):
        if size is not None and features.shape[axis] != size:
            features = resize_axis(features, axis, size)
    return features
