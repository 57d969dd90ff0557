"""Checks for logits where probabilities are expected, or the reverse."""

import inspect

import keras

from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.distillation.last_activation import last_activations


def mistaken_features(transfer, mistaken):
    """Findings about probabilities in place of logits, or the reverse.

    If the model's graph shows a softmax or sigmoid at the end, its input is
    compared, and the finding only says so. Otherwise the values show that the
    outputs are of the other kind than the loss expects, or its arguments say.

    Args:
        transfer: a `Transfer`.
        mistaken: in how many batches the values of the teacher, and of the
            student, were of the other kind.
    """
    for side, count in zip(("teacher", "student"), mistaken):
        argument = f"{side}_from_logits"
        stated = getattr(transfer.loss, argument, None)
        known = transfer.activations.get(side)
        known_good = stated is True or (stated is None and known == "linear")
        if known_good or not (known in PROBABILITIES or count):
            continue
        severity = "look" if known in PROBABILITIES else "wrong"
        yield Finding(
            f"outputs of the {side}, {transfer.name}",
            severity,
            *_mistaken_texts(transfer, side, known, stated),
            {"batches": int(count)},
        )


def _mistaken_texts(transfer, side, known, stated):
    """What is wrong with one side's outputs, and the remedy."""
    argument = f"{side}_from_logits"
    about = f"The {side}'s outputs in transfer {transfer.name!r}"
    name = type(transfer.loss).__name__
    tap = getattr(transfer, f"{side}_taps")[0]
    fix = (
        f"pass `{argument}=False` to it, which turns probabilities into "
        "logits, or read the logits themselves with the tap "
        f"`{side}={tap.before_activation().text!r}`."
    )
    if known in PROBABILITIES:
        return (
            f"{about} are probabilities: they come from a {known}. "
            f"Received: {name}, which compares logits, without "
            f"`{argument}`. So the inputs of the {known} are compared, which "
            "is right.",
            f"To confirm it and silence this warning, {fix}",
        )
    if stated is False:
        return (
            f"{about} are no probabilities: some are below 0 or above 1. "
            f"Received: {name} with `{argument}=False`.",
            f"If they are logits, leave out `{argument}`.",
        )
    return (
        f"{about} look like probabilities: of the first samples all "
        f"are between 0 and 1. Received: {name}, which compares "
        "logits.",
        f"If they went through a softmax or sigmoid, {fix}",
    )


def mistaken_hard_loss(loss, student, names, probable, outside):
    """Findings where the compiled loss expects another kind of output.

    Args:
        loss: the argument `loss` of `compile`.
        student: the student.
        names: the names of its outputs, from `output_names`.
        probable: for each output, in how many batches it looked like
            probabilities.
        outside: likewise, in how many it had values below 0 or above 1.
    """
    last = last_activations(student)
    probable = [
        last[n : n + 1] == ["sigmoid"]
        or (count and last[n : n + 1] != ["linear"])
        for n, count in enumerate(probable)
    ]
    each = each_output(loss, names)
    for name, one, like, beyond in zip(names, each, probable, outside):
        logits = expects_logits(one)
        if logits is None or not (like if logits else beyond):
            continue
        given, wanted, fix = (
            ("probabilities (all are between 0 and 1)", "logits", False)
            if logits
            else ("logits (some are below 0 or above 1)", "probabilities", True)
        )
        yield Finding(
            f"outputs of the student, hard loss, {name}",
            "wrong",
            f"The compiled loss expects {wanted}, and the student's output "
            f"({name}) looks like {given}. Received: loss={one!r}.",
            f"Compile with a loss of `from_logits={fix}`, such as "
            "`keras.losses.SparseCategoricalCrossentropy"
            f"(from_logits={fix})`.",
        )


def output_names(output):
    """The names of a model's outputs, or their numbers if they have none."""
    names = list(output) if isinstance(output, dict) else []
    # `keras.tree` flattens a dict in the order of its sorted keys.
    return sorted(names) or list(range(len(keras.tree.flatten(output))))


def each_output(loss, names):
    """The loss of each output, from the argument `loss` of `compile`."""
    if isinstance(loss, dict):
        return [loss.get(name) for name in names]
    if isinstance(loss, (list, tuple)):
        return list(loss)
    return [loss] * len(names)


def expects_logits(loss):
    """Whether a loss of Keras expects logits; None where unknown."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if inspect.isclass(loss) or inspect.isfunction(loss):
        flag = inspect.signature(loss).parameters.get("from_logits")
        return flag and bool(flag.default)
    return getattr(loss, "from_logits", None)
