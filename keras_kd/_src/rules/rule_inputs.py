"""RuleInputs, and applying the rules of a transfer to them in turn."""

from typing import Any
from typing import NamedTuple

from keras import ops

from keras_kd._src.losses.any_loss import call_loss
from keras_kd._src.losses.positions import broadcast_weights
from keras_kd._src.losses.true_class import class_numbers


class RuleInputs(NamedTuple):
    """The part of a batch that a rule gets, and returns changed.

    In the `apply` of a rule, `inputs._replace(sample_weight=...)` changes one
    entry and keeps the others. The loss is computed from the first three. If
    there is a prediction for each token or pixel, each counts as a sample:
    `batch` is the number of all of them, and masked ones have the weight 0.

    Attributes:
        teacher_logits: shape `(batch, classes)`.
        student_logits: shape `(batch, classes)`; None in an audit without
            them.
        sample_weight: the weight of each sample, shape `(batch,)`.
        labels: class numbers, shape `(batch,)`, -1 for none; or None.
        temperature: one for each sample, shape `(batch,)`, in place of the
            loss's own; or None.
        teacher_features: the teacher's activations at the rules' own taps: a
            dict from each tap to a tensor; or None.
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

    Use it to try your own rule on a few logits. The rule gets float32 logits of
    shape `(batch, classes)`, whatever the models' precision; of logits for
    tokens or pixels, `(batch, ..., classes)`, each counts as a sample. In a
    training step (`training=True`) each rule's `update_state` is called, too.

    Args:
        rules: list of rules, as for a `Transfer`.
        inputs: a `RuleInputs`; its `sample_weight` may be None, for weights of
            1.

    Returns:
        A `RuleInputs`, in the shapes that were given; without rules, `inputs`.

    Raises:
        ValueError: a rule needs labels, and the batch has none.

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
    given, inputs = inputs, _as_rows(rules, inputs)
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
    return _with_positions(inputs, given)


def loss_after_rules(loss, rules, inputs, mask, context):
    """The loss, a scalar, of a `RuleInputs` after applying the rules."""
    if rules and hasattr(loss, "as_logits"):
        logits = loss.as_logits(*inputs[:2])
        inputs = inputs._replace(
            teacher_logits=logits[0], student_logits=logits[1]
        )
        context = {**context, "are_logits": True}
    if rules and mask is not None:
        inputs = _masked(loss, inputs, mask)
    inputs = apply_rules(rules, inputs)
    if inputs.temperature is not None:
        context = {**context, "temperature": inputs.temperature}
    return call_loss(loss, *inputs[:3], mask, context)


def _masked(loss, inputs, mask):
    """The inputs, with weights of 0 at masked positions."""
    shape = ops.shape(inputs.teacher_logits)[:-1]
    weight = inputs.sample_weight
    weight = 1.0 if weight is None else broadcast_weights(weight, shape)
    present = loss.mask_at(inputs.student_logits, mask) > 0.0
    weight = ops.where(ops.broadcast_to(present, shape), weight, 0.0)
    return inputs._replace(sample_weight=weight)


def _as_rows(rules, inputs):
    """The inputs in float32, one row for each sample, token or pixel."""
    logits = ops.cast(inputs.teacher_logits, "float32")
    shape = ops.shape(logits)[:-1]
    weight = inputs.sample_weight
    weight = ops.ones(shape) if weight is None else weight
    inputs = inputs._replace(
        teacher_logits=logits, sample_weight=broadcast_weights(weight, shape)
    )
    if len(logits.shape) == 2:
        return inputs
    read = any(rule.needs_labels for rule in rules)
    labels = inputs.labels if read else None
    if labels is not None:
        labels = ops.broadcast_to(class_numbers(labels, logits), shape)
        labels = ops.reshape(labels, (-1,))
    student, features = inputs.student_logits, inputs.teacher_features or {}
    return inputs._replace(
        teacher_logits=_rows(logits),
        student_logits=student if student is None else _rows(student),
        sample_weight=ops.reshape(inputs.sample_weight, (-1,)),
        labels=labels,
        teacher_features={
            tap: _rows(each) if len(each.shape) == len(logits.shape) else each
            for tap, each in features.items()
        },
    )


def _rows(tensor):
    return ops.reshape(tensor, (-1, tensor.shape[-1]))


def _with_positions(inputs, given):
    """The result of the rules, in the shape of the original inputs."""
    if len(given.teacher_logits.shape) == 2:
        return inputs
    *shape, classes = ops.shape(given.teacher_logits)
    temperature = inputs.temperature
    if temperature is not None:
        temperature = ops.reshape(temperature, shape)
    return given._replace(
        teacher_logits=ops.reshape(inputs.teacher_logits, (*shape, classes)),
        sample_weight=ops.reshape(inputs.sample_weight, shape),
        temperature=temperature,
    )
