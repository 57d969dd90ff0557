"""Rule: the base class, and a transfer's checks of its rules."""

import keras

from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.keras_compat import sublayers
from keras_kd._src.naming import snake_case


class Rule(keras.layers.Layer):
    """Base class of the rules: filters or refines a teacher's targets.

    To write your own, implement `apply(inputs)`, which gets a `RuleInputs` and
    returns one with other `teacher_logits`, `sample_weight` or `temperature`.
    It runs inside the compiled step. If it needs more:

    - a rule that reads the labels sets `needs_labels = True`, one that reads
      the student's logits `needs_student = True`, one that sets the
      temperature `sets_temperature = True`;
    - `update_state(inputs)` is called in training steps, after `apply`, with
      the same inputs: for statistics over batches, kept in variables. With
      several replicas (TensorFlow), each gets its part of a batch: keep sums
      and counts, not means, in variables with `aggregation="mean"`, so that
      their quotients are those of the whole batch;
    - variables whose shape depends on the number of classes are created in
      `build(shape)`, which gets the shape of the teacher's logits,
      `(None, classes)`;
    - `teacher_taps` is a list of taps of the teacher that are read in the same
      forward pass; the activations are in `inputs.teacher_features`;
    - a `Hyperparameter` that is an attribute of the rule may change in
      training.

    Args:
        name: the rule's name; by default that of its class in snake case.

    Example:
    >>> import keras_kd as kd
    >>> from keras import ops
    >>> class Halve(kd.rules.Rule):
    ...     def apply(self, inputs):
    ...         return inputs._replace(sample_weight=inputs.sample_weight / 2)
    >>> logits = ops.zeros((2, 3))
    >>> inputs = kd.rules.RuleInputs(logits, logits, ops.ones((2,)))
    >>> float(Halve().apply(inputs).sample_weight[0])
    0.5
    """

    needs_labels = False
    needs_student = False
    sets_temperature = False
    teacher_taps = ()

    def __init__(self, name=None):
        name = name or snake_case(type(self).__name__)
        super().__init__(name=name, dtype="float32", autocast=False)

    def apply(self, inputs):
        """The `RuleInputs` as they are after this rule."""
        return inputs

    def update_state(self, inputs):
        """Updates the rule's variables with a batch, in a training step."""

    def check_shapes(self, shapes, logits_shape):
        """Raises a `ValueError` unless the shapes at its taps are valid."""

    def hyperparameters(self):
        """The hyperparameters, which may change in training."""
        parts = sublayers(self)
        return [part for part in parts if isinstance(part, Hyperparameter)]

    def get_config(self):
        return {"name": self.name}


def checked_rules(rules, loss):
    """The rules as a list; a `ValueError` unless they suit the loss."""
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
    """Builds a transfer's rules for pairs of `(teacher, student)` shapes."""
    for number, rule in enumerate(rules):
        # A separate scope: on PyTorch, Keras confuses two variables of the same
        # path.
        with keras.name_scope(f"{name}_rule_{number}"):
            if not rule.built:
                rule.build((None, shapes[0][0][-1]))


def check_rule_shapes(transfer, features):
    """Lets rules check the teacher's features, a dict of tap text -> tensor."""
    logits = transfer.teacher_features(features)[0]
    for rule in transfer.rules:
        taps = [features[tap.text] for tap in rule.teacher_taps]
        shapes = [tuple(feature.shape) for feature in taps]
        rule.check_shapes(shapes, tuple(logits.shape))


def _check_loss(name, loss):
    single = not getattr(loss, "joint", False)
    if not (getattr(loss, "expects_logits", False) and single):
        raise ValueError(
            "Rules work on a teacher's logits. Received: rules for a transfer "
            f"with {name}, which does not compare logits. Give them to the "
            "transfer that does, such as that of `SoftTargets`."
        )
    if not getattr(loss, "same_tokens", True):
        raise ValueError(
            "Rules compare both sides class by class. Received: rules for a "
            f"transfer with {name}, whose sides have different classes. "
            "Weight the samples with `sample_weight` instead."
        )
    if getattr(loss, "activation", "softmax") != "softmax":
        raise ValueError(
            "Rules work on logits of classes that exclude each other. "
            f"Received: rules for a transfer with {name}, whose outputs are "
            "each a yes or a no. Weight the samples with `sample_weight` "
            "instead."
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
            f"{' and '.join(setters)}. Give each rule its own transfer."
        )


def _check_hyperparameters(rules):
    names = [part.name for rule in rules for part in rule.hyperparameters()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "The rules of a transfer can't share the name of a hyperparameter, "
            "which is its key in the logs. Received: two rules with "
            f"{twice[0]!r}. Give each rule its own transfer."
        )
