"""What models take and give, found without data."""

import contextlib

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
    """What a function of `KerasTensor`s returns; nothing is computed."""
    return _Traced(function)(inputs)


def input_spec(model):
    """What a model takes, as `KerasTensor`s of any batch size, or None."""
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
    """New `keras.Input`s of what a model takes, or None where unknown."""
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
    """
    model.set_weights(source.get_weights())
    finalize(model)


def finalize(model):
    """Lets layers draw from their weights what they draw; after assigning."""
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


def check_teacher(teacher):
    """Raises a `ValueError` unless a teacher is a built Keras model."""
    if not isinstance(teacher, keras.layers.Layer):
        raise ValueError(
            "Argument `teacher` must be a Keras model, a cache "
            "(`keras_kd.cache.open`) or a `keras_kd.teachers.Teacher`. "
            f"Received: teacher={teacher!r} (of type "
            f"{type(teacher).__name__})."
        )
    unbuilt = [layer.name for layer in all_layers(teacher) if not layer.built]
    if unbuilt:
        raise ValueError(
            f"The teacher {teacher.name!r} is not built, so it can't have "
            f"been trained. Received: a teacher whose layers {unbuilt[:5]} "
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


@contextlib.contextmanager
def explained(role, model, inputs):
    """Names a model that fails because it takes other inputs than it gets."""
    try:
        yield
    except Exception as error:
        expected = input_spec(model)
        if expected is None or _fits(inputs, expected):
            raise
        raise ValueError(
            f"The {role} {model.name!r} takes inputs of shape "
            f"{_shapes(expected)}. Received: inputs of shape "
            f"{_shapes(inputs)}. Teacher and student must take the same "
            "inputs: give it data of that shape, or put what brings the data "
            "to it (such as a `keras.layers.Resizing`) in front of the model."
        ) from error


def _fits(inputs, expected):
    inputs, expected = keras.tree.flatten(inputs), keras.tree.flatten(expected)
    return len(inputs) == len(expected) and all(
        same_shape(given.shape, wanted.shape)
        for given, wanted in zip(inputs, expected)
    )


def same_shape(first, second):
    """Whether two shapes agree, as far as they are known."""
    return len(first) == len(second) and all(
        a == b or a is None or b is None for a, b in zip(first, second)
    )


def _shapes(inputs):
    shapes = keras.tree.map_structure(lambda x: _Shape(x.shape), inputs)
    return repr(shapes)


class _Shape:
    """A shape that `keras.tree` takes for a leaf."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def __repr__(self):
        return repr(self.shape)
