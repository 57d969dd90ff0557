"""Soft targets for ordered classes: how far the probability must be moved."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.features import absolute
from keras_kd._src.losses.logit_divergence import LogitDivergence


def ordinal_soft_targets(
    teacher_logits, student_logits, *, temperature=1.0, power=2
):
    """Earth mover's distance (EMD) of probabilities at T, times T^power.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^power * sum_k |sum_(j <= k) (p_j - q_j)|^power

    Args:
        teacher_logits: shape `(batch, ..., classes)`, the classes in order.
        student_logits: the same shape.
        temperature: T, a positive number.
        power: 2 for the squared distance, 1 for the distance itself.

    Returns:
        Values of shape `(batch, ...)`: with `power=1` in classes, with 2
            without a unit.

    Example:
    >>> near, far = [[0.0, 99.0, 0.0]], [[0.0, 0.0, 99.0]]
    >>> first = [[99.0, 0.0, 0.0]]
    >>> float(ordinal_soft_targets(first, near, power=1)[0])
    1.0
    >>> float(ordinal_soft_targets(first, far, power=1)[0])
    2.0

    Reference: Hou, Yu and Samaras, 2016, "Squared Earth Mover's Distance-based
    Loss for Training Deep Neural Networks", arXiv 1611.05916.
    """
    teacher_logits, student_logits = bounded_logits(
        teacher_logits, student_logits
    )
    teacher = ops.softmax(teacher_logits / temperature, axis=-1)
    student = ops.softmax(student_logits / temperature, axis=-1)
    # The last sum is 0 except for rounding: both sides sum to 1.
    moved = ops.cumsum(teacher - student, axis=-1)[..., :-1]
    size = absolute(moved) if power == 1 else ops.square(moved)
    return temperature**power * ops.sum(size, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class OrdinalSoftTargets(LogitDivergence):
    """Ordinal soft targets (EMD): for ordered classes, such as ages or grades.

    Soft targets treat any two classes as equally different. Here probability in
    a wrong class costs more the farther that class is from the teacher's. The
    loss is Hou et al.'s, with the teacher's probabilities in place of the
    labels. The factor T^power keeps the size of the gradient as the temperature
    changes. A confidently wrong student gets a small gradient, as with any
    distance between probabilities, so keep a task loss as well.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^power * sum_k |sum_(j <= k) (p_j - q_j)|^power

    Usual weight: none is published for distillation; start at 1, beside a
    task loss of weight 1, and compare the parts in the logs.

    Args:
        temperature: T, a positive number or a `LearningRateSchedule` over
            training steps.
        power: 2 (the paper's) or 1.
        classes: as in `LogitDivergence`.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`, the classes in order.
        student_logits: the same shape.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: an argument is out of its range; class counts differ, or
            there is one class.

    Example:
    >>> loss = OrdinalSoftTargets()
    >>> round(float(loss([[0.0, 0.0]], [[0.0, 99.0]])), 4)
    0.25

    Reference: Hou, Yu and Samaras, 2016, arXiv 1611.05916.
    """

    divergence = staticmethod(ordinal_soft_targets)

    def __init__(self, temperature=1.0, *, power=2, **kwargs):
        super().__init__(temperature, **kwargs)
        self.power = one_of(power, "power", (1, 2))

    def options(self):
        return {"power": self.power}
