"""audit: shows which samples rules change, before training."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.losses.distillation_loss import logits_of
from keras_kd._src.rules.rule_inputs import RuleInputs
from keras_kd._src.rules.rule_inputs import apply_rules


class Touched(NamedTuple):
    """The samples that one rule changed, and their number in each class.

    An entry of an `Audit`; look at `samples` to see what a rule drops.

    Attributes:
        rule: the rule's name.
        samples: sample indices, in order.
        of_class: how many in each class, shape `(classes,)`; by the label, or
            by the teacher's top class for samples without one.

    Example:
    >>> Touched("drop_wrong", np.array([3, 7]), np.array([1, 1])).rule
    'drop_wrong'
    """

    rule: str
    samples: np.ndarray
    of_class: np.ndarray


class Audit(list):
    """A list of `Touched`, one for each rule; prints as a table.

    Args:
        touched: the `Touched`, in the rules' order.
        samples: the number of all samples.

    Example:
    >>> touched = Touched("drop_wrong", np.array([3, 7]), np.array([2, 0]))
    >>> print(Audit([touched], samples=10))
    rule                   samples  share  by class
    drop_wrong                   2  20.0%  2 0
    """

    def __init__(self, touched, samples):
        super().__init__(touched)
        self.samples = samples

    def __str__(self):
        lines = [f"{'rule':22} {'samples':>7}  share  by class"]
        for rule, samples, of_class in self:
            share = len(samples) / max(self.samples, 1)
            counts = " ".join(map(str, of_class))
            lines.append(f"{rule:22} {len(samples):7} {share:6.1%}  {counts}")
        return "\n".join(lines)


def audit(
    rules,
    teacher_logits,
    labels=None,
    *,
    student_logits=None,
    teacher_features=None,
    teacher_from_logits=True,
    student_from_logits=True,
):
    """Shows which samples rules would change, before anything is trained.

    Use it before training with rules: if a rule changes half of the data, or
    mostly one class, it does not do what was intended. Each rule gets the
    results of the rules before it, and all of the data as one batch. As this is
    not a training step, `DropAtRandom` changes nothing; `DropUnusual` compares
    all of the data with its own mean and deviation. The rules' variables do not
    change, but rules are built if they were not.

    Args:
        rules: list of rules, as for a `Transfer`.
        teacher_logits: the teacher's predictions for all of the data, in order
            (`teacher.predict(x)`), shape `(samples, classes)`. In predictions
            for tokens or pixels, `(samples, ..., classes)`, each counts as a
            sample.
        labels: class numbers, shape `(samples,)`, -1 for none; for tokens or
            pixels, `(samples, ...)`.
        student_logits: the student's predictions, for rules that read them.
        teacher_features: for rules with their own taps: a dict from each tap to
            the teacher's activations there, such as
            `{"members/0": first.predict(x)}`.
        teacher_from_logits: False if the teacher predicts probabilities.
        student_from_logits: likewise for the student.

    Returns:
        An `Audit`: for each rule, the samples whose weight, logits or
        temperature it changed, and their number in each class.

    Raises:
        ValueError: a rule needs labels, the student's logits or features that
            are not given.

    Example:
    >>> import keras_kd as kd
    >>> logits = np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    >>> report = audit([kd.rules.DropWrong()], logits, labels=[1, 1, 0])
    >>> report[0].samples.tolist(), report[0].of_class.tolist()
    ([1, 2], [1, 1])
    """
    logits = _rows(np.asarray(teacher_logits, "float32"))
    classes = logits.argmax(axis=-1)
    if labels is not None:
        labels = np.asarray(labels).reshape(-1).astype("int32")
        classes = np.where(labels < 0, classes, labels)
    features = teacher_features or {}
    inputs = RuleInputs(
        _logits(logits, teacher_from_logits),
        _logits(_rows(student_logits), student_from_logits),
        ops.ones((len(logits),)),
        _tensor(labels),
        teacher_features={
            tap: _tensor(_rows(each)) for tap, each in features.items()
        },
    )
    found = []
    for rule in rules:
        _check(rule, inputs)
        before, inputs = inputs, _tried(rule, inputs)
        samples = np.flatnonzero(_changed(before, inputs))
        of_class = np.bincount(classes[samples], minlength=logits.shape[-1])
        found.append(Touched(rule.name, samples, of_class))
    return Audit(found, len(logits))


def _rows(array):
    return array if array is None else np.reshape(array, (-1, array.shape[-1]))


def _tensor(array):
    return array if array is None else ops.convert_to_tensor(array)


def _logits(array, from_logits):
    tensor = _tensor(array)
    return tensor if tensor is None or from_logits else logits_of(tensor)


def _check(rule, inputs):
    name = type(rule).__name__
    if rule.needs_student and inputs.student_logits is None:
        raise ValueError(
            f"Rule {name} reads the student's logits. Received: an audit "
            "without them. Pass `student_logits=student.predict(x)`."
        )
    known = inputs.teacher_features
    missing = [t.text for t in rule.teacher_taps if t.text not in known]
    if missing:
        raise ValueError(
            f"Rule {name} reads the teacher at its own taps. Received: an "
            f"audit without {missing}. Pass `teacher_features=`, a dict from "
            "each tap to the teacher's activations there."
        )


def _tried(rule, inputs):
    if not rule.built:
        rule.build(tuple(inputs.teacher_logits.shape))
    # The scope discards what a rule writes to its variables.
    with keras.StatelessScope():
        rule.update_state(inputs)
        return apply_rules([rule], inputs)


def _changed(before, after):
    pairs = [
        (before.teacher_logits, after.teacher_logits),
        (before.sample_weight[:, None], after.sample_weight[:, None]),
    ]
    changed = [
        np.any(ops.convert_to_numpy(a) != ops.convert_to_numpy(b), axis=-1)
        for a, b in pairs
    ]
    if after.temperature is not before.temperature:
        changed.append(np.ones(len(changed[0]), bool))
    return np.any(changed, axis=0)
