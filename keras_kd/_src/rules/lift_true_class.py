"""LiftTrueClass: raise the true class's logit above all others."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.true_class import true_class
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class LiftTrueClass(Rule):
    """Raises the true class's logit to `margin` above all others.

    For a teacher that confuses classes, with labels that are better. Gentler
    than `ProbabilityShift`: the teacher's top class keeps its logit, and the
    wrong classes keep their relations to each other. If the true class already
    leads by the margin, or a sample has no label (-1), nothing changes.

        teacher_logits[label] = max(teacher_logits[label],
                                    max of the others + margin)

    Args:
        margin: the smallest lead of the true class, in logits.
        name: the rule's name.

    Raises:
        ValueError: `margin` is negative or not a number.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[3.0, 1.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((1,)), ops.array([1]))
    >>> [float(logit) for logit in LiftTrueClass(0.5).apply(inputs)[0][0]]
    [3.0, 3.5, 0.0]

    Reference: after Wen et al., 2019, "Preparing Lessons: Improve Knowledge
    Distillation with Better Supervision", arXiv 1911.07471; the margin is
    this library's.
    """

    needs_labels = True

    def __init__(self, margin=0.0, name=None):
        super().__init__(name=name)
        self.margin = number(margin, "margin", least=0.0)

    def apply(self, inputs):
        logits = inputs.teacher_logits
        is_target = true_class(inputs.labels, logits)
        # Far below any logit, and finite.
        others = ops.where(is_target, -1e30, logits)
        others = ops.max(others, axis=-1, keepdims=True)
        lifted = ops.maximum(logits, others + self.margin)
        logits = ops.where(is_target, lifted, logits)
        return inputs._replace(teacher_logits=logits)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}
