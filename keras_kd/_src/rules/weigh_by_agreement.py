"""WeighByAgreement: samples on which several teachers agree count more."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.losses.distillation_loss import logits_of
from keras_kd._src.rules.difficulty import log_probabilities
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class WeighByAgreement(Rule):
    """Weights each sample by how far several teachers agree on it.

    Where the members of an ensemble agree, their mean is more often right;
    where they disagree, it is the prediction of none of them. The members'
    predictions are read in the teacher's forward pass, at no extra cost:

        teacher = keras_kd.teachers.Ensemble([first, second, third])
        rule = WeighByAgreement(["members/0", "members/1", "members/2"])

        p_k = softmax(logits_k), of n teachers;  m = mean_k p_k
        weight = weight * (1 - mean_k KL(p_k || m) / log n)   "divergence"
        weight = weight * share of the teachers with the most common top class
                                                              "votes"

    The mean divergence is the generalized Jensen-Shannon divergence. For full
    agreement both forms give 1; for none, "divergence" gives 0 and "votes" 1 /
    n. The mean of the losses is weighted, so only the proportions of the
    weights within a batch matter. The outputs at the taps must be logits or
    probabilities of the same classes in the same order: what a `Member` changes
    (its `classes`) is not applied there.

    Args:
        teachers: list of two or more taps of the teacher.
        by: `"divergence"` or `"votes"`.
        from_logits: False if the outputs at the taps are probabilities (of a
            softmax).
        name: the rule's name.

    Raises:
        ValueError: there are fewer than two different taps; `by` is neither of
            these; the outputs at the taps do not have the same classes.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> first, second = ops.array([[9.0, 0.0]] * 2), ops.array([[9.0, 0.0],
    ...                                                         [0.0, 9.0]])
    >>> inputs = RuleInputs(first, first, ops.ones((2,)),
    ...                 teacher_features={"a": first, "b": second})
    >>> rule = WeighByAgreement(["a", "b"], by="votes")
    >>> [float(weight) for weight in rule.apply(inputs).sample_weight]
    [1.0, 0.5]

    Reference: Lakshminarayanan, Pritzel and Blundell, 2017, "Simple and
    Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    arXiv 1612.01474 (this divergence as disagreement; the weights are this
    library's).
    """

    def __init__(
        self, teachers, *, by="divergence", from_logits=True, name=None
    ):
        super().__init__(name=name)
        texts = list(teachers) if isinstance(teachers, (list, tuple)) else []
        if len(set(texts)) < 2 or len(set(texts)) < len(texts):
            raise ValueError(
                "Argument `teachers` must be a list of two or more different "
                "taps, such as `['members/0', 'members/1']` of an `Ensemble`. "
                f"Received: teachers={teachers!r}."
            )
        self.teacher_taps = [Tap(text) for text in texts]
        self.by = one_of(by, "by", ("divergence", "votes"))
        self.from_logits = one_of(from_logits, "from_logits", (True, False))

    def check_shapes(self, shapes, logits_shape):
        ranks = {len(shape) for shape in (*shapes, logits_shape)}
        if len(ranks) > 1 or len(set(shapes)) > 1:
            texts = [tap.text for tap in self.teacher_taps]
            raise ValueError(
                "WeighByAgreement compares logits of the same classes, of "
                "shape (batch, classes) or (batch, ..., classes), like the "
                f"teacher's. Received: {shapes} at the taps {texts}, and "
                f"{logits_shape} of the teacher. Tap outputs of that shape."
            )

    def apply(self, inputs):
        logits = [inputs.teacher_features[t.text] for t in self.teacher_taps]
        if not self.from_logits:
            logits = [logits_of(each) for each in logits]
        log_p = ops.stack([log_probabilities(each) for each in logits], axis=1)
        agreement = _no_divergence if self.by == "divergence" else _votes
        weight = inputs.sample_weight * agreement(log_p)
        return inputs._replace(sample_weight=weight)

    def get_config(self):
        return {
            **super().get_config(),
            "teachers": [tap.text for tap in self.teacher_taps],
            "by": self.by,
            "from_logits": self.from_logits,
        }


def _no_divergence(log_p):
    teachers = log_p.shape[1]
    log_mean = ops.logsumexp(log_p, axis=1) - math.log(teachers)
    difference = log_p - ops.expand_dims(log_mean, axis=1)
    divergence = ops.mean(
        ops.sum(ops.exp(log_p) * difference, axis=-1), axis=-1
    )
    # Rounding may give slightly more or less.
    return ops.clip(1.0 - divergence / math.log(teachers), 0.0, 1.0)


def _votes(log_p):
    choices = ops.one_hot(ops.argmax(log_p, axis=-1), log_p.shape[-1])
    return ops.max(ops.mean(choices, axis=1), axis=-1)
