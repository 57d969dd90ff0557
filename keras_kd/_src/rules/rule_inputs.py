"""RuleInputs, and how the rules of a transfer change them one by one."""

from typing import Any
from typing import NamedTuple

from keras import ops


class RuleInputs(NamedTuple):
    """What a rule gets of one batch, and returns changed.

    Write `inputs._replace(sample_weight=...)` in the `apply` of a rule to
    change one part and leave the others. The first three are what the loss is
    computed of.

    Attributes:
        teacher_logits: shape `(batch, classes)`.
        student_logits: shape `(batch, classes)`; None in an audit without
            them.
        sample_weight: how much each sample counts, shape `(batch,)`.
        labels: class numbers, shape `(batch,)`, -1 for none; or None.
        temperature: one for each sample, shape `(batch,)`, in the place of
            the loss's own; or None.
        teacher_features: the teacher's activations at the rules' own taps:
            dict, tap text -> tensor; or None.
        training: whether this is a training step.

    Example:
    >>> logits = ops.zeros((2, 3))
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)))
    >>> inputs.labels is None, inputs.training
    (True, False)
    """

    teacher_logits: Any
    student_logits: Any
    sample_weight: Any
    labels: Any = None
    temperature: Any = None
    teacher_features: Any = None
    training: bool = False


def apply_rules(rules, inputs):
    """Applies rules one after another, as a transfer does in each step.

    To try a rule of your own on a few logits: it gets float32 logits and
    weights of one axis, whatever the models' precision. In a training step
    (`training=True`) each rule's `update_state` is called, too.

    Args:
        rules: list of rules, as for a `Transfer`.
        inputs: a `RuleInputs`; its `sample_weight` may be None, for ones.

    Returns:
        A `RuleInputs`; without rules the same one.

    Raises:
        ValueError: a rule needs labels, and the batch has none; the logits are
            not of shape `(batch, classes)`.

    Example:
    >>> import keras_kd as kd
    >>> logits = ops.array([[0.0, 2.0], [2.0, 0.0]])
    >>> inputs = RuleInputs(logits, logits, None, labels=ops.array([1, 1]))
    >>> inputs = apply_rules([kd.rules.DropWrong(keep=0.5)], inputs)
    >>> [float(weight) for weight in inputs.sample_weight]
    [1.0, 0.5]
    """
    if not rules:
        return inputs
    inputs = _in_full_precision(inputs)
    for rule in rules:
        if rule.needs_labels and inputs.labels is None:
            raise ValueError(
                f"Rule {type(rule).__name__} compares the teacher with the "
                "labels. Received: a batch without labels. Train on data that "
                "has them (-1 for a sample that has none)."
            )
        before, inputs = inputs, rule.apply(inputs)
        if inputs.training:
            rule.update_state(before)
    return inputs


def loss_after_rules(loss, rules, inputs, context):
    """The loss, a scalar, of a `RuleInputs` after the rules."""
    inputs = apply_rules(rules, inputs)
    if inputs.temperature is not None:
        context = {**context, "temperature": inputs.temperature}
    return loss(*inputs[:3], **context)


def _in_full_precision(inputs):
    logits, weight = inputs.teacher_logits, inputs.sample_weight
    if len(logits.shape) != 2:
        raise ValueError(
            "Rules work on logits of shape (batch, classes). Received: "
            f"teacher logits of shape {tuple(logits.shape)}. Give the rules to "
            "the transfer of the teacher's logits."
        )
    if weight is None:
        weight = ops.ones((ops.shape(logits)[0],))
    return inputs._replace(
        sample_weight=ops.reshape(ops.cast(weight, "float32"), (-1,)),
        teacher_logits=ops.cast(logits, "float32"),
    )
