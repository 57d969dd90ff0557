"""What models take and give, found without data."""

import keras

from keras_kd._src.keras_compat import all_layers


class _Traced(keras.Operation):
    """A function as an operation: Keras then infers what it returns."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def output_spec(function, inputs):
    """What a function of the inputs returns; nothing is computed.

    Args:
        function: takes what a model takes.
        inputs: `KerasTensor`s, as from `input_spec`.

    Returns:
        The structure that the function returns, of `KerasTensor`s.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> output_spec(model, input_spec(model)).shape
    (None, 2)
    """
    return _Traced(function)(inputs)


def input_spec(model):
    """What a model takes, as `KerasTensor`s of any batch size, or None.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> input_spec(model).shape
    (None, 4)
    """
    if isinstance(model, keras.Sequential) and model.built:
        return _any_batch(model.inputs[0])
    if getattr(model, "inputs", None):
        return keras.tree.map_structure(_any_batch, model.input)
    config = model.built and model.get_build_config()
    shape = config and config.get("input_shape")
    if not shape:
        return None
    return _without_tracking(
        keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor((None, *shape[1:])), shape
        )
    )


def fresh_inputs(model):
    """New `keras.Input`s of what a model takes, or None where that is unknown.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> fresh_inputs(model).shape
    (None, 4)
    """
    spec = input_spec(model)
    if spec is None:
        return None
    specs = keras.tree.flatten(spec)
    # Keras wants inputs in a dict to bear the names of their keys.
    names = [each.name for each in getattr(model, "inputs", None) or specs]
    inputs = [
        keras.Input(each.shape[1:], dtype=each.dtype, name=name)
        for each, name in zip(specs, names)
    ]
    return keras.tree.pack_sequence_as(spec, inputs)


def take_weights(model, source):
    """Gives a model the weights of another of the same architecture.

    `set_weights` alone leaves a `Normalization` with the numbers that it drew
    from its weights when it was built.

    Example:
    >>> source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model = keras.models.clone_model(source)
    >>> take_weights(model, source)
    >>> bool((model.get_weights()[0] == source.get_weights()[0]).all())
    True
    """
    model.set_weights(source.get_weights())
    finalize(model)


def finalize(model):
    """Lets layers draw from their weights what they draw; after assigning.

    Example:
    >>> finalize(keras.Sequential([keras.layers.Normalization(mean=0.0,
    ...                                                       variance=1.0)]))
    """
    for layer in all_layers(model):
        if layer.built and hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _without_tracking(structure):
    # A model's own dicts and lists are Keras', which JAX can't trace.
    if isinstance(structure, dict):
        return {key: _without_tracking(v) for key, v in structure.items()}
    if isinstance(structure, list):
        return [_without_tracking(value) for value in structure]
    return structure


def _any_batch(tensor):
    return keras.KerasTensor((None, *tensor.shape[1:]), dtype=tensor.dtype)


def check_teacher(teacher, student):
    """Raises a `ValueError` unless the teacher can teach the student."""
    if not isinstance(teacher, keras.layers.Layer):
        raise ValueError(
            "Argument `teacher` must be a Keras model. Received: "
            f"teacher={teacher!r} (of type {type(teacher).__name__})."
        )
    if teacher is student:
        raise ValueError(
            "The teacher and the student must be two models. Received the "
            f"same model {teacher.name!r} twice. Copy it with "
            "`keras.models.clone_model` and `set_weights` to distil a model "
            "into itself."
        )
    unbuilt = [layer.name for layer in all_layers(teacher) if not layer.built]
    if unbuilt:
        raise ValueError(
            f"The teacher {teacher.name!r} is not built, so it can't have "
            f"been trained. Received a teacher whose layers {unbuilt[:5]} "
            "have no weights yet. Train it, load its weights, or call it on "
            "a batch first."
        )


def check_student(student):
    """Raises a `ValueError` unless the student is a Keras model."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "Argument `student` must be a Keras model. Received: "
            f"student={student!r} (of type {type(student).__name__})."
        )
