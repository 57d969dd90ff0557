"""WeighByEntropy: weights by the entropy of the teacher's predictions."""

import keras

from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.rules.difficulty import normalized_entropy
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class WeighByEntropy(Rule):
    """Weights each sample by the teacher's entropy (ER-KD).

    What a teacher knows beyond the label is mostly in its unsure predictions,
    which get more weight by default. Favor the confident ones if unsure
    predictions are mostly wrong (look at the audit of `DropUnsure` first).

        p = softmax(teacher_logits / T)
        share = -sum_classes p * log p / log(classes), from 0 to 1
        weight = weight * share         with favor="unsure"
        weight = weight * (1 - share)   with favor="sure"

    The mean of the losses is weighted: only the proportions of the weights
    within a batch matter, and a batch of unsure samples has no more weight than
    another. The authors' code multiplies the loss by the entropy in nats: for
    that, use `SoftTargets(reduction="sum_over_batch_size")`, and multiply the
    transfer's weight by log(classes).

    Args:
        favor: `"unsure"` or `"sure"`.
        temperature: T of the entropy, positive; 4 in the authors' code. It need
            not be that of the loss.
        name: the rule's name.

    Raises:
        ValueError: `favor` is not one of these, or `temperature` is not
            positive.

    Example:
    >>> from keras import ops
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 0.0], [0.0, 60.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)))
    >>> weight = WeighByEntropy().apply(inputs).sample_weight
    >>> [round(float(each), 3) for each in weight]
    [1.0, 0.0]

    Reference: Su, Tseng and Lee, 2023, "Knowledge From the Dark Side:
    Entropy-Reweighted Knowledge Distillation for Balanced Knowledge
    Transfer", arXiv 2311.13621 (its first version).
    """

    def __init__(self, favor="unsure", *, temperature=4.0, name=None):
        super().__init__(name=name)
        self.favor = one_of(favor, "favor", ("unsure", "sure"))
        self.temperature = number(temperature, "temperature", least=1e-6)

    def apply(self, inputs):
        share = normalized_entropy(inputs.teacher_logits, self.temperature)
        if self.favor == "sure":
            share = 1.0 - share
        return inputs._replace(sample_weight=inputs.sample_weight * share)

    def get_config(self):
        return {
            **super().get_config(),
            "favor": self.favor,
            "temperature": self.temperature,
        }
