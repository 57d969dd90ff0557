"""WeighByLoss: weights by the student's loss relative to the teacher's."""

import keras
from keras import ops

from keras_kd._src.rules.difficulty import label_cross_entropy
from keras_kd._src.rules.rule import Rule

# Added to the teacher's cross-entropy, which may be 0, as by the authors.
_LEAST = 1e-7


@keras.saving.register_keras_serializable(package="keras_kd")
class WeighByLoss(Rule):
    """Weights samples by the student's loss over the teacher's (WSLD).

    Soft targets also keep a student from fitting the labels. Where the student
    fits a label better than the teacher does, the soft target is of little use,
    and the sample gets less weight; where it is much worse, the sample gets
    nearly its full weight.

        student = cross_entropy(student_logits, label), in nats
        teacher = cross_entropy(teacher_logits, label) + 1e-7
        weight = weight * (1 - exp(-student / teacher))

    No gradient flows through the weights. A sample without a label (-1) keeps
    its weight. As in the paper, use a loss that does not divide by the weights
    (the paper's weight is 2.5, beside labels of weight 1):

        Transfer(SoftTargets(2.0, reduction="sum_over_batch_size"),
                 rules=[WeighByLoss()], weight=2.5)

    The usual mean of the losses is weighted: only the proportions of the
    weights within a batch matter. Once most samples are learned, the few that
    are not then get the weight of all, and training may break down.

    Args:
        name: the rule's name.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> teacher = ops.array([[1.0, 0.0], [1.0, 0.0]])
    >>> student = ops.array([[1.0, 0.0], [9.0, 0.0]])
    >>> inputs = RuleInputs(teacher, student, ops.ones((2,)), ops.array([0, 0]))
    >>> weight = WeighByLoss().apply(inputs).sample_weight
    >>> [round(float(each), 3) for each in weight]
    [0.632, 0.0]

    Reference: Zhou et al., 2021, "Rethinking Soft Labels for Knowledge
    Distillation: A Bias-Variance Tradeoff Perspective", arXiv 2102.00650
    (weighted soft labels).
    """

    needs_labels = True
    needs_student = True

    def apply(self, inputs):
        logits = ops.stop_gradient(inputs.student_logits)
        student, labeled = label_cross_entropy(logits, inputs.labels)
        teacher, _ = label_cross_entropy(inputs.teacher_logits, inputs.labels)
        ratio = -ops.expm1(-student / (teacher + _LEAST))
        factor = ops.where(labeled, ratio, 1.0)
        return inputs._replace(sample_weight=inputs.sample_weight * factor)
