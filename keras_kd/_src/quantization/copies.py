"""A copy of a model: new layers with the same weights."""

import keras

from keras_kd._src.custom_functions import custom_functions
from keras_kd._src.keras_compat import Functional
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.specs import finalize
from keras_kd._src.specs import of_batch_size
from keras_kd._src.specs import output_spec
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.rebuild import rebuild
from keras_kd._src.students.shrinking.rebuild import transfer_weights


def copied(model, spec):
    """A copy of a model that shares nothing with it.

    Args:
        model: a Keras model. If it is Functional and its class has no config
            of its own, the copy is a plain Functional model.
        spec: its inputs, as `KerasTensor`s.
    """
    functions = {each.__name__: each for each in custom_functions(model)}
    try:
        with keras.saving.custom_object_scope(functions):
            return _copied(model, spec)
    except Exception as error:  # Whatever a class's constructor raises.
        raise ValueError(
            "A quantized model is trained as a copy, which is made from the "
            f"configs of the model's layers. Received: {model.name!r} (of type "
            f"{type(model).__name__}), which can't be copied: "
            f"{error.__cause__ or error} Give each class a `get_config` with "
            "the arguments of its constructor."
        ) from error


def _copied(model, spec):
    if is_model(model) and not _has_config(model):
        graph = Graph(model)
        copy = rebuild(graph)
        transfer_weights(graph, copy)
        return copy
    copy = type(model).from_config(model.get_config())
    if not copy.built:
        output_spec(copy, of_batch_size(spec, 2))
    copy.set_weights(model.get_weights())
    finalize(copy)
    for layer, its in zip(all_layers(model), all_layers(copy)):
        if its.trainable != layer.trainable:
            its.trainable = layer.trainable
    return copy


def _has_config(model):
    """Whether a model's class has a `get_config` of its own."""
    of_keras = Functional.get_config, keras.Sequential.get_config
    return type(model).get_config not in of_keras
