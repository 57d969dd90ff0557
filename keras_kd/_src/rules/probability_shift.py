"""ProbabilityShift: give the true class the teacher's top probability."""

import keras
from keras import ops

from keras_kd._src.losses.true_class import true_class
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class ProbabilityShift(Rule):
    """Swaps the true class with a wrong top class: probability shift (PS).

    For a teacher with systematic errors, and labels that are better. The logits
    of all other classes stay, so that what the teacher knows of similarities
    between classes is kept. With noisy labels, the targets get the labels'
    errors. A sample without a label (-1) is not changed.

        teacher_logits[label], teacher_logits[best] = max, teacher_logits[label]

    Args:
        name: the rule's name.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> logits = ops.array([[3.0, 1.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, ops.ones((1,)), ops.array([1]))
    >>> [float(logit) for logit in ProbabilityShift().apply(inputs)[0][0]]
    [1.0, 3.0, 0.0]

    Reference: Wen et al., 2019, "Preparing Lessons: Improve Knowledge
    Distillation with Better Supervision", arXiv 1911.07471 (section 3.2).
    """

    needs_labels = True

    def apply(self, inputs):
        logits = inputs.teacher_logits
        is_target = true_class(inputs.labels, logits)
        classes = ops.arange(logits.shape[-1], dtype="int32")
        first = ops.cast(ops.argmax(logits, axis=-1), "int32")[:, None]
        best = ops.max(logits, axis=-1, keepdims=True)
        of_target = ops.sum(
            ops.where(is_target, logits, 0.0), axis=-1, keepdims=True
        )
        swapped = ops.where(ops.equal(classes, first), of_target, logits)
        swapped = ops.where(is_target, best, swapped)
        labeled = ops.any(is_target, axis=-1, keepdims=True)
        logits = ops.where(labeled, swapped, logits)
        return inputs._replace(teacher_logits=logits)
