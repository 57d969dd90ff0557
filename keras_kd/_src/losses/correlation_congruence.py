"""Correlation congruence: relations between the samples of a batch."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.features import absolute
from keras_kd._src.losses.relations import SampleRelation
from keras_kd._src.losses.relations import divide_no_nan
from keras_kd._src.losses.relations import mean_over_partners
from keras_kd._src.losses.relations import present_rows
from keras_kd._src.losses.relations import unit_vectors


def correlation_congruence(
    teacher_features,
    student_features,
    *,
    form="adjacent",
    gamma=0.4,
    order=2,
    sample_weight=None,
):
    """CC: congruence of the relations between samples, in one of two forms.

        adjacent: sum_d |t_i - s_i|_d |t_j - s_j|_d,
            j the next sample of the batch; their mean is the loss
        kernel:   mean_j (K_ij(teacher) - K_ij(student))^2,
            K_ij = exp(-2 gamma) sum_p (2 gamma)^p / p! cosine(x_i, x_j)^p,
            p = 0 ... order, the Taylor expansion of exp(-gamma |u_i - u_j|^2)
            for unit vectors u

    Args:
        teacher_features: shape `(batch, ...)`; flattened.
        student_features: shape `(batch, ...)`; flattened. Of the teacher's size
            for `"adjacent"`, of any size for `"kernel"`.
        form: `"adjacent"` or `"kernel"`.
        gamma: parameter of the Gaussian kernel, for `"kernel"`.
        order: order of the Taylor expansion, for `"kernel"`.
        sample_weight: optional, shape `(batch,)`; a sample of weight 0 is
            skipped: its neighbors then form a pair.

    Returns:
        Values of shape `(batch,)`, whose mean is the loss, without a unit for
        `"kernel"`. For `"adjacent"`, a sample has the value of its pair with
        the next one (times the batch size, divided by the number of pairs).

    Example:
    >>> values = correlation_congruence([[1.0], [3.0], [0.0]], [[0.0]] * 3)
    >>> [round(float(value), 4) for value in values]
    [4.5, 0.0, 0.0]

    Reference: Peng et al., 2019, "Correlation Congruence for Knowledge
    Distillation", arXiv 1904.01802.
    """
    teacher, student, weight = present_rows(
        teacher_features, student_features, sample_weight
    )
    if form == "adjacent":
        return _adjacent(teacher, student, weight)
    gap = _kernel(teacher, gamma, order) - _kernel(student, gamma, order)
    return mean_over_partners(ops.square(gap), weight)


def _adjacent(teacher, student, weight):
    error = absolute(teacher - student)
    order = _present_first(weight)
    error = ops.take(error, order, axis=0)
    sorted_weight = ops.take(weight, order, axis=0)
    # The last sample has no next one: its pair gets a weight of 0.
    next_error = ops.concatenate([error[1:], ops.zeros_like(error[:1])])
    next_weight = ops.concatenate(
        [sorted_weight[1:], ops.zeros_like(weight[:1])]
    )
    products = ops.sum(error * next_error, axis=-1)
    # So that the mean over samples is the mean over pairs, by their weights.
    pairs = ops.sum(sorted_weight * next_weight)
    values = products * divide_no_nan(next_weight * ops.sum(weight), pairs)
    return ops.take(values, ops.argsort(order), axis=0)


def _present_first(weight):
    absent = ops.cast(weight <= 0, "int32")
    # Numbered, so that no two are equal: not every sort is stable.
    number = ops.arange(ops.shape(weight)[0], dtype="int32")
    return ops.argsort(absent * ops.shape(weight)[0] + number)


def _kernel(rows, gamma, order):
    units = unit_vectors(rows)
    cosines = ops.matmul(units, ops.transpose(units))
    term = math.exp(-2.0 * gamma) * ops.ones_like(cosines)
    total = term
    for power in range(1, order + 1):
        term = term * cosines * (2.0 * gamma / power)
        total = total + term
    return total


@keras.saving.register_keras_serializable(package="keras_kd")
class CorrelationCongruence(SampleRelation):
    """Correlation congruence (CC): relations of samples, in two forms.

    Two different losses have this name. The benchmark repositories multiply the
    errors of samples that follow each other in the batch (the default). Usual
    weight: 0.02, on embeddings of one size (128 there: give the transfer
    `adapter=keras.layers.Dense(128)` and likewise `teacher_adapter`). The paper
    compares Gaussian kernels of all pairs, for sides of any two sizes. Its
    weight is 0.003 for the root of the sum divided by the square of the batch
    size; here the value is squared and so is smaller: start at 1.

        adjacent: value = mean over the batch - 1 pairs of neighbors i, j of
                  sum_d |t_i - s_i|_d |t_j - s_j|_d
        kernel:   value = mean_ij (K_ij(teacher) - K_ij(student))^2,
                  K = exp(-2 gamma) sum_p (2 gamma)^p / p! cosine^p

    `"adjacent"` depends on the order of the batch, so shuffle. A batch of one
    has no pair, and the value 0. The value is also 0 if only every second
    sample has an error.

    Args:
        form: `"adjacent"` (the benchmark repositories') or `"kernel"` (the
            paper's).
        gamma: parameter of the Gaussian kernel, a positive number, 0.4 in the
            paper.
        order: order of its Taylor expansion, 1 or more, 2 in the paper.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_features: shape `(batch, ...)`.
        student_features: shape `(batch, ...)`.
        sample_weight: optional, shape `(batch,)`; a pair has the product of its
            samples' weights.

    Returns:
        The weighted mean over pairs, a scalar.

    Raises:
        ValueError: `form`, `gamma` or `order` is unknown or out of range; the
            sides differ in size (`"adjacent"`) or in their batches.

    Example:
    >>> loss = CorrelationCongruence()
    >>> float(loss([[1.0], [3.0], [0.0]], [[0.0], [0.0], [0.0]]))
    1.5

    Reference: Peng et al., 2019, arXiv 1904.01802.
    """

    relation = staticmethod(correlation_congruence)

    def __init__(self, form="adjacent", *, gamma=0.4, order=2, **kwargs):
        super().__init__(**kwargs)
        self.form = one_of(form, "form", ("adjacent", "kernel"))
        self.gamma = number(gamma, "gamma", above=0.0)
        self.order = integer(order, "order")

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        if self.form == "adjacent":
            DistillationLoss.check_shapes(self, teacher_shape, student_shape)

    def options(self):
        return {"form": self.form, "gamma": self.gamma, "order": self.order}
