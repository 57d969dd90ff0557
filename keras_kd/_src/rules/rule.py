"""What a rule is: it looks at what a teacher says before it is taught."""

import keras

from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.keras_compat import sublayers
from keras_kd._src.naming import snake_case


class Rule(keras.layers.Layer):
    """Base class of the rules: mends or weighs what a teacher says.

    Write one of your own by implementing `mend(lesson)`, which returns the
    lesson with another `teacher_logits`, `sample_weight` or `temperature`; it
    runs inside of the compiled step. Where it needs more:

    - a rule that reads the labels says `needs_labels = True`, one that reads
      the student's logits `needs_student = True`, one that sets the
      temperature `sets_temperature = True`;
    - `observe(lesson)` is called in training steps, after `mend`, with the
      lesson as it came: for what a rule remembers of the batches, in variables;
    - variables whose shape depends on the number of classes are made in
      `build(shape)`, which is given the teacher's, `(None, classes)`;
    - `teacher_taps` lists taps of the teacher that are read in the same pass;
      their values are in `lesson.teacher_features`;
    - a `Hyperparameter` that it keeps as an attribute may move while training.

    Args:
        name: the rule's name; its class's in snake case by default.

    Example:
    >>> from keras_kd._src.rules.rule_inputs import RuleInputs
    >>> from keras import ops
    >>> class Halve(Rule):
    ...     def mend(self, lesson):
    ...         return lesson._replace(sample_weight=lesson.sample_weight / 2)
    >>> lesson = RuleInputs(ops.zeros((2, 3)), ops.zeros((2, 3)), ops.ones((2,)))
    >>> float(Halve().mend(lesson).sample_weight[0])
    0.5
    """

    needs_labels = False
    needs_student = False
    sets_temperature = False
    teacher_taps = ()

    def __init__(self, name=None):
        name = name or snake_case(type(self).__name__)
        super().__init__(name=name, dtype="float32", autocast=False)

    def mend(self, lesson):
        return lesson

    def observe(self, lesson):
        """Remembers what it needs of a batch, in a training step."""

    def check_shapes(self, shapes):
        """Raises a `ValueError` unless it can use what its taps give.

        Args:
            shapes: the shape at each of its `teacher_taps`.
        """

    def hyperparameters(self):
        """What may move while training."""
        parts = sublayers(self)
        return [part for part in parts if isinstance(part, Hyperparameter)]

    def get_config(self):
        return {"name": self.name}


def one_of(ways, value, name):
    """The argument, if it is one of the ways that there are.

    Raises:
        ValueError: it is not.

    Example:
    >>> one_of(("unsure", "sure"), "sure", "favor")
    'sure'
    """
    if value not in ways:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(map(repr, ways))}. "
            f"Received: {name}={value!r}."
        )
    return value


def checked_rules(rules, loss):
    """The rules as a list, if they are rules and fit the loss.

    Raises:
        ValueError: they are not, or they do not.

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
    if rules:
        _check_loss(type(loss).__name__, loss)
        _check_temperature(rules, loss)
        _check_hyperparameters(rules)
    return rules


def fit_rules(name, rules, shapes):
    """Builds the rules for the number of classes that the logits have.

    Args:
        name: the transfer's name.
        rules: list of `Rule`.
        shapes: `(teacher_shape, student_shape)` of each pair of views.

    Example:
    >>> rule = Rule()
    >>> fit_rules("told", [rule], [((None, 3), (None, 3))])
    >>> rule.built
    True
    """
    for number, rule in enumerate(rules):
        # A scope of its own: on PyTorch, Keras takes two variables of the
        # same path for one.
        with keras.name_scope(f"{name}_rule_{number}"):
            if not rule.built:
                rule.build(shapes[0][0])


def check_rule_shapes(rules, views):
    """Raises a `ValueError` unless the rules can use the teacher's views.

    Args:
        rules: list of `Rule`.
        views: dict, tap text -> value, of the teacher.

    Example:
    >>> check_rule_shapes([Rule()], {})
    """
    for rule in rules:
        taps = [views[tap.text] for tap in rule.teacher_taps]
        rule.check_shapes([tuple(view.shape) for view in taps])


def _check_loss(name, loss):
    single = not getattr(loss, "joint", False)
    if not (getattr(loss, "expects_logits", False) and single):
        raise ValueError(
            "Rules mend a teacher's logits. Received: rules for a transfer "
            f"with {name}, which does not compare logits. Give them to the "
            "transfer that does, such as that of `SoftTargets`."
        )
    if not getattr(loss, "teacher_from_logits", True):
        raise ValueError(
            "Rules mend a teacher's logits. Received: rules for a transfer "
            f"with {name}(teacher_from_logits=False). Give the teacher without "
            "its softmax."
        )


def _check_temperature(rules, loss):
    setters = [type(rule).__name__ for rule in rules if rule.sets_temperature]
    if setters and "temperature" not in getattr(loss, "required_context", ()):
        raise ValueError(
            f"Rule {setters[0]} sets a temperature for each sample. Received: "
            f"a transfer with {type(loss).__name__}, which takes none. Use "
            "`keras_kd.losses.SoftTargets()` or `DecoupledKD()`, or give "
            "`call` of your loss the keyword-only argument `temperature=None`."
        )
    if len(setters) > 1:
        raise ValueError(
            "One rule of a transfer may set the temperature. Received: "
            f"{' and '.join(setters)}. Give each a transfer of its own."
        )


def _check_hyperparameters(rules):
    names = [part.name for rule in rules for part in rule.hyperparameters()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "The rules of a transfer can't share the name of a hyperparameter, "
            "which is its key in the logs. Received: two rules with "
            f"{twice[0]!r}. Give each a transfer of its own."
        )
