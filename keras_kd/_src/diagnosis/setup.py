"""Checks of teacher, student and transfers that need no batch."""

import math

from keras import ops

from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.distillation.last_activation import last_parts
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import compiled_loss

# Modes of `quantize` in which kernels are integers.
INTEGERS = "int8", "int4", "gptq", "awq"


def ensemble_temperatures(teacher, transfers):
    """Findings where an ensemble and a loss have different temperatures."""
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
            yield Finding(
                f"ensemble temperature, {transfer.name}",
                "look",
                f"The teacher {teacher.name!r} averages its members' "
                f"probabilities at temperature {temperature:g}, and transfer "
                f"{transfer.name!r} softens the average at {loss:g}. Received: "
                "two temperatures.",
                "The soft targets are the mean of the members' soft targets "
                "only if both are equal: make the teacher with "
                f"`temperature={loss:g}`.",
                {"ensemble": temperature, "loss": loss},
            )


def texts_of_student(distiller, data):
    """Findings where texts that the student writes count as labels."""
    data = getattr(data, "dataset", data)  # Of a `MappedDataset`.
    writer = getattr(data, "writer", None)
    hard = distiller.hyperparameters()["hard_weight"]
    counts = compiled_loss(distiller) is not None
    counts = counts and (hard.number > 0.0 or hard.moves)
    if writer is not distiller.student or data.ignore_class is not None:
        return
    if counts and data.share > 0.0:
        yield Finding(
            "labels",
            "look",
            "The compiled loss uses texts that the student writes as "
            "labels. Received: data of which the student writes a share of "
            f"{data.share:g}, and a `hard_weight` of {hard.text}.",
            "Pass `hard_weight=0.0` to the Distiller; or, to train on the "
            "given responses as labels, pass `ignore_class=-1` to the data and "
            "to the compiled loss, and `ignore_class=False` to the transfers.",
        )


def rounded_head(student):
    """Findings where the student's embedding computes the logits in int8.

    Keras (3.15) rounds the inputs of that layer without a gradient for the
    rounding, which it has in `Dense`: the layers before it would train on a
    wrong gradient.
    """
    for layer in last_parts(student):
        names = {kind.__name__ for kind in type(layer).__mro__}
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None and "ReversibleEmbedding" in names:
            yield Finding(
                "student quantized head",
                "wrong",
                f"The student's {layer.name!r} computes the logits, and Keras "
                "has a wrong gradient for it once it is quantized. Received: "
                f"a student with {layer.name!r} in {mode}.",
                f"Leave it out: `student.quantize({mode!r}, filters=lambda "
                "layer: isinstance(layer, keras.layers.Dense))`, with all "
                "layers that are to be quantized.",
            )


def quantized_student(student):
    """Findings where the student's kernels are integers, which can't train.

    An error in `fit` if only biases and scales are left to train. A student
    with a LoRA, or with other layers that train, may be intended.
    """
    modes = {
        layer.name: layer.quantization_mode
        for layer in all_layers(student)
        if getattr(layer, "quantization_mode", None) in INTEGERS
        and not getattr(layer, "lora_enabled", False)
    }
    if not modes:
        return
    kernels = [v for v in student.trainable_variables if len(v.shape) > 1]
    first, mode = next(iter(modes.items()))
    rest = (
        f"{len(kernels)} other kernels train"
        if kernels
        else "no kernel of it can train"
    )
    yield Finding(
        "student quantized",
        "look" if kernels else "wrong",
        f"The student {student.name!r} has integer kernels, which have no "
        f"gradient: in {len(modes)} layers, such as {first!r} in {mode!r}; "
        f"{rest}.",
        "To train a student for 8 bits, distil the float model under "
        "`keras_kd.quantization.QuantizationAwareModel(student, samples)`, "
        "and export it; or give it a LoRA (`enable_lora`).",
        {"quantized_layers": len(modes), "trainable_kernels": len(kernels)},
    )


def unused_labels():
    """The finding for labels without a compiled loss."""
    yield Finding(
        "labels",
        "look",
        "The data has labels, and nothing uses them. Received: batches with "
        "`y`, in a Distiller that was compiled without a loss and metrics.",
        "Compile with a loss to train on the labels, too, such as "
        "`loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)`, "
        "or fit on the inputs alone.",
    )
