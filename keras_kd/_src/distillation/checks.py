"""What is checked between steps, and warned of once: mistakes that train on."""

import contextlib
import inspect
import math
import traceback
import warnings

import keras
from keras import ops

from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.distillation.last_activation import last_activations
from keras_kd._src.distillation.last_activation import last_parts
from keras_kd._src.distillation.taps import text_of
from keras_kd._src.keras_compat import compiled_loss

# A term below this share of the total changes nothing.
LEAST_SHARE = 1e-3
# What rounding leaves of a loss, before its weight, where both sides agree.
ROUNDING = 1e-6
# How errors begin in which Keras and TensorFlow quote another one.
WRAPPED = (
    "Exception encountered when calling",
    "Could not automatically infer",
    "in user code:",
)
# So many samples distinguish a teacher from one that guesses.
ENOUGH_SAMPLES = 100


def warn(text):
    """Warns of a likely mistake."""
    warnings.warn(text, UserWarning, stacklevel=2)


# --- when the distiller is made ----------------------------------------------


def warn_of_temperature(teacher, transfers):
    """Warns if an ensemble averages at another temperature than the loss's."""
    if getattr(teacher, "average", None) != "probabilities":
        return
    temperature = teacher.temperature
    for transfer in transfers:
        loss = getattr(transfer.loss, "temperature", None)
        moves = any(p.moves for p in transfer.loss_hyperparameters)
        if loss is None or moves or not transfer.reads_output:
            continue
        loss = float(ops.convert_to_numpy(ops.convert_to_tensor(loss)))
        if not math.isclose(loss, temperature, rel_tol=1e-5):
            warn(
                f"The teacher {teacher.name!r} averages its members' "
                f"probabilities at temperature {temperature:g}, and transfer "
                f"{transfer.name!r} softens the average at {loss:g}. Received: "
                "two temperatures. The soft targets are the mean of the "
                "members' at one only: make the teacher with "
                f"`temperature={loss:g}`."
            )


# --- when `fit` begins -------------------------------------------------------


def warn_of_own_texts(distiller, data):
    """Warns if what the student writes itself counts as labels."""
    data = getattr(data, "dataset", data)  # One that is mapped.
    writer = getattr(data, "writer", None)
    hard = distiller.hyperparameters()["hard_weight"]
    counts = compiled_loss(distiller) is not None
    counts = counts and (hard.number > 0.0 or hard.moves)
    if writer is not distiller.student or data.ignore_class is not None:
        return
    if counts and data.share > 0.0 and distiller.check_probabilities:
        warn(
            "The compiled loss takes what the student writes itself for "
            f"labels. Received: data of which it writes a share of "
            f"{data.share:g}, and a `hard_weight` of {hard.text}. Pass "
            "`hard_weight=0.0` to the Distiller; or, to learn the given "
            "responses, `ignore_class=-1` to the data and to the compiled "
            "loss, and `ignore_class=False` to the transfers."
        )


def warn_of_rounded_head(student):
    """Warns if the student's embedding makes logits in int8.

    Keras (3.15) rounds what it is given, and has no gradient for that there,
    as it has in `Dense`: what comes before learns from a wrong one.
    """
    for layer in last_parts(student):
        names = {kind.__name__ for kind in type(layer).__mro__}
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None and "ReversibleEmbedding" in names:
            warn(
                f"The student's {layer.name!r} makes the logits, and Keras "
                "gives a wrong gradient there once it is quantized. Received: "
                f"a student with {layer.name!r} in {mode}. Leave it out: "
                f"`student.quantize({mode!r}, filters=lambda layer: "
                "isinstance(layer, keras.layers.Dense))`, with all layers that "
                "are to be quantized."
            )


# --- while a step is traced --------------------------------------------------


def uses_labels(teacher, transfers, metrics):
    """Whether anything but the compiled loss has a use for labels."""
    return bool(
        metrics.others
        or metrics.weighted_others
        or teacher.takes_labels
        or any(
            "labels" in getattr(transfer.loss, "required_context", ())
            or any(rule.needs_labels for rule in transfer.rules)
            for transfer in transfers
        )
    )


def warn_of_labels():
    """Warns that labels are given and no loss was compiled."""
    warn(
        "The data has labels, and nothing uses them. Received: batches with "
        "`y`, in a Distiller that was compiled without a loss and metrics. "
        "Compile with one to learn from the labels, too, such as "
        "`loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)`, "
        "or fit on the inputs alone."
    )


@contextlib.contextmanager
def own_errors():
    """Raises errors of this package alone.

    Keras and TensorFlow raise what fails in a step anew, with the arguments
    or the whole trace in its text.
    """
    try:
        yield
    except ValueError as error:
        own = error
        while own is not None and (_is_wrapped(own) or not _is_ours(own)):
            own = own.__cause__ or own.__context__
        if own is None or own is error:
            raise
        raise own from None


def _is_wrapped(error):
    return str(error).startswith(WRAPPED)


