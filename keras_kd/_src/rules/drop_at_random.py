"""DropAtRandom: drop a teacher from random batches."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class DropAtRandom(Rule):
    """Leaves a transfer out of some batches, at random (stochastic DGKD).

    For a student of several teachers, or of a teacher and its assistants, with
    one transfer for each. As with dropout, the student can't rely on any one of
    them. Give each transfer its own rule:

        Transfer(SoftTargets(5.0), teacher="members/0",
                 rules=[DropAtRandom(0.25, seed=0)], name="assistant")

        weight = 0        for all samples of the batch, with probability rate
        weight = weight   otherwise

    One draw decides for the whole batch; if it is dropped, the term is 0. Only
    training steps draw: in `evaluate` and in the audit nothing is dropped. As
    in the authors' code, the remaining terms are not scaled up. That code drops
    one of n teachers in each batch (`--drop-num 1`), so that n - 1 always stay.
    Here each transfer draws independently, and now and then all are dropped; a
    rate of 1 / n drops the same number on average.

    Args:
        rate: the probability that a batch is dropped, in [0, 1).
        seed: an integer, for the draws; None for a random one. The generator's
            state is saved, and a resumed run continues with it.
        name: the rule's name.

    Raises:
        ValueError: `rate` is not at least 0 and less than 1.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.zeros((2, 3))
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)), training=True)
    >>> rule = DropAtRandom(0.5, seed=1)
    >>> drawn = [rule.apply(inputs).sample_weight for _ in range(20)]
    >>> sorted({float(weight[0]) for weight in drawn})
    [0.0, 1.0]

    Reference: Son et al., 2021, "Densely Guided Knowledge Distillation Using
    Multiple Teacher Assistants", arXiv 2009.08825 (stochastic DGKD).
    """

    def __init__(self, rate=0.5, seed=None, name=None):
        super().__init__(name=name)
        self.rate = number(rate, "rate", least=0.0, below=1.0)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def apply(self, inputs):
        if not inputs.training:
            return inputs
        drawn = keras.random.uniform((), dtype="float32", seed=self.draws)
        kept = ops.cast(drawn >= self.rate, "float32")
        return inputs._replace(sample_weight=inputs.sample_weight * kept)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
