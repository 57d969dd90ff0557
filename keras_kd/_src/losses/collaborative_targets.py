"""Collaborative targets: one target made of several peers' predictions."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.probabilities import check_two_classes
from keras_kd._src.losses.soft_targets import soft_targets
from keras_kd._src.losses.tempered_loss import TemperedLoss
from keras_kd._src.losses.true_class import true_class


def _min_logit(logits, labels):
    """For each wrong class the lowest logit of all peers, (batch, classes)."""
    # The target with the lowest cross-entropy, chosen class by class.
    true = ops.cast(true_class(labels, logits[0]), logits.dtype)
    known = ops.any(true > 0, axis=-1, keepdims=True)
    own = ops.sum(logits * true, axis=-1, keepdims=True)
    return ops.where(known, ops.min(logits - own, axis=0), _mean(logits))


def _least_loss(logits, labels):
    """For each sample, the logits of the peer with the lowest cross-entropy."""
    true = ops.cast(true_class(labels, logits[0]), logits.dtype)
    known = ops.any(true > 0, axis=-1, keepdims=True)
    losses = -ops.sum(ops.log_softmax(logits, axis=-1) * true, axis=-1)
    chosen = ops.one_hot(ops.argmin(losses, axis=0), logits.shape[0], axis=0)
    chosen = ops.expand_dims(ops.cast(chosen, logits.dtype), -1)
    return ops.where(known, ops.sum(chosen * logits, axis=0), _mean(logits))


def _mean(logits, labels=None):
    return ops.mean(logits, axis=0)


COMBINATIONS = {
    "min_logit": _min_logit,
    "least_loss": _least_loss,
    "mean": _mean,
}


@keras.saving.register_keras_serializable(package="keras_kd")
class CollaborativeTargets(TemperedLoss):
    """Collaborative learning (KDCL): peers learn from one joint target.

    For students that are trained together and differ in size: a weaker one does
    not hold the others back, as the target combines the best of each.
    `keras_kd.schemes.collaborative_learning` makes the transfer. Usual weight:
    1.

        value = T^2 * sum_peers sum_classes p * (log p - log q_peer), in nats
        p = softmax(target / T);  q = softmax(student / T)

        "min_logit"   target_c = min_peers (logit_c - logit of the true class)
        "least_loss"  the logits of the peer with the lowest cross-entropy
                      (KDCL-Naive)
        "mean"        the mean of all logits, without labels

    The paper's KDCL-Linear and KDCL-General, which solve for the peers' weights
    (the latter on held-out data), are not offered. In the paper the peers get
    differently augmented images; here all get the same.

    Args:
        combine: `"min_logit"` (the paper's choice for large data sets),
            `"least_loss"` or `"mean"`.
        temperature: T, or a `LearningRateSchedule` over training steps.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: list of all peers' logits, `(batch, classes)` each.
        student_logits: list of the same length.
        labels: class numbers, shape `(batch,)`; for a sample without a label
            (-1) the mean is the target.
        sample_weight: optional, shape `(batch,)`.

    Returns:
        The weighted mean over samples of the sum over peers, a scalar in nats
        (times T^2).

    Raises:
        ValueError: `combine` is unknown; `temperature` is not positive; there
            is only one peer; class counts differ.

    Example:
    >>> loss = CollaborativeTargets("mean", temperature=1.0)
    >>> logits = [[[2.0, 0.0]], [[0.0, 0.0]]]
    >>> round(float(loss(logits, logits)), 4)
    0.1936

    Reference: Guo et al., CVPR 2020, "Online Knowledge Distillation via
    Collaborative Learning".
    """

    expects_logits = True
    joint = True
    per_sample = True

    def __init__(self, combine="min_logit", temperature=2.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self.combine = one_of(combine, "combine", [*COMBINATIONS])

    @property
    def required_context(self):
        return [] if self.combine == "mean" else ["labels"]

    def call(self, teacher_logits, student_logits, *, labels=None):
        logits = ops.stack(bounded_logits(*teacher_logits))
        target = COMBINATIONS[self.combine](logits, labels)
        temperature = ops.convert_to_tensor(self.temperature)
        return sum(
            soft_targets(target, each, temperature=temperature)
            for each in student_logits
        )

    def check_shapes(self, teacher_shape, student_shape):
        if len(teacher_shape) < 2 or any(
            len(shape) != 2 for shape in [*teacher_shape, *student_shape]
        ):
            raise ValueError(
                f"{type(self).__name__} joins the logits of two or more peers, "
                "each of shape (batch, classes). Received: logits of shapes "
                f"{[tuple(shape) for shape in teacher_shape]}. Give the "
                "transfer a list of taps, one for each peer's output."
            )
        for shape in [*teacher_shape, *student_shape]:
            check_two_classes(self, teacher_shape[0], shape)

    def options(self):
        return {"combine": self.combine}
