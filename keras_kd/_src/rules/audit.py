"""Which samples the rules touch, before anything is trained."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.rules.rule_inputs import RuleInputs
from keras_kd._src.rules.rule_inputs import mended


class Touched(NamedTuple):
    """What one rule did: to which samples, and how many of each class.

    Attributes:
        rule: the rule's name.
        samples: the places of the samples in the data, in order.
        of_class: how many of each class; by label, or where there is none by
            the teacher's first choice, shape `(classes,)`.

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
        samples: how many samples there are.

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
    rules, teacher_logits, labels=None, *, student_logits=None, views=None
):
    """Tries the rules on a teacher's answers: what would each one touch?

    Look before you drop: a rule that touches half of the data, or mostly one
    class, teaches something else than it was meant to. Each rule sees what
    those before it left, and all of the data as one batch. Nothing is trained:
    `DropAtRandom` touches nothing, and `DropUnusual` judges all of the data by
    its own mean and deviation. The rules are left as they were, but built.

    Args:
        rules: list of rules, as for a `Transfer`.
        teacher_logits: the teacher's answers to all of the data, in order
            (`teacher.predict(x)`), shape `(samples, classes)`.
        labels: class numbers, shape `(samples,)`, -1 for none.
        student_logits: the student's answers likewise, for rules that read
            them.
        views: for rules with taps of their own, dict, tap text -> what the
            teacher says there, such as `{"members/0": first.predict(x)}`.

    Returns:
        An `Audit`: for each rule which samples it touched, that is whose
        weight, logits or temperature it changed, and how many of each class.

    Raises:
        ValueError: a rule needs labels, the student's logits or views, and
            there are none.

    Example:
    >>> from keras_kd._src.rules.drop_wrong import DropWrong
    >>> logits = np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    >>> report = audit([DropWrong()], logits, labels=[1, 1, 0])
    >>> report[0].samples.tolist(), report[0].of_class.tolist()
    ([1, 2], [1, 1])
    """
    logits = np.asarray(teacher_logits, "float32")
    classes = logits.argmax(axis=-1)
    if labels is not None:
        labels = np.asarray(labels).reshape(-1).astype("int32")
        classes = np.where(labels < 0, classes, labels)
    lesson = _lesson(logits, labels, student_logits, views or {})
    found = []
    for rule in rules:
        _check(rule, lesson)
        before, lesson = lesson, _tried(rule, lesson)
        samples = np.flatnonzero(_changed(before, lesson))
        of_class = np.bincount(classes[samples], minlength=logits.shape[-1])
        found.append(Touched(rule.name, samples, of_class))
    return Audit(found, len(logits))


def _lesson(logits, labels, student_logits, views):
    return RuleInputs(
        ops.convert_to_tensor(logits),
        _tensor(student_logits),
        ops.ones((len(logits),)),
        _tensor(labels),
        teacher_features={text: _tensor(view) for text, view in views.items()},
    )


def _tensor(array):
    return array if array is None else ops.convert_to_tensor(array)


def _check(rule, lesson):
    name = type(rule).__name__
    if rule.needs_student and lesson.student_logits is None:
        raise ValueError(
            f"Rule {name} reads the student's logits. Received: an audit "
            "without them. Pass `student_logits=student.predict(x)`."
        )
    known = lesson.teacher_features
    missing = [t.text for t in rule.teacher_taps if t.text not in known]
    if missing:
        raise ValueError(
            f"Rule {name} reads the teacher at taps of its own. Received: an "
            f"audit without {missing}. Pass `views=`, a dict from each tap to "
            "what the teacher says there."
        )


def _tried(rule, lesson):
    if not rule.built:
        rule.build(tuple(lesson.teacher_logits.shape))
    # The scope drops what a rule remembers.
    with keras.StatelessScope():
        rule.observe(lesson)
        return mended([rule], lesson)


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
