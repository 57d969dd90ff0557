"""ClipTail: remove classes with low teacher probabilities from targets."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class ClipTail(Rule):
    """Removes classes with low probabilities from the teacher's targets.

    The tail of a teacher's distribution is mostly noise, and a high temperature
    amplifies it. The logits of the other classes stay, so that they share the
    tail's probability in proportion.

        teacher_logits = -1e4   where softmax(teacher_logits) < below

    The top class always stays. The threshold applies to the probabilities at
    temperature 1, whatever the temperature of the loss.

    Args:
        below: the probability below which a class is removed, in [0, 1).
        name: the rule's name.

    Raises:
        ValueError: `below` is not in that range.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[4.0, 3.0, -4.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((1,)))
    >>> [float(logit) for logit in ClipTail(0.01).apply(inputs)[0][0]]
    [4.0, 3.0, -10000.0]

    Reference: after Holtzman et al., 2019, "The Curious Case of Neural Text
    Degeneration", arXiv 1904.09751 (nucleus sampling; here the cut is at a
    probability instead of a cumulative probability).
    """

    def __init__(self, below=1e-3, name=None):
        super().__init__(name=name)
        self.below = number(below, "below", least=0.0, below=1.0)

    def apply(self, inputs):
        logits = inputs.teacher_logits
        tail = ops.softmax(logits, axis=-1) < self.below
        best = ops.max(logits, axis=-1, keepdims=True)
        tail = ops.logical_and(tail, logits < best)
        return inputs._replace(teacher_logits=ops.where(tail, -1e4, logits))

    def get_config(self):
        return {**super().get_config(), "below": self.below}
