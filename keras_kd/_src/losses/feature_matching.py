"""Feature matching: distance between features of student and teacher."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import absolute
from keras_kd._src.losses.features import huber
from keras_kd._src.losses.features import unit_length


def _squared(teacher, student, axis):
    return ops.mean(ops.square(teacher - student), axis=axis)


def _absolute(teacher, student, axis):
    return ops.mean(absolute(teacher - student), axis=axis)


def _huber(teacher, student, axis):
    return ops.mean(huber(teacher - student), axis=axis)


def _cosine(teacher, student, axis):
    product = ops.sum(
        unit_length(teacher, axis) * unit_length(student, axis), axis=axis
    )
    return 1.0 - product


DISTANCES = {
    "mse": _squared,
    "l1": _absolute,
    "huber": _huber,
    "cosine": _cosine,
}


def feature_matching(
    teacher_features, student_features, *, distance="mse", axis=-1
):
    """FitNets: distance of two feature tensors at each position.

        mse:    mean_channels (t - s)^2
        l1:     mean_channels |t - s|
        huber:  mean_channels of 0.5 (t - s)^2, or |t - s| - 0.5 beyond 1
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
    """Feature matching (FitNets hint): match a hidden layer of the teacher.

    Guides hidden layers directly, which soft targets reach only through the
    output. Where the shapes differ, give the transfer a `FeatureAdapter`, which
    is FitNets' regressor. Usual weight: 100 in the benchmark repositories for
    `"mse"` on CIFAR-100; start at 1 and compare the parts in the logs.

        value = distance(teacher_features, student_features)
        (mean over channels and positions; no factor 1/2)

    FitNets trains in two stages, with the hint first; here both terms are
    trained together, as in the benchmark repositories.

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
        self.distance = one_of(distance, "distance", [*DISTANCES])
        self.axis = axis

    def call(self, teacher_features, student_features):
        return feature_matching(
            teacher_features, student_features, **self.options()
        )

    def options(self):
        return {"distance": self.distance, "axis": self.axis}
