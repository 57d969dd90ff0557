"""Feature matching: the student's features are drawn to the teacher's."""

import keras
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision


def _squared(teacher, student, axis):
    return ops.mean(ops.square(teacher - student), axis=axis)


def _absolute(teacher, student, axis):
    error = teacher - student
    # Not abs: JAX gives it the slope 1 at 0, where the views agree.
    return ops.mean(error * ops.stop_gradient(ops.sign(error)), axis=axis)


def _huber(teacher, student, axis):
    error = ops.abs(teacher - student)
    quadratic = ops.minimum(error, 1.0)
    return ops.mean(quadratic * (error - 0.5 * quadratic), axis=axis)


def _cosine(teacher, student, axis):
    product = ops.sum(
        unit_length(teacher, axis) * unit_length(student, axis), axis=axis
    )
    return 1.0 - product


def unit_length(vectors, axis):
    """Vectors of length 1 along an axis; zeros stay zeros.

    Example:
    >>> [round(float(v), 3) for v in unit_length(ops.array([3.0, 4.0]), 0)]
    [0.6, 0.8]
    """
    # Divided by the largest entry first: squares of large entries overflow,
    # those of small ones vanish. The scale is no part of the direction.
    largest = ops.max(ops.abs(vectors), axis=axis, keepdims=True)
    scale = ops.where(largest > 1e-12, largest, ops.ones_like(largest))
    vectors = vectors / ops.stop_gradient(scale)
    # 1 or more now, but for zeros, whose gradient the floor keeps small.
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    return vectors / ops.sqrt(ops.maximum(squares, 0.5))


DISTANCES = {
    "mse": _squared,
    "l1": _absolute,
    "huber": _huber,
    "cosine": _cosine,
}


def feature_matching(
    teacher_features, student_features, *, distance="mse", axis=-1
):
    """Distance of two feature tensors at each position.

        mse:    mean_channels (t - s)^2
        l1:     mean_channels |t - s|
        huber:  mean_channels of 0.5 (t - s)^2, |t - s| - 0.5 beyond 1
        cosine: 1 - <t, s> / (|t| |s|)

    Args:
        teacher_features: shape `(batch, ..., channels)`.
        student_features: the same shape.
        distance: `"mse"`, `"l1"`, `"huber"` or `"cosine"`.
        axis: the channels' axis.

    Returns:
        Values of shape `(batch, ...)`, without the channels' axis.

    Example:
    >>> float(feature_matching([[1.0, 3.0]], [[0.0, 0.0]])[0])
    5.0

    Reference: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets",
    arXiv 1412.6550.
    """
    teacher_features, student_features = in_full_precision(
        teacher_features, student_features
    )
    return DISTANCES[distance](teacher_features, student_features, axis)


@keras.saving.register_keras_serializable(package="keras_kd")
class FeatureMatching(DistillationLoss):
    """The FitNets hint: match a hidden layer of the teacher.

    Guides the student's middle, where soft targets reach only from the end.
    Where the shapes differ, give the transfer a `FeatureAdapter`, which is
    FitNets' regressor. Usual weights: 100 in the benchmark repositories for
    `"mse"` on CIFAR-100; start at 1 and compare the parts in the logs.

        value = distance(teacher_features, student_features)
        (mean over channels and positions; no factor 1/2)

    FitNets trains in two stages, hint first; here both terms train together,
    as the benchmark repositories do.

    Args:
        distance: `"mse"` (the paper's), `"cosine"`, `"l1"` or `"huber"`.
        axis: the channels' axis; 1 for channels-first maps.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ..., channels)`.
        student_features: the same shape.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples and positions, a scalar.

    Raises:
        ValueError: `distance` is not one of the four; shapes differ.

    Example:
    >>> loss = FeatureMatching()
    >>> float(loss([[1.0, 3.0]], [[0.0, 0.0]]))
    5.0

    Reference: Romero et al., 2015, arXiv 1412.6550.
    """

    def __init__(self, distance="mse", *, axis=-1, **kwargs):
        super().__init__(**kwargs)
        if distance not in DISTANCES:
            raise ValueError(
                f"Argument `distance` must be one of {sorted(DISTANCES)}. "
                f"Received: distance={distance!r}."
            )
        self.distance = distance
        self.axis = axis

    def call(self, teacher_features, student_features):
        return feature_matching(
            teacher_features,
            student_features,
            distance=self.distance,
            axis=self.axis,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "distance": self.distance,
            "axis": self.axis,
        }
