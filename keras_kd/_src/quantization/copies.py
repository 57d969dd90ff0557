"""A copy of a model: layers of its own, with the same weights."""

import keras

from keras_kd._src.own_functions import own_functions
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.rebuild import rebuild
from keras_kd._src.students.shrinking.rebuild import transfer_weights


def copied(model, spec):
    """A model that does what another one does, and shares nothing with it.

    Args:
        model: a Keras model. One that is Functional, of whatever class, is
            copied into a plain one.
        spec: what it is given, as `KerasTensor`s.
    """
    functions = {each.__name__: each for each in own_functions(model)}
    try:
        with keras.saving.custom_object_scope(functions):
            return _copied(model, spec)
    except Exception as error:  # Whatever a class's constructor raises.
        raise ValueError(
            "A quantized model is trained as a copy, which is made from the "
            f"configs of the model's layers. Received: {model.name!r} (of type "
            f"{type(model).__name__}), of which none can be made: "
            f"{error.__cause__ or error} Give each class a `get_config` with "
            "the arguments of its constructor."
        ) from error


def _copied(model, spec):
    if is_model(model):
        graph = Graph(model)
        copy = rebuild(graph)
        transfer_weights(graph, copy)
        return copy
    copy = keras.models.clone_model(model)
    if not copy.built:
        keras.backend.compute_output_spec(copy, spec)
    copy.set_weights(model.get_weights())
    return copy
