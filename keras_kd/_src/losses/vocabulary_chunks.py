"""Soft targets of large vocabularies, without the logits of all tokens."""

from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.losses.recompute import fold_chunks
from keras_kd._src.losses.recompute import map_chunks
from keras_kd._src.losses.recompute import with_gradient
from keras_kd._src.specs import same_shape


def chunked_soft_targets(
    teacher_hidden,
    teacher_kernel,
    student_hidden,
    student_kernel,
    *,
    teacher_bias=None,
    student_bias=None,
    temperature=1.0,
    chunk_size=4096,
):
    """Soft targets (KD) from hidden states, by chunks of the vocabulary.

    For language models, whose logits (batch x length x vocabulary) are often
    the largest thing in memory: both sides' last hidden states and output
    projections are given instead. The softmax's sums are gathered chunk by
    chunk, and the backward pass computes each chunk again, so that no more
    than (batch x length x chunk_size) logits of a side exist at once. The
    value and the gradient are those of `soft_targets` but for rounding, for
    half as many products of matrices more.

        teacher_logits = teacher_hidden @ teacher_kernel + teacher_bias
        student_logits = student_hidden @ student_kernel + student_bias
        value = soft_targets(teacher_logits, student_logits)

    Args:
        teacher_hidden: shape `(batch, ..., teacher_units)`. The teacher's
            side gets no gradient.
        teacher_kernel: shape `(teacher_units, classes)`, as in `Dense`; of an
            embedding that serves as the projection give the transpose.
        student_hidden: shape `(batch, ..., student_units)`.
        student_kernel: shape `(student_units, classes)`.
        teacher_bias: optional, shape `(classes,)`.
        student_bias: optional, shape `(classes,)`.
        temperature: T, a positive number.
        chunk_size: how many classes at a time. Fewer need less memory, and
            are slower below a thousand or so.

    Returns:
        Values in nats (times T^2), float32, shape `(batch, ...)`.

    Raises:
        ValueError: the shapes do not fit, or `chunk_size` is no positive
            integer.

    Example:
    >>> hidden, kernel = ops.ones((2, 3, 4)), ops.ones((4, 10))
    >>> value = chunked_soft_targets(
    ...     hidden, kernel, hidden, kernel, chunk_size=4
    ... )
    >>> tuple(value.shape), abs(round(float(ops.max(value)), 4))
    ((2, 3), 0.0)

    References:
        Hinton, Vinyals and Dean, 2015, arXiv 1503.02531 (soft targets).
        Wijmans et al., 2024, "Cut Your Losses in Large-Vocabulary Language
        Models", arXiv 2411.09009 (chunks of the vocabulary, recomputed, for
        the cross-entropy).
    """
    sides = [
        _side(teacher_hidden, teacher_kernel, teacher_bias),
        _side(student_hidden, student_kernel, student_bias),
    ]
    chunk_size = integer(chunk_size, "chunk_size")
    _check(sides)
    positions = ops.shape(sides[1][0])[:-1]
    temperature = ops.cast(temperature, "float32")
    arrays = [temperature]
    for hidden, kernel, bias in sides:
        hidden = ops.reshape(hidden, (-1, kernel.shape[0]))
        arrays += [hidden, kernel, bias]
    chunks = _Chunks(chunk_size)
    values = with_gradient(chunks.forward, chunks.backward)(*arrays)
    return ops.reshape(values, positions)


def _side(hidden, kernel, bias):
    hidden, kernel = (
        ops.convert_to_tensor(hidden),
        ops.convert_to_tensor(kernel),
    )
    if bias is None:
        bias = ops.zeros((kernel.shape[-1],))
    return hidden, kernel, ops.convert_to_tensor(bias)


