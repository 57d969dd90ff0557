"""DropWrong: drop samples on which the teacher is wrong."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.true_class import true_class
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class DropWrong(Rule):
    """Drops samples on which the teacher is wrong, or reduces their weight.

    For a teacher that is partly wrong, with labels that are mostly right. With
    noisy labels it drops good targets, too: `DropUnsure` or a correction is
    safer there. A sample without a label (-1) keeps its weight.

        weight = keep * weight   where argmax(teacher_logits) != label

    Args:
        keep: the share of its weight that such a sample keeps, in [0, 1).
        name: the rule's name.

    Raises:
        ValueError: `keep` is not in that range.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 2.0], [2.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)), ops.array([1, 1]))
    >>> [float(weight) for weight in DropWrong().apply(inputs).sample_weight]
    [1.0, 0.0]

    Reference: Meng et al., 2019, "Conditional Teacher-Student Learning",
    arXiv 1904.12399 (the teacher counts where it is right).
    """

    needs_labels = True

    def __init__(self, keep=0.0, name=None):
        super().__init__(name=name)
        self.keep = number(keep, "keep", least=0.0, below=1.0)

    def apply(self, inputs):
        is_target = true_class(inputs.labels, inputs.teacher_logits)
        best = ops.max(inputs.teacher_logits, axis=-1, keepdims=True)
        # If the true class is one of two equally likely ones, it is no error.
        right = ops.any(
            ops.logical_and(is_target, inputs.teacher_logits >= best), axis=-1
        )
        unlabeled = ops.logical_not(ops.any(is_target, axis=-1))
        kept = ops.where(ops.logical_or(right, unlabeled), 1.0, self.keep)
        return inputs._replace(sample_weight=inputs.sample_weight * kept)

    def get_config(self):
        return {**super().get_config(), "keep": self.keep}