def _is_ours(error):
    # One from another process has no traceback.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_globals.get("__name__", "") for frame in frames[-1:]]
    package, *_ = __name__.split(".")
    return [name.split(".")[0] for name in names] == [package]


# --- after the first batch ---------------------------------------------------


def warn_of_probabilities(transfer):
    """Warns if outputs are probabilities, and the loss takes them for logits.

    Those of a last activation that is known by the model's graph are read
    before it; others are recognized by their values, or specified wrongly.
    """
    _, *counts = transfer.inspection.read()
    for side, mistaken in zip(("teacher", "student"), counts):
        argument = f"{side}_from_logits"
        stated = getattr(transfer.loss, argument, None)
        known = transfer.activations.get(side)
        known_good = stated is True or (stated is None and known == "linear")
        if known_good or not (known in PROBABILITIES or mistaken):
            continue
        about = f"The {side}'s outputs in transfer {transfer.name!r}"
        name = type(transfer.loss).__name__
        tap = getattr(transfer, f"{side}_taps")[0]
        fix = (
            f"pass `{argument}=False` to it, which turns probabilities into "
            "logits, or read the logits themselves with the tap "
            f"`{side}={tap.before_activation().text!r}`"
        )
        if known in PROBABILITIES:
            warn(
                f"{about} are probabilities: they come from a {known}. "
                f"Received: {name}, which compares logits, without "
                f"`{argument}`. What the {known} is given is compared. To say "
                f"so, {fix}."
            )
        elif stated is False:
            warn(
                f"{about} are no probabilities: some are below 0 or above 1. "
                f"Received: {name} with `{argument}=False`. Leave it out for "
                "logits."
            )
        else:
            warn(
                f"{about} look like probabilities: of the first samples all "
                f"are between 0 and 1. Received: {name}, which compares "
                "logits. If they went through a softmax or sigmoid, "
                f"{fix}."
            )


def warn_of_hard_loss(loss, student, output, inspection):
    """Warns if the compiled loss expects another kind of output."""
    names = list(output) if isinstance(output, dict) else []
    # `keras.tree` goes through a dict in the order of its keys.
    names = sorted(names) or range(len(keras.tree.flatten(output)))
    last = last_activations(student)
    probable = [
        last[n : n + 1] == ["sigmoid"]
        or (count and last[n : n + 1] != ["linear"])
        for n, count in enumerate(
            ops.convert_to_numpy(inspection.probable.value)
        )
    ]
    outside = ops.convert_to_numpy(inspection.outside.value)
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
        warn(
            f"The compiled loss expects {wanted}, and the student's output "
            f"({name}) looks like {given}. Received: loss={one!r}. Compile "
            f"with a loss of `from_logits={fix}`, such as "
            "`keras.losses.SparseCategoricalCrossentropy"
            f"(from_logits={fix})`."
        )


def each_output(loss, names):
    """The loss of each output, of what was given to `compile`."""
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


# --- after the first epoch ---------------------------------------------------


def warn_of_teacher(teacher, inspection):
    """Warns if the teacher is no better than chance on the labels."""
    if teacher.follows_student:
        return  # It begins as the untrained student.
    labelled, correct, by_chance = (
        float(ops.convert_to_numpy(count.value))
        for count in (
            inspection.labelled,
            inspection.correct,
            inspection.by_chance,
        )
    )
    if labelled < ENOUGH_SAMPLES:
        return
    chance = by_chance / labelled
    spread = math.sqrt(chance * (1.0 - chance) / labelled)
    if correct / labelled <= chance + 2.0 * spread:
        warn(
            f"The teacher {teacher.name!r} is no better than chance on the "
            f"labels. Received: {100 * correct / labelled:.1f} % right of "
            f"{labelled:,.0f} labeled samples, where guessing gives "
            f"{100 * chance:.1f} %. Check that it is trained, that it takes "
            "this preprocessing, and that its classes have the order of the "
            "labels."
        )


def warn_of_small_terms(teacher, transfers, names, logs):
    """Warns of terms that are too small a part of the loss to matter.

    Not where a term may grow: its weight moves, or the teacher follows the
    student, so that both begin alike. Not where both sides agree.
    """
    total = abs(float(logs.get("loss", 0.0)))
    for transfer, name in zip(transfers, names):
        weight, *_ = transfer.hyperparameters()
        part = abs(float(logs.get(name, 0.0)))
        may_grow = weight.moves or teacher.follows_student
        if may_grow or part <= ROUNDING * weight.number:
            continue
        if part < LEAST_SHARE * total:
            warn(
                f"Transfer {transfer.name!r} is {100 * part / total:.2g} % of "
                "the loss of the first epoch, too little to matter. "
                f"Received: weight={weight.text}, teacher "
                f"{text_of(transfer.teacher_taps)}, student "
                f"{text_of(transfer.student_taps)}. Raise the weight, or leave "
                "the transfer out."
            )
