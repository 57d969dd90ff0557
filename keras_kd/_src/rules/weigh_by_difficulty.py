"""WeighByDifficulty: more weight for samples that are not learned yet."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.rules.difficulty import label_cross_entropy
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class WeighByDifficulty(Rule):
    """Weights samples by the student's error: the factor of the focal loss.

    Most samples are learned soon, and their losses then dominate those of the
    few hard ones. Not for noisy labels: wrong ones are the hardest.

        p = the student's probability of the true class, at temperature 1
        weight = weight * (1 - p)^gamma

    No gradient flows through the weights. A sample without a label (-1) keeps
    its weight. As in the paper, use a loss that does not divide by the weights,
    such as `SoftTargets(reduction="sum_over_batch_size")`. The usual mean of
    the losses is weighted: only the proportions of the weights within a batch
    matter. Once most samples are learned, the few that are not then get the
    weight of all, and training breaks down. Even so it may be worse than equal
    weights, as it also removes the soft targets of samples that are learned.

    Args:
        gamma: the exponent, 0 or more; 2 in the paper. 0 changes no weights.
        name: the rule's name.

    Raises:
        ValueError: `gamma` is negative or not a number.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 0.0], [9.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)), ops.array([0, 0]))
    >>> weight = WeighByDifficulty(2.0).apply(inputs).sample_weight
    >>> [round(float(each), 3) for each in weight]
    [0.25, 0.0]

    Reference: Lin et al., 2017, "Focal Loss for Dense Object Detection",
    arXiv 1708.02002 (its factor; there it weighs the cross-entropy).
    """

    needs_labels = True
    needs_student = True

    def __init__(self, gamma=2.0, name=None):
        super().__init__(name=name)
        self.gamma = number(gamma, "gamma", least=0.0)

    def apply(self, inputs):
        logits = ops.stop_gradient(inputs.student_logits)
        loss, labeled = label_cross_entropy(logits, inputs.labels)
        # 1 - p = 1 - exp(-loss), precise also where p is almost 1.
        factor = ops.power(-ops.expm1(-loss), self.gamma)
        factor = ops.where(labeled, factor, 1.0)
        return inputs._replace(sample_weight=inputs.sample_weight * factor)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
