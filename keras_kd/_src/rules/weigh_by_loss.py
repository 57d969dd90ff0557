"""WeighByLoss: samples on which the student is behind count more."""

import keras
from keras import ops

from keras_kd._src.rules.difficulty import label_cross_entropy
from keras_kd._src.rules.rule import Rule

# Beside the teacher's cross-entropy, which may round to 0; the authors'.
_LEAST = 1e-7


@keras.saving.register_keras_serializable(package="keras_kd")
class WeighByLoss(Rule):
    """Weighs samples by the student's loss over the teacher's (WSLD).

    Soft targets also hold a student back from fitting the labels. Where it
    fits them better than the teacher does, it is held back for nothing, and
    the sample counts less; where it is behind, the sample counts in full.

        student = cross_entropy(student_logits, label), in nats
        teacher = cross_entropy(teacher_logits, label) + 1e-7
        weight = weight * (1 - exp(-student / teacher))

    The weights are no part of the gradient. A sample without a label (-1)
    keeps its weight. Give it to a loss that does not divide by the weights, as
    in the paper (there with 2.5 as the weight beside labels of weight 1):

        Transfer(SoftTargets(2.0, reduction="sum_over_batch_size"),
                 rules=[WeighByLoss()], weight=2.5)

    The losses' usual mean is weighted: only the weights' proportions within a
    batch count. Once most samples are learned, the few that are not then get
    the weight of all, and training may break down.

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
        student, labelled = label_cross_entropy(logits, inputs.labels)
        teacher, _ = label_cross_entropy(inputs.teacher_logits, inputs.labels)
        behind = -ops.expm1(-student / (teacher + _LEAST))
        factor = ops.where(labelled, behind, 1.0)
        return inputs._replace(sample_weight=inputs.sample_weight * factor)
