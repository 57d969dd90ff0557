"""Cuts the last layers off a model, as a model of their own."""

import keras

from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.keras_compat import producer
from keras_kd._src.specs import take_weights
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model

# Left out of a frozen head, which can't overfit.
NOISE = (
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


def head_of(model, name):
    """A layer's output tensor, and the model from there to the outputs."""
    if not is_model(model):
        raise ValueError(
            "The teacher must be a built Functional or Sequential model, so "
            "that its head can be cut off. Received: teacher="
            f"{model!r} (of type {type(model).__name__}). Make such a model "
            "from its layers with `keras.Model(inputs, outputs)`."
        )
    found, others = _ways_to(model, find_layer(model, name))
    at_the_end = {id(t) for t in found} & {id(t) for t in model.outputs}
    if others or len(found) != 1 or at_the_end:
        raise ValueError(
            f"The outputs of the teacher {model.name!r} must depend on the "
            f"output of {name!r} alone. Received: layer={name!r}, "
            f"{_why(found, others)}. Name a layer of the teacher itself, not "
            "of a model inside it, that everything passes through, such as "
            "the last one before the pooling."
        )
    single = isinstance(model, keras.Sequential)
    outputs = model.outputs[0] if single else model.output
    return found[0], keras.Model(found[0], outputs, name="teacher_head")


def _ways_to(model, layer):
    """The layer's tensors that the outputs use, and inputs that bypass it."""
    tensors = [t for t in Graph(model).tensors if producer(t)[0] is layer]
    head = Graph(model, inputs=tensors)
    found = [
        tensor
        for tensor in tensors
        if id(tensor) in head.users or any(tensor is t for t in head.outputs)
    ]
    others = [call.operation.name for call in head.calls if call.is_input]
    return found, others


def _why(found, others):
    if not found:
        return "on which the outputs don't depend"
    if others:
        return f"which the inputs {others} bypass on the way to the outputs"
    if len(found) > 1:
        return f"of which the outputs use {len(found)} tensors"
    return "which is an output itself"


def frozen_copy(head, shape, name):
    """A copy of a head with the same weights, frozen and without dropout."""
    try:
        copy = keras.models.clone_model(
            head,
            input_tensors=keras.Input(shape, dtype=head.input.dtype),
            clone_function=_without_noise,
            recursive=True,
        )
        take_weights(copy, head)
    except ValueError as error:
        raise ValueError(
            f"The layers after the teacher's {name!r} can't be copied for the "
            f"student's features. Received: features of shape {tuple(shape)} "
            f"(without the batch), the teacher's are {head.input.shape[1:]}. "
            "If the teacher's layers take no other size, give the student "
            "a backbone whose feature map is at least as large."
        ) from error
    copy.trainable = False
    return copy


def _without_noise(layer):
    if isinstance(layer, NOISE):
        return keras.layers.Identity(name=layer.name)
    return type(layer).from_config(layer.get_config())
