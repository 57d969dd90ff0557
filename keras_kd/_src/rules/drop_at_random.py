"""DropAtRandom: leave a teacher out of some batches, at random."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class DropAtRandom(Rule):
    """Leaves a transfer out of some batches, at random (stochastic DGKD).

    For a student of several teachers, or of a teacher and its assistants, one
    transfer each: it can't lean on any one of them, as units in dropout can't
    lean on each other. Give each transfer a rule of its own:

        Transfer(SoftTargets(5.0), teacher="members/0",
                 rules=[DropAtRandom(0.25, seed=0)], name="assistant")

        weight = 0        for all samples of the batch, with probability rate
        weight = weight   otherwise

    One draw decides for a whole batch; the term is then 0. Only training
    steps draw: in `evaluate` and in the audit nothing is dropped. What is left
    is not scaled up, as in the authors' code. That code leaves out one of n
    teachers in each batch (`--drop-num 1`), so that n - 1 always stay; here
    each transfer draws for itself, and now and then all are left out. The
    rate that drops as many is 1 / n.

    Args:
        rate: the probability of being left out, 0 to 1.
        seed: of the draws, an integer; None draws one. The generator's state
            is saved, and a resumed run goes on with it.
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
