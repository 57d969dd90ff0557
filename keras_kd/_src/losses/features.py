"""Shared by losses that compare features with channels and positions."""

from keras import ops

from keras_kd._src.losses.positions import at_positions
from keras_kd._src.resize import resize_axis


def unit_length(vectors, axis):
    """Vectors of length 1 along an axis (or axes); zeros stay zeros."""
    # Divided by the largest entry first: squares of large entries overflow,
    # those of small ones vanish. The scale does not affect the direction.
    largest = ops.max(ops.abs(vectors), axis=axis, keepdims=True)
    scale = ops.where(largest > 1e-12, largest, ops.ones_like(largest))
    vectors = vectors / ops.stop_gradient(scale)
    # 1 or more now, except for zeros, whose gradient the floor keeps small.
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    return vectors / ops.sqrt(ops.maximum(squares, 0.5))


def absolute(error):
    """The absolute value, with a gradient of 0 at 0 on each backend."""
    # Not abs: on JAX its slope is 1 at 0, where both sides agree.
    return error * ops.stop_gradient(ops.sign(error))


def huber(error):
    """Half the square up to an error of 1, linear beyond."""
    error = ops.abs(error)
    quadratic = ops.minimum(error, 1.0)
    return quadratic * (error - 0.5 * quadratic)


def channel_rows(features, axis=-1):
    """Features as one row of positions per channel, (batch, channels, -1)."""
    features = ops.moveaxis(features, axis, 1)
    batch, channels = ops.shape(features)[0], features.shape[1]
    return ops.reshape(features, (batch, channels, -1))


def same_positions(teacher, student, axis):
    """Both with the positions of the smaller one, averaged down."""
    channels = axis % len(teacher.shape)
    for position in range(1, len(teacher.shape)):
        if position == channels:
            continue
        sizes = teacher.shape[position], student.shape[position]
        if sizes[0] != sizes[1] and None not in sizes:
            teacher = resize_axis(teacher, position, min(sizes))
            student = resize_axis(student, position, min(sizes))
    return teacher, student


def mask_of_both(mask, teacher, student, axis):
    """A mask at the positions at which `same_positions` compares both."""
    if mask is None:
        return None
    shapes = [list(features.shape) for features in (teacher, student)]
    for shape in shapes:
        del shape[axis]
    sizes = [None if None in pair else min(pair) for pair in zip(*shapes)]
    mask = at_positions(mask, sizes)
    return None if mask is None else mask > 0.0


def mean_of_present(values, mask):
    """Each sample's mean over the values that a mask keeps; others are 0."""
    means = ops.mean(values, axis=-1)
    if mask is None:
        return means
    mask = ops.reshape(ops.cast(mask, means.dtype), (ops.shape(mask)[0], -1))
    # The floor is for a sample without positions, whose values are 0.
    return means / ops.maximum(ops.mean(mask, axis=-1), 1e-12)


def check_positions(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both have positions and the same rank."""
    ranks = len(teacher_shape), len(student_shape)
    if ranks[0] != ranks[1] or ranks[0] < 3:
        raise ValueError(
            f"{type(loss).__name__} compares feature maps or token sequences "
            "of the same rank, 3 or more. Received: teacher "
            f"{tuple(teacher_shape)}, student {tuple(student_shape)}. Tap "
            "layers that have positions, and where one side is a map and the "
            "other a sequence, give the transfer "
            "`adapter=keras_kd.layers.FeatureAdapter()`."
        )


def check_layers(loss, teacher_shapes, student_shapes):
    """Raises a `ValueError` unless both have maps of two layers or more."""
    sides = [[*map(tuple, side)] for side in (teacher_shapes, student_shapes)]
    needed = None
    if len(sides[0]) < 2 or len(sides[0]) != len(sides[1]):
        needed = (
            "two taps or more on each side, from the lower layer to the upper "
            "one. Name them, as in `teacher=['stage1', 'stage2']`"
        )
    elif min(len(shape) for side in sides for shape in side) < 3:
        needed = "feature maps or token sequences. Tap layers with positions"
    elif any(t[loss.axis] != s[loss.axis] for t, s in zip(*sides)):
        needed = (
            "the same number of channels in each layer of the student as in "
            "the teacher's. Give the transfer "
            "`adapter=keras_kd.layers.FeatureAdapter()`"
        )
    if needed:
        refuse_layers(loss, teacher_shapes, student_shapes, needed)


def refuse_layers(loss, teacher_shapes, student_shapes, needed):
    """Raises a `ValueError` that says what the layers should be."""
    raise ValueError(
        f"{type(loss).__name__} needs {needed}. Received: teacher "
        f"{[*map(tuple, teacher_shapes)]}, student "
        f"{[*map(tuple, student_shapes)]}."
    )
