"""What the losses share that compare the samples of a batch with each other."""

from keras import ops

from keras_kd._src.losses.distillation_loss import in_full_precision


def present_rows(teacher_features, student_features, sample_weight=None):
    """Both views as one row a sample, absent samples emptied, and the weights.

    A sample of weight 0 becomes a row of zeros: whatever it held, infinities
    included, reaches neither a sum over pairs nor a gradient.

    Args:
        teacher_features: shape `(batch, ...)`.
        student_features: shape `(batch, ...)`.
        sample_weight: optional, shape `(batch,)`; ones by default.

    Returns:
        Teacher rows `(batch, dim)`, student rows `(batch, other_dim)` and
        weights `(batch,)`.

    Example:
    >>> teacher, _, _ = present_rows([[3.0], [4.0]], [[1.0], [2.0]], [1.0, 0.0])
    >>> [float(row[0]) for row in teacher]
    [3.0, 0.0]
    """
    views = in_full_precision(teacher_features, student_features)
    rows = [ops.reshape(view, (ops.shape(view)[0], -1)) for view in views]
    if sample_weight is None:
        sample_weight = ops.ones_like(rows[1][:, 0])
    weight = ops.cast(sample_weight, rows[1].dtype)
    present = ops.expand_dims(weight > 0, axis=-1)
    teacher, student = (
        ops.where(present, row, ops.zeros_like(row)) for row in rows
    )
    return teacher, student, weight


def shares(weight):
    """Each sample's part of the sum of weights; zeros if all weights are 0.

    Args:
        weight: shape `(batch,)`, 0 or more.

    Returns:
        Shape `(batch,)`.

    Example:
    >>> [float(share) for share in shares(ops.convert_to_tensor([1.0, 3.0]))]
    [0.25, 0.75]
    """
    return divided(weight, ops.sum(weight))


def divided(numerator, denominator):
    """The quotient, and 0 (with a gradient of 0) where the denominator is 0.

    Args:
        numerator: any shape.
        denominator: a shape that broadcasts to it, 0 or more.

    Returns:
        The numerator's shape.

    Example:
    >>> [float(part) for part in divided(ops.ones(2), ops.zeros(2))]
    [0.0, 0.0]
    """
    known = denominator > 0
    denominator = ops.where(known, denominator, ops.ones_like(denominator))
    return numerator * ops.cast(known, numerator.dtype) / denominator


def mean_over_partners(relations, weight):
    """Each sample's weighted mean over the samples that it is compared with.

    The weighted mean of these over the samples is then the mean over pairs.

        value_i = sum_j w_j relations_ij / sum_j w_j

    Args:
        relations: shape `(..., batch)`.
        weight: shape `(batch,)`.

    Returns:
        Shape `(...)`.

    Example:
    >>> mean = mean_over_partners(ops.ones((2, 2)), ops.ones(2))
    >>> [float(value) for value in mean]
    [1.0, 1.0]
    """
    return ops.sum(relations * shares(weight), axis=-1)


def differences(rows):
    """The rows' differences, each with each: `[i, j] = rows[j] - rows[i]`.

    Not from a Gram matrix, whose squares cancel where two samples are close.
    Takes `batch^2 * dim` numbers.

    Args:
        rows: shape `(batch, dim)`.

    Returns:
        Shape `(batch, batch, dim)`.

    Example:
    >>> float(differences(ops.convert_to_tensor([[1.0], [4.0]]))[0, 1, 0])
    3.0
    """
    return ops.expand_dims(rows, axis=0) - ops.expand_dims(rows, axis=1)


def directions(vectors):
    """The vectors scaled to a length of 1; zeros stay, and get no gradient.

    Args:
        vectors: shape `(..., dim)`.

    Returns:
        The same shape.

    Example:
    >>> unit = directions(ops.convert_to_tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> [[round(float(v), 1) for v in row] for row in unit]
    [[0.6, 0.8], [0.0, 0.0]]
    """
    # Divided by the largest entry first: squares of small ones vanish.
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True)
    largest = ops.stop_gradient(ops.where(largest > 1e-12, largest, 0.0))
    vectors = divided(vectors, largest)
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    # 1 or more now, but for zeros.
    return vectors / ops.sqrt(ops.maximum(squares, 0.5))


def huber(error):
    """Half the square up to an error of 1, linear beyond.

    Args:
        error: any shape.

    Returns:
        The same shape.

    Example:
    >>> [float(v) for v in huber(ops.convert_to_tensor([0.5, -3.0]))]
    [0.125, 2.5]
    """
    error = ops.abs(error)
    quadratic = ops.minimum(error, 1.0)
    return quadratic * (error - 0.5 * quadratic)


def check_samples(loss, teacher_shape, student_shape):
    """Raises a `ValueError` unless both views hold the same samples."""
    batches = {shape[0] for shape in (teacher_shape, student_shape) if shape}
    ranks = len(teacher_shape), len(student_shape)
    if min(ranks) < 2 or len(batches - {None}) > 1:
        raise ValueError(
            f"{type(loss).__name__} compares the samples of a batch, whose "
            "views may have any shape after the batch axis, and as many "
            f"samples on both sides. Received: teacher {tuple(teacher_shape)}, "
            f"student {tuple(student_shape)}. Tap layers whose outputs have "
            "the shape `(batch, ...)`, with one entry or more a sample."
        )
