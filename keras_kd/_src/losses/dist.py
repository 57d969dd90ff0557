"""DIST: correlations between classes and between samples are matched."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.logit_divergence import LogitDivergence
from keras_kd._src.losses.relations import relative_weights


def dist(
    teacher_logits,
    student_logits,
    sample_weight=None,
    *,
    temperature=1.0,
    inter_weight=1.0,
    intra_weight=1.0,
):
    """DIST: one minus the correlation of class probabilities, both ways.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        inter = 1 - correlation over classes (p, q), of the sample
        intra = 1 - mean_classes correlation over samples (p, q)
        value = T^2 * (inter_weight * inter + intra_weight * intra)

    Correlations are Pearson's; 1e-8 is added to the product of the norms, as
    in the authors' code.

    Args:
        teacher_logits: shape `(batch, classes)`.
        student_logits: the same shape.
        sample_weight: optional, shape `(batch,)`; the weights of the samples in
            `intra`; only their proportions matter.
        temperature: T, a positive number.
        inter_weight: beta in the paper.
        intra_weight: gamma in the paper.

    Returns:
        Values without a unit, shape `(batch,)`; `intra` is the same for each.

    Example:
    >>> logits = [[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]]
    >>> abs(round(float(dist(logits, logits)[0]), 3))
    0.0

    Reference: Huang et al., 2022, "Knowledge Distillation from A Stronger
    Teacher", arXiv 2205.10536.
    """
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits
    )
    teacher = ops.softmax(teacher_logits / temperature, axis=-1)
    student = ops.softmax(student_logits / temperature, axis=-1)
    present = relative_weights(sample_weight, student)
    ones = ops.ones_like(student[:1])
    inter = 1.0 - _correlation(teacher, student, ones, axis=1)
    of_classes = _correlation(teacher, student, present[:, None], axis=0)
    intra = 1.0 - ops.mean(of_classes)
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def _correlation(first, second, weight, axis):
    first = _centered(first, weight, axis)
    second = _centered(second, weight, axis)
    product = ops.sum(weight * first * second, axis=axis)
    norms = _norm(first, weight, axis) * _norm(second, weight, axis)
    return product / (norms + 1e-8)


def _centered(values, weight, axis):
    # If all weights are 0, so are the sums, but the divisor must not be.
    size = values.shape[1] if axis == 1 else ops.maximum(ops.sum(weight), 1e-30)
    mean = ops.sum(weight * values, axis=axis, keepdims=True) / size
    return values - mean


def _norm(values, weight, axis):
    squares = ops.sum(weight * ops.square(values), axis=axis)
    # The floor keeps the root's gradient finite where nothing varies.
    return ops.sqrt(ops.maximum(squares, 1e-24))


@keras.saving.register_keras_serializable(package="keras_kd")
class DIST(LogitDivergence):
    """DIST: match correlations of the probabilities, not exact values.

    For teachers much stronger than the student, whose exact probabilities the
    student can't reach. Two correlations between teacher and student are
    maximized: for each sample, over the classes; and for each class, over the
    samples of the batch. Scale and offset of the probabilities are left to the
    student.

        inter = 1 - correlation over classes (p, q), of the sample
        intra = 1 - mean_classes correlation over samples (p, q)
        value = T^2 * (inter_weight * inter + intra_weight * intra)

    Usual weights: `inter_weight` and `intra_weight` of 2 with T = 4 (CIFAR-100)
    or of 1 to 2 with T = 1 (ImageNet), beside a task loss of weight 1.

    The intra-class term depends on the batch: use 64 samples or more, and note
    that each replica computes it from its own part. With a single sample (or a
    single one of a weight above 0) nothing varies over the batch: the
    correlation counts as 0, the term as 1, without a gradient. With two
    classes, each correlation over the classes is 1 or -1, and only the
    intra-class term has a gradient.

    Args:
        temperature: T, a positive number or a `LearningRateSchedule` over
            training steps.
        inter_weight: weight of the term over classes, beta in the paper.
        intra_weight: weight of the term over samples, gamma in the paper.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, classes)`.
        student_logits: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples, a scalar without a unit (times T^2).

    Raises:
        ValueError: `temperature` is not positive; a weight is negative; class
            counts differ, or the logits are not of two axes.

    Example:
    >>> loss = DIST(intra_weight=0.0)
    >>> round(float(loss([[0.0, 1.0, 2.0]], [[0.0, 2.0, 1.0]])), 4)
    0.9979

    Reference: Huang et al., 2022, arXiv 2205.10536.
    """

    per_sample = True
    divergence = staticmethod(dist)

    def __init__(
        self,
        temperature=1.0,
        *,
        inter_weight=1.0,
        intra_weight=1.0,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.inter_weight = number(inter_weight, "inter_weight", least=0.0)
        self.intra_weight = number(intra_weight, "intra_weight", least=0.0)

    def call(self, teacher_logits, student_logits, *, sample_weight):
        return self.divergence_at_temperature(
            teacher_logits, student_logits, sample_weight
        )

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        if len(student_shape) != 2:
            raise ValueError(
                "DIST needs one prediction per sample. Received: outputs of "
                f"shape {tuple(student_shape)}. Tap layers whose outputs have "
                "the shape (batch, classes), or use "
                "`keras_kd.losses.SoftTargets`."
            )

    def options(self):
        return {
            "inter_weight": self.inter_weight,
            "intra_weight": self.intra_weight,
        }
