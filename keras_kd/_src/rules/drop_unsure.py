"""DropUnsure: drop samples of low teacher confidence."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class DropUnsure(Rule):
    """Drops samples of low teacher confidence, or reduces their weight.

    For unlabeled images, especially if some belong to none of the classes, and
    for a teacher whose errors are mostly among its unsure predictions. Look at
    `audit` first: unsure predictions also hold much of what the student can
    learn from soft targets.

        weight = keep * weight   where max(softmax(teacher_logits)) < below

    Args:
        below: the confidence from which a sample has its full weight, in [0,
            1).
        keep: the share of its weight that an unsure sample keeps, in [0, 1).
        name: the rule's name.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 2.0], [0.1, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)))
    >>> kept = DropUnsure(below=0.8).apply(inputs).sample_weight
    >>> [float(weight) for weight in kept]
    [1.0, 0.0]

    Reference: the threshold on confidence is that of Sohn et al., 2020,
    "FixMatch", arXiv 2001.07685 (0.95 there).
    """

    def __init__(self, below=0.5, *, keep=0.0, name=None):
        super().__init__(name=name)
        self.below = number(below, "below", least=0.0, below=1.0)
        self.keep = number(keep, "keep", least=0.0, below=1.0)

    def apply(self, inputs):
        confidence = ops.max(ops.softmax(inputs.teacher_logits), axis=-1)
        kept = ops.where(confidence < self.below, self.keep, 1.0)
        return inputs._replace(sample_weight=inputs.sample_weight * kept)

    def get_config(self):
        return {**super().get_config(), "below": self.below, "keep": self.keep}
