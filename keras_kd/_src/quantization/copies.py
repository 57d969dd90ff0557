"""A copy of a model: layers of its own, with the same weights."""

import keras

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
    if is_model(model):
        graph = Graph(model)
        copy = rebuild(graph)
        transfer_weights(graph, copy)
        return copy
    try:
        copy = keras.models.clone_model(model)
    except Exception as error:  # Whatever the class's constructor raises.
        raise ValueError(
            "A quantized model is trained as a copy, which is made from the "
            f"config of the model. Received: {model.name!r} (of type "
            f"{type(model).__name__}), of which none can be made: {error} Give "
            "its class a `get_config` with the arguments of its constructor."
        ) from error
    if not copy.built:
        keras.backend.compute_output_spec(copy, spec)
    copy.set_weights(model.get_weights())
    return copy
