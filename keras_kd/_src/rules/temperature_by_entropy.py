"""A temperature for each sample, by how sure the teacher is."""

import keras

from keras_kd._src.losses.true_class import number_of
from keras_kd._src.rules.difficulty import relative_entropy_of
from keras_kd._src.rules.rule import Rule
from keras_kd._src.rules.rule import one_of


@keras.saving.register_keras_serializable(package="keras_kd")
class TemperatureByEntropy(Rule):
    """Sets each sample's temperature between two, by the teacher's entropy.

    One temperature can't suit all answers: what softens a sure answer enough
    to show the other classes flattens an unsure one. By default the sure
    answers are therefore taught at the high temperature (`sharp="unsure"`),
    as in the paper, where confusing samples are taught sharply. The other way
    round, what is sure is taught as it is, and what is unsure as a hint.

        p = softmax(teacher_logits)
        share = -sum_classes p * log p / log(classes), from 0 to 1
        T = high - (high - low) * share   with sharp="unsure"
        T = low + (high - low) * share    with sharp="sure"

    The loss takes T in the place of its own temperature, on both sides, with
    its T^2, so that samples of a low T do not outweigh the others.

    Args:
        low: of the sharp end, positive; 2 to 4 are usual.
        high: of the soft end, `low` or more; 4 to 8 are usual.
        sharp: which answers get the low temperature, `"unsure"` or `"sure"`.
        name: the rule's name.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> from keras import ops
    >>> from keras_kd._src.rules.rule_inputs import RuleInputs
    >>> logits = ops.array([[0.0, 0.0], [0.0, 60.0]])
    >>> lesson = RuleInputs(logits, logits, ops.ones((2,)))
    >>> told = TemperatureByEntropy(2.0, 6.0).mend(lesson).temperature
    >>> [round(float(each), 3) for each in told]
    [2.0, 6.0]

    Reference: after Wen et al., 2019, "Preparing Lessons: Improve Knowledge
    Distillation with Better Supervision", arXiv 1911.07471 (dynamic
    temperatures); that the entropy sets them is this library's.
    """

    sets_temperature = True

    def __init__(self, low=2.0, high=6.0, *, sharp="unsure", name=None):
        super().__init__(name=name)
        self.low = number_of(low, "low", 1e-6)
        self.high = number_of(high, "high", self.low)
        self.sharp = one_of(("unsure", "sure"), sharp, "sharp")

    def mend(self, lesson):
        share = relative_entropy_of(lesson.teacher_logits)
        if self.sharp == "unsure":
            share = 1.0 - share
        temperature = self.low + (self.high - self.low) * share
        return lesson._replace(temperature=temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "low": self.low,
            "high": self.high,
            "sharp": self.sharp,
        }
