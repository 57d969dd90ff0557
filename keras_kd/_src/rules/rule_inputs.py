"""What is taught in one batch, and how rules change it on its way."""

from typing import Any
from typing import NamedTuple

from keras import ops


class RuleInputs(NamedTuple):
    """What is taught in one batch: a rule takes one and returns another.

    Attributes:
        teacher_logits: shape `(batch, classes)`.
        student_logits: shape `(batch, classes)`.
        sample_weight: how much each sample counts, shape `(batch,)`.
        labels: class numbers, shape `(batch,)`, -1 for none; or None.
        temperature: one for each sample, shape `(batch,)`, in the place of
            the loss's own; or None.
        teacher_features: what the teacher says at the rules' own taps: dict, tap
            text -> value; or None.
        training: whether this is a training step.

    Example:
    >>> lesson = RuleInputs(ops.zeros((2, 3)), ops.zeros((2, 3)), ops.ones((2,)))
    >>> lesson.labels is None, lesson.training
    (True, False)
    """

    teacher_logits: Any
    student_logits: Any
    sample_weight: Any
    labels: Any = None
    temperature: Any = None
    teacher_features: Any = None
    training: bool = False


def mended(rules, lesson):
    """The lesson after all rules, one after another.

    Args:
        rules: list of `Rule`.
        lesson: a `RuleInputs` of which `sample_weight` may be None: all ones.

    Returns:
        A `RuleInputs`; without rules the same one.

    Raises:
        ValueError: a rule needs labels, and the batch has none; the views are
            not logits of one sample a row.

    Example:
    >>> lesson = RuleInputs(ops.zeros((2, 3)), ops.zeros((2, 3)), None)
    >>> mended([], lesson) is lesson
    True
    """
    if not rules:
        return lesson
    if len(lesson.teacher_logits.shape) != 2:
        raise ValueError(
            "Rules mend logits of shape (batch, classes). Received: a view of "
            f"the teacher of shape {tuple(lesson.teacher_logits.shape)}. Give "
            "the rules to the transfer of the teacher's logits."
        )
    weight = lesson.sample_weight
    if weight is None:
        weight = ops.ones((ops.shape(lesson.teacher_logits)[0],))
    lesson = lesson._replace(
        sample_weight=ops.reshape(ops.cast(weight, "float32"), (-1,)),
        teacher_logits=ops.cast(lesson.teacher_logits, "float32"),
    )
    for rule in rules:
        if rule.needs_labels and lesson.labels is None:
            raise ValueError(
                f"Rule {type(rule).__name__} compares the teacher with the "
                "labels. Received: a batch without labels. Train on data that "
                "has them (-1 for a sample that has none)."
            )
        before, lesson = lesson, rule.mend(lesson)
        if lesson.training:
            rule.observe(before)
    return lesson


def loss_after_rules(loss, rules, lesson, context):
    """The loss of a lesson, after the rules.

    Args:
        loss: a loss of `keras_kd.losses`.
        rules: list of `Rule`.
        lesson: a `RuleInputs`.
        context: what the loss takes by keyword, such as `labels`.

    Returns:
        The loss, a scalar.

    Example:
    >>> import keras_kd as kd
    >>> lesson = RuleInputs(ops.array([[2.0, 0.0]]), ops.zeros((1, 2)), None)
    >>> round(float(loss_after_rules(kd.losses.SoftTargets(2.0), [], lesson, {})), 4)
    0.4438
    """
    lesson = mended(rules, lesson)
    if lesson.temperature is not None:
        context = {**context, "temperature": lesson.temperature}
    return loss(*lesson[:3], **context)
