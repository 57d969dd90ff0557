"""The transfers of a `Distiller` where none are given."""

import keras

from keras_kd._src.diagnosis.output_kinds import each_output
from keras_kd._src.distillation import checks
from keras_kd._src.distillation.last_activation import last_activation
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.binary_soft_targets import BinarySoftTargets
from keras_kd._src.losses.logit_matching import LogitMatching
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.naming import snake_case

WEIGHT = 0.9
# Losses of Keras by the kind of output that they are for. Outputs with any
# other loss are taken for numbers.
CLASSES = {
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_crossentropy",
    "kl_divergence",
    "kldivergence",
}
BINARY = {"binary_crossentropy", "binary_focal_crossentropy"}


def one_output():
    """The transfer of a model with one output: Hinton's soft targets."""
    return Transfer(SoftTargets(temperature=4.0), weight=WEIGHT)


def several_outputs(student, output, loss):
    """A transfer for each output, chosen by the kind of output.

    Args:
        student: the student.
        output: its outputs, a dict, list or tuple of tensors.
        loss: what was given to `compile`.

    Returns:
        List of `Transfer`s.
    """
    names = _names(student, output)
    losses = each_output(loss, list(names.values()))
    kinds = {
        name: _kind(last_activation(student, Tap(f"[{key}]")), each)
        for (key, name), each in zip(names.items(), losses)
    }
    _warn_of_numbers(kinds, {name: key for key, name in names.items()}, loss)
    return [_transfer(kinds[name], key, name) for key, name in names.items()]


def _kind(activation, loss):
    """The kind of an output: "classes", "binary" or "numbers"."""
    name = _loss_name(loss)
    if activation == "softmax" or name in CLASSES:
        return "classes"
    if name in BINARY or (name is None and activation == "sigmoid"):
        return "binary"
    return "numbers"


def _loss_name(loss):
    """The function name of a Keras loss in any form; None if it has none."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        loss = type(loss)
    name = getattr(loss, "__name__", None)
    return name and snake_case(name).replace("_cross_entropy", "_crossentropy")


def _names(student, output):
    """The outputs' names in logs and losses, by their keys in taps."""
    if isinstance(output, dict):
        return {key: key for key in output}
    names = getattr(student, "output_names", None) or []
    if len(names) != len(output):
        names = [str(number) for number in range(len(output))]
    return dict(enumerate(names))


def _transfer(kind, key, name):
    tap = f"[{key}]"
    if kind == "classes":
        loss, title = SoftTargets(temperature=4.0), "soft_targets"
    elif kind == "binary":
        loss, title = BinarySoftTargets(temperature=4.0), "binary_soft_targets"
    else:
        # Compared as they are: outputs of a sigmoid may be coordinates.
        flags = {"teacher_from_logits": True, "student_from_logits": True}
        loss, title = LogitMatching(**flags), "squared_error"
    return Transfer(
        loss, teacher=tap, student=tap, weight=WEIGHT, name=f"{name}_{title}"
    )


def _warn_of_numbers(kinds, keys, loss):
    numbers = [name for name, kind in kinds.items() if kind == "numbers"]
    if numbers:
        others = [name for name in kinds if name not in numbers]
        tap = f"[{keys[numbers[0]]}]"
        checks.warn(
            f"The Distiller distils the outputs {numbers} by squared error, "
            "as neither a compiled cross-entropy nor a final softmax shows "
            f"that they are classes, and {others or 'none'} by soft targets. "
            f"Received: loss={loss!r} and "
            "no `transfers`. Give the Distiller `transfers` to choose, such as "
            "`keras_kd.Transfer(keras_kd.losses.SoftTargets(), "
            f"teacher={tap!r}, student={tap!r})`."
        )
