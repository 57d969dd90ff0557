"""LiftTrueClass: raise the true class's logit above all others."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.losses.true_class import true_class
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class LiftTrueClass(Rule):
    """Lifts the true class's logit to `margin` above all others.

    Gentler than `ProbabilityShift`: the teacher's first choice keeps its
    logit, and the relation of the wrong classes to each other stays. Where the
    true class leads by the margin already, nothing changes; likewise for a
    sample without a label (-1).

        teacher_logits[label] = max(teacher_logits[label],
                                    max of the others + margin)

    Args:
        margin: by how much the true class leads at least, in logits.
        name: the rule's name.

    Raises:
        ValueError: `margin` is negative or no number.

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
        # Far below what any logit is, and finite.
        others = ops.where(is_target, -1e30, logits)
        others = ops.max(others, axis=-1, keepdims=True)
        lifted = ops.maximum(logits, others + self.margin)
        logits = ops.where(is_target, lifted, logits)
        return inputs._replace(teacher_logits=logits)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}
