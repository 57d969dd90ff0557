"""DropUnusual: drop samples of unusually low teacher confidence."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.backend import of_all_replicas
from keras_kd._src.rules.rule import Rule

# How many samples of a class are needed before any of them is dropped.
_ENOUGH = 10.0
# The smallest deviation: a confident teacher's may be even smaller.
_LEAST_DEVIATION = 1e-4


@keras.saving.register_keras_serializable(package="keras_kd")
class DropUnusual(Rule):
    """Drops samples of unusually low teacher confidence (after SoftMatch).

    A fixed threshold (`DropUnsure`) drops most from the classes that are hard
    for the teacher. This rule keeps statistics, over training steps, of the
    teacher's confidence for each predicted class, and drops samples far below
    the usual: images unlike the training data, corrupted ones, many of its
    errors.

        confidence = max(softmax(teacher_logits))
        z = (mean - confidence) / standard deviation, of the predicted class
        weight = keep * weight                    where z > deviations
        weight = exp(-2 (z / deviations)^2) * weight, where z > 0, if soft

    The mean and the deviation are those of the batches before the current one;
    each batch counts `momentum` times as much as the next. As long as fewer
    than 10 samples of a class have been seen, none of that class is dropped.
    The statistics are saved; `evaluate` does not change them. In the audit all
    of the data is compared with its own mean and deviation.

    Soft weights are the published form (the paper's formula with
    `deviations=2.0`, the authors' code with 1.0). In this form the statistics
    are moving averages of each batch's mean and variance, starting at 1 /
    classes and 1. The mean of the losses is weighted, so only the proportions
    of the weights within a batch matter.

    Args:
        deviations: how many standard deviations below the mean count as
            unusual, positive.
        soft: whether weights decrease as a Gaussian, instead of dropping
            samples.
        keep: the share of its weight that a dropped sample keeps, in [0, 1).
        per_class: whether each class has its own statistics; False for common
            ones of all predictions.
        momentum: the share of the statistics that stays after a batch, in [0,
            1).
        name: the rule's name.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> usual = ops.array([[4.0, 0.0], [5.0, 0.0]] * 10)
    >>> rule = DropUnusual(deviations=2.0)
    >>> rule.build((None, 2))
    >>> rule.update_state(RuleInputs(usual, None, ops.ones((20,))))
    >>> logits = ops.array([[4.5, 0.0], [0.5, 0.0]])
    >>> inputs = rule.apply(RuleInputs(logits, None, ops.ones((2,))))
    >>> [float(weight) for weight in inputs.sample_weight]
    [1.0, 0.0]

    Reference: Chen et al., 2023, "SoftMatch: Addressing the Quantity-Quality
    Trade-off in Semi-supervised Learning", arXiv 2301.10921 (soft weights, for
    pseudo-labels; momentum 0.999 and one mean for all classes there).
    """

    def __init__(
        self,
        deviations=2.0,
        *,
        soft=False,
        keep=0.0,
        per_class=True,
        momentum=0.99,
        name=None,
    ):
        super().__init__(name=name)
        self.deviations = number(deviations, "deviations", least=1e-6)
        self.soft = soft
        self.keep = number(keep, "keep", least=0.0, below=1.0)
        self.per_class = per_class
        self.momentum = number(momentum, "momentum", least=0.0, below=1.0)

    def build(self, shape):
        groups = shape[-1] if self.per_class else 1
        self.count, self.mean, self.squares = (
            self.add_weight(
                shape=(groups,),
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name=name,
            )
            for name in ("count", "mean", "squares")
        )

    def apply(self, inputs):
        confidence, group = self._confidence(inputs.teacher_logits)
        count, mean, squares = (
            ops.take(ops.convert_to_tensor(part), group)
            for part in (self.count, self.mean, self.squares)
        )
        deviation = ops.sqrt(squares / ops.maximum(count, 1.0))
        below = mean - confidence
        z = ops.relu(below) / ops.maximum(deviation, _LEAST_DEVIATION)
        if self.soft:
            kept = ops.exp(-2.0 * ops.square(z / self.deviations))
        else:
            kept = ops.where(z > self.deviations, self.keep, 1.0)
        kept = ops.where(count < _ENOUGH, 1.0, kept)
        return inputs._replace(sample_weight=inputs.sample_weight * kept)

    def update_state(self, inputs):
        confidence, group = self._confidence(inputs.teacher_logits)
        present = ops.cast(inputs.sample_weight > 0.0, "float32")
        confidence, group, present = of_all_replicas(confidence, group, present)
        member = ops.one_hot(group, self.count.shape[0]) * present[:, None]
        count = ops.sum(member, axis=0)
        mean = ops.sum(member * confidence[:, None], axis=0)
        mean = mean / ops.maximum(count, 1.0)
        apart = member * ops.square(confidence[:, None] - mean)
        self._update(count, mean, ops.sum(apart, axis=0))

    def _update(self, count, mean, squares):
        """Merges a batch's count, mean and sum of squares with earlier ones."""
        # Squared deviations from the mean: confidences near 1 differ by less
        # than the rounding error of a mean of squares.
        earlier = self.momentum * self.count
        total = earlier + count
        apart = mean - self.mean
        share = count / ops.maximum(total, 1e-30)
        squares = squares + self.momentum * self.squares
        squares = squares + ops.square(apart) * earlier * share
        self.squares.assign(squares)
        self.mean.assign(self.mean + apart * share)
        self.count.assign(total)

    def _confidence(self, logits):
        confidence = ops.max(ops.softmax(logits, axis=-1), axis=-1)
        group = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return confidence, group if self.per_class else ops.zeros_like(group)

    def get_config(self):
        return {
            **super().get_config(),
            "deviations": self.deviations,
            "soft": self.soft,
            "keep": self.keep,
            "per_class": self.per_class,
            "momentum": self.momentum,
        }
