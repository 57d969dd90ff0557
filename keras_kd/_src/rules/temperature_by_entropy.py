"""TemperatureByEntropy: a temperature per sample, by teacher entropy."""

import keras

from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.rules.difficulty import normalized_entropy
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class TemperatureByEntropy(Rule):
    """Sets each sample's temperature by the teacher's entropy (after DTD).

    One temperature can't suit all predictions: a value that softens a confident
    one enough to show the other classes makes an unsure one nearly uniform. So
    by default confident predictions get the high temperature
    (`sharp="unsure"`), as in the paper, where confusing samples get sharp
    targets. With `sharp="sure"`, confident predictions stay sharp, and unsure
    ones become softer.

        p = softmax(teacher_logits)
        share = -sum_classes p * log p / log(classes), from 0 to 1
        T = high - (high - low) * share   with sharp="unsure"
        T = low + (high - low) * share    with sharp="sure"

    The loss uses T in place of its own temperature, on both sides and in the
    factor T^2, so that samples with a low T do not outweigh the others.

    Args:
        low: the lowest temperature, positive; usually 2 to 4.
        high: the highest temperature, at least `low`; usually 4 to 8.
        sharp: which predictions get the low temperature, `"unsure"` or
            `"sure"`.
        name: the rule's name.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> from keras import ops
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[0.0, 0.0], [0.0, 60.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)))
    >>> temperature = TemperatureByEntropy(2.0, 6.0).apply(inputs).temperature
    >>> [round(float(each), 3) for each in temperature]
    [2.0, 6.0]

    Reference: after Wen et al., 2019, "Preparing Lessons: Improve Knowledge
    Distillation with Better Supervision", arXiv 1911.07471 (dynamic
    temperatures); that the entropy sets them is this library's.
    """

    sets_temperature = True

    def __init__(self, low=2.0, high=6.0, *, sharp="unsure", name=None):
        super().__init__(name=name)
        self.low = number(low, "low", least=1e-6)
        self.high = number(high, "high", least=self.low)
        self.sharp = one_of(sharp, "sharp", ("unsure", "sure"))

    def apply(self, inputs):
        share = normalized_entropy(inputs.teacher_logits)
        if self.sharp == "unsure":
            share = 1.0 - share
        temperature = self.low + (self.high - self.low) * share
        return inputs._replace(temperature=temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "low": self.low,
            "high": self.high,
            "sharp": self.sharp,
        }
