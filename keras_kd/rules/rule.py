"""What a rule is: it looks at what a teacher says before it is taught."""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd.naming import snake_case


class Lesson(NamedTuple):
    """What is taught in one batch: a rule takes one and returns another.

    Attributes:
        teacher_logits: shape `(batch, classes)`.
        student_logits: shape `(batch, classes)`.
        sample_weight: how much each sample counts, shape `(batch,)`.
        labels: class numbers, shape `(batch,)`, -1 for none; or None.

    Example:
    >>> lesson = Lesson(ops.zeros((2, 3)), ops.zeros((2, 3)), ops.ones((2,)))
    >>> lesson.labels is None
    True
    """

    teacher_logits: Any
    student_logits: Any
    sample_weight: Any
    labels: Any = None


class Rule(keras.layers.Layer):
    """Base class of the rules: mends or weighs what a teacher says.

    Write one of your own by implementing `mend(lesson)`, which returns the
    lesson with another `teacher_logits` or `sample_weight`; it runs inside of
    the compiled step. A rule that reads the labels says `needs_labels = True`.

    Args:
        name: the rule's name; its class's in snake case by default.

    Example:
    >>> class Halve(Rule):
    ...     def mend(self, lesson):
    ...         return lesson._replace(sample_weight=lesson.sample_weight / 2)
    >>> lesson = Lesson(ops.zeros((2, 3)), ops.zeros((2, 3)), ops.ones((2,)))
    >>> float(Halve().mend(lesson).sample_weight[0])
    0.5
    """

    needs_labels = False

    def __init__(self, name=None):
        name = name or snake_case(type(self).__name__)
        super().__init__(name=name, dtype="float32", autocast=False)
        self.built = True

    def mend(self, lesson):
        return lesson

    def get_config(self):
        return {"name": self.name}


def mended(rules, lesson):
    """The lesson after all rules, one after another.

    Args:
        rules: list of `Rule`.
        lesson: a `Lesson` of which `sample_weight` may be None: all ones.

    Returns:
        A `Lesson`; without rules the same one.

    Raises:
        ValueError: a rule needs labels, and the batch has none; the views are
            not logits of one sample a row.

    Example:
    >>> lesson = Lesson(ops.zeros((2, 3)), ops.zeros((2, 3)), None)
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
        lesson = rule.mend(lesson)
    return lesson


def checked_rules(rules, loss):
    """The rules as a list, if they are rules and the loss compares logits.

    Raises:
        ValueError: they are not, or it does not.

    Example:
    >>> import keras_kd as kd
    >>> checked_rules([], kd.losses.FeatureMatching())
    []
    """
    rules = list(rules)
    odd = [rule for rule in rules if not isinstance(rule, Rule)]
    if odd:
        raise ValueError(
            "Argument `rules` must be a list of `keras_kd.rules`, such as "
            f"`[keras_kd.rules.DropWrong()]`. Received: {odd[0]!r}."
        )
    name = type(loss).__name__
    single = not getattr(loss, "joint", False)
    if rules and not (getattr(loss, "expects_logits", False) and single):
        raise ValueError(
            "Rules mend a teacher's logits. Received: rules for a transfer "
            f"with {name}, which does not compare logits. Give them to the "
            "transfer that does, such as that of `SoftTargets`."
        )
    if rules and not getattr(loss, "teacher_from_logits", True):
        raise ValueError(
            "Rules mend a teacher's logits. Received: rules for a transfer "
            f"with {name}(teacher_from_logits=False). Give the teacher without "
            "its softmax."
        )
    return rules
