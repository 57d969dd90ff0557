"""EasiestFirst: a curriculum, with the easiest samples first."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.rules.difficulty import label_cross_entropy
from keras_kd._src.rules.difficulty import normalized_entropy
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class EasiestFirst(Rule):
    """Keeps the easiest share of each batch (curriculum learning, SPL).

    For a student that is far behind its teacher, and may learn more from easy
    samples at first. A schedule over training steps adds the harder ones:

        EasiestFirst(Annealing(0.3, 1.0, steps=2000))

        kept = ceil(share * samples of the batch), at least one
        weight = weight   of the `kept` samples that are easiest
        weight = 0        of the others

    With `by="student_loss"` and a share below 1, this is self-paced learning;
    with the two others, the ranking does not depend on the student. Samples
    that are as hard as the last one kept are kept, too. A sample of weight 0
    does not count. If the ranking needs labels, a sample without one (-1) is
    kept. The mean of the losses is weighted, so the kept samples share the
    weight of all. With several replicas (TensorFlow), each keeps the easiest
    samples of its own part of a batch.

    Args:
        share: the share of the batch to keep, above 0 and at most 1, or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later, logged as `<transfer>_share` if it changes.
        by: the measure of difficulty: `"teacher_entropy"`, `"teacher_loss"`
            (the teacher's cross-entropy with the labels) or `"student_loss"`.
        name: the rule's name.

    Raises:
        ValueError: `share` is out of its range, or `by` is not one of these.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 0.0], [9.0, 0.0], [3.0, 0.0], [1.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((4,)))
    >>> weight = EasiestFirst(0.5).apply(inputs).sample_weight
    >>> [float(each) for each in weight]
    [0.0, 1.0, 1.0, 0.0]

    Reference: Bengio et al., 2009, "Curriculum Learning", ICML 2009; Kumar,
    Packer and Koller, 2010, "Self-Paced Learning for Latent Variable Models",
    NeurIPS 2010 (`by="student_loss"`).
    """

    def __init__(self, share, *, by="teacher_entropy", name=None):
        super().__init__(name=name)
        ways = ("teacher_entropy", "teacher_loss", "student_loss")
        self.by = one_of(by, "by", ways)
        self.needs_labels = by != "teacher_entropy"
        self.needs_student = by == "student_loss"
        self._share = Hyperparameter(share, "share", positive=True)
        _check(share)

    @property
    def share(self):
        return self._share.variable

    @share.setter
    def share(self, value):
        self._share.assign(value)

    def apply(self, inputs):
        hardness, ranked = self._hardness(inputs)
        ranked = ops.logical_and(ranked, inputs.sample_weight > 0.0)
        last = _last_kept(hardness, ranked, ops.convert_to_tensor(self.share))
        dropped = ops.logical_and(ranked, hardness > last)
        weight = ops.where(dropped, 0.0, inputs.sample_weight)
        return inputs._replace(sample_weight=weight)

    def _hardness(self, inputs):
        if self.by == "teacher_entropy":
            hardness = normalized_entropy(inputs.teacher_logits)
            return hardness, ops.ones_like(hardness, dtype="bool")
        if self.by == "teacher_loss":
            return label_cross_entropy(inputs.teacher_logits, inputs.labels)
        logits = ops.stop_gradient(inputs.student_logits)
        return label_cross_entropy(logits, inputs.labels)

    def get_config(self):
        return {
            **super().get_config(),
            "share": self._share.config(),
            "by": self.by,
        }

    @classmethod
    def from_config(cls, config):
        share = keras.saving.deserialize_keras_object(config["share"])
        return cls(**{**config, "share": share})


def _last_kept(hardness, ranked, share):
    """The hardness of the hardest sample that is kept."""
    in_order = ops.sort(ops.where(ranked, hardness, float("inf")))
    samples = ops.sum(ops.cast(ranked, "float32"))
    # Slightly less: 0.3 * 50 is 15.000001 in float32, and would keep 16.
    kept = ops.ceil(ops.minimum(share, 1.0) * samples - 1e-3)
    return ops.take(in_order, ops.cast(ops.maximum(kept, 1.0), "int32") - 1)


def _check(share):
    if float(share(0) if callable(share) else share) > 1.0:
        raise ValueError(
            "Argument `share` must be a number above 0 and at most 1, or a "
            f"schedule that starts in that range. Received: share={share!r}."
        )