def _check(sides):
    shapes = [[tuple(array.shape) for array in side] for side in sides]
    (teacher, student) = shapes
    fits = all(
        len(kernel) == 2 and hidden[-1:] == kernel[:1] and bias == kernel[1:]
        for hidden, kernel, bias in shapes
    )
    same_classes = teacher[1][1:] == student[1][1:]
    same_positions = same_shape(teacher[0][:-1], student[0][:-1])
    if not (fits and same_classes and same_positions):
        raise ValueError(
            "chunked_soft_targets needs hidden states (batch, ..., units), a "
            "kernel (units, classes) and a bias (classes,) on each side, of "
            "the same positions and classes. Received: (hidden, kernel, bias) "
            f"of shapes {teacher} (teacher) and {student} (student). The "
            "kernel of an embedding (classes, units) has to be transposed."
        )


class _Chunks:
    """The two passes over the vocabulary."""

    def __init__(self, size):
        self.size = size

    def forward(self, temperature, *arrays):
        teacher, student = arrays[:3], arrays[3:]
        nothing = ops.zeros_like(ops.cast(student[0][:, 0], "float32"))
        # Not -inf: its difference from itself is no number.
        lowest = nothing - 1e30
        state = (lowest, nothing, nothing, lowest, nothing)

        def step(state, start, length):
            t_max, t_sum, cross, s_max, s_sum = state
            t, _ = _logits(teacher, temperature, start, length)
            s, _ = _logits(student, temperature, start, length)
            t_max, t_scale, t_powers = _powers(t_max, t)
            s_max, s_scale, s_powers = _powers(s_max, s)
            t_sum = t_sum * t_scale + ops.sum(t_powers, axis=-1)
            s_sum = s_sum * s_scale + ops.sum(s_powers, axis=-1)
            cross = cross * t_scale + ops.sum(t_powers * (t - s), axis=-1)
            return t_max, t_sum, cross, s_max, s_sum

        classes = student[1].shape[-1]
        t_max, t_sum, cross, s_max, s_sum = fold_chunks(
            step, state, classes, self.size
        )
        t_log, s_log = ops.log(t_sum), ops.log(s_sum)
        # sum p (t - s) - log sum exp t + log sum exp s, large parts together.
        divergence = (cross / t_sum + (s_max - t_max)) + (s_log - t_log)
        kept = [temperature, *arrays, t_max + t_log, s_max + s_log]
        return temperature**2 * divergence, kept

    def backward(self, kept, upstream):
        temperature, *arrays, t_total, s_total = kept
        teacher, student = arrays[:3], arrays[3:]
        hidden = ops.cast(student[0], "float32")
        scale = (temperature * upstream)[:, None]

        def step(slope, start, length):
            t, _ = _logits(teacher, temperature, start, length)
            s, kernel = _logits(student, temperature, start, length)
            error = ops.exp(s - s_total[:, None])
            error = scale * (error - ops.exp(t - t_total[:, None]))
            slope = slope + ops.matmul(error, ops.transpose(kernel))
            of_kernel = ops.matmul(ops.transpose(hidden), error)
            of_bias = ops.sum(error, axis=0)
            return slope, (
                ops.cast(of_kernel, student[1].dtype),
                ops.cast(of_bias, student[2].dtype),
            )

        classes = student[1].shape[-1]
        slope, (of_kernel, of_bias) = map_chunks(
            step, ops.zeros_like(hidden), classes, self.size
        )
        of_hidden = ops.cast(slope, student[0].dtype)
        return None, None, None, None, of_hidden, of_kernel, of_bias


def _logits(side, temperature, start, length):
    """A chunk's tempered logits, and its part of the kernel, in float32."""
    hidden, kernel, bias = side
    kernel = ops.slice(kernel, (0, start), (kernel.shape[0], length))
    kernel = ops.cast(kernel, "float32")
    bias = ops.cast(ops.slice(bias, (start,), (length,)), "float32")
    hidden = ops.cast(hidden, "float32") / temperature
    return ops.matmul(hidden, kernel) + bias / temperature, kernel


def _powers(largest, logits):
    """The new maximum, the old sums' scale, and the powers, for a softmax."""
    new = ops.maximum(largest, ops.max(logits, axis=-1))
    return new, ops.exp(largest - new), ops.exp(logits - new[:, None])
