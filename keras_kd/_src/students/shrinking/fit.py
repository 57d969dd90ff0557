"""Checks that the layers of a rebuilt model fit together."""

import re

import keras

from keras_kd._src.specs import output_spec
from keras_kd._src.specs import same_shape
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model

# Values to try for a size that the model leaves open: of tokens, of pixels.
SIZES = (4, 64)


def check_fit(student, teacher):
    """Raises a `ValueError` if a student fails where its teacher runs.

    Layers may state their output shape without checking their inputs, so both
    models are traced layer by layer through the layers' code.
    """
    ends = [[tensor.shape for tensor in m.outputs] for m in (teacher, student)]
    if not all(map(same_shape, *ends)):
        raise ValueError(
            "The student's outputs must be as wide as the teacher's. Received: "
            f"outputs of shapes {ends[1]}, for the teacher's {ends[0]}: the "
            "width of a layer's output does not follow that of its input. "
            f"{INSTEAD}"
        )
    for size in SIZES:
        found = _misfit(student, size)
        if found is None:
            return
        if _misfit(teacher, size) is None:
            raise misfit_error(*found)


# The remedy for a model that can't be narrowed.
INSTEAD = (
    "Shrink it with `depth` or `keep` at `width=1.0`, or make a narrower "
    "student with its class."
)


def misfit_error(operation, shapes, reason):
    """The error that names the layer that does not take its inputs."""
    return ValueError(
        f"The student's layer {operation.name!r} (of type "
        f"{type(operation).__name__}) does not take its inputs: a "
        "width is hard-coded in it, or in a layer before it. Received: "
        f"inputs of shapes {shapes}, with the error '{_short(reason)}'. "
        f"{INSTEAD}"
    )


def _short(reason):
    plain = re.sub(r"\x1b\[\d+m", "", str(reason))  # Keras prints errors bold.
    lines = [line for line in plain.splitlines() if line.strip()]
    lines = lines or [type(reason).__name__]
    # Keras' first line says where, its second what.
    is_where = lines[0].startswith("Exception encountered")
    return lines[1 if is_where and len(lines) > 1 else 0]


def _misfit(model, size):
    """The call that fails: its operation, shapes and reason; else None."""
    found = []

    def run(values):
        found.clear()
        return _run(model, values, found)

    inputs = [
        keras.KerasTensor(
            [size if each is None else each for each in tensor.shape],
            tensor.dtype,
        )
        for tensor in model.inputs
    ]
    try:
        output_spec(run, inputs)
    except Exception:  # Whatever a backend raises at a wrong shape.
        if not found:
            raise
    return found[0] if found else None


def _run(model, values, found):
    """A model's outputs, run call by call; appends failures to `found`."""
    graph = Graph(model)
    values = dict(zip(map(id, graph.inputs), values))
    for call in graph.calls:
        args, kwargs = graph.arguments(call, lambda t: values[id(t)])
        given = [values[id(tensor)] for tensor in call.input_tensors]
        if is_model(call.operation):
            made = _run(call.operation, given, found)
        else:
            made = _called(call, args, kwargs, given, found)
        values.update(zip(map(id, call.outputs), made))
    return [values[id(tensor)] for tensor in graph.outputs]


def _called(call, args, kwargs, given, found):
    shapes = [tuple(each.shape) for each in given]
    try:
        made = keras.tree.flatten(call.operation(*args, **kwargs))
    except Exception as error:  # Whatever a backend raises at a wrong shape.
        found.append((call.operation, shapes, error))
        raise
    for value, stated in zip(made, call.outputs):
        if not same_shape(value.shape, stated.shape):
            reason = f"it returns {tuple(value.shape)}, not {stated.shape}."
            found.append((call.operation, shapes, reason))
    return made
