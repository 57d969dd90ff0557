"""Finds the inputs and outputs of models without data, and checks them."""

import contextlib

import keras

from keras_kd._src import keras_compat
from keras_kd._src.backend import with_shared_symbol
from keras_kd._src.keras_compat import Functional
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import is_symbolic
from keras_kd._src.keras_compat import makes_weights
from keras_kd._src.keras_compat import producer
from keras_kd._src.keras_compat import sublayers
from keras_kd._src.keras_compat import was_called


class _Traced(keras.Operation):
    """A function as an operation, so that Keras infers its output."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def compute_output_spec(self, inputs):
        return super().compute_output_spec(with_shared_symbol(inputs))


def output_spec(function, inputs):
    """The result of a function of `KerasTensor`s; nothing is computed."""
    return _Traced(function)(inputs)


def input_spec(model):
    """A model's inputs, as `KerasTensor`s of any batch size, or None."""
    if isinstance(model, keras.Sequential) and model.built:
        return _any_batch(model.inputs[0])
    if getattr(model, "inputs", None):
        return keras.tree.map_structure(_any_batch, model.input)
    config = model.built and model.get_build_config()
    shape = config and config.get("input_shape")
    if not shape:
        return None
    return untracked(
        keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor((None, *shape[1:])), shape
        )
    )


def known_inputs(model):
    """A model's inputs as `KerasTensor`s; None if only data can show them.

    They are known for a Functional or Sequential model, unless a size besides
    the batch is open or an input is optional. Other models may define them in
    a method `known_inputs`.
    """
    if hasattr(model, "known_inputs"):
        return model.known_inputs()
    taken = graph_inputs(model)
    if taken is None:
        return None
    if not sizes_known(taken) or any(
        map(is_optional, keras.tree.flatten(taken))
    ):
        return None
    return keras.tree.map_structure(_spec_of, taken)


def sizes_known(spec):
    """Whether all sizes of inputs except the batch size are known."""
    return all(None not in each.shape[1:] for each in keras.tree.flatten(spec))


def graph_inputs(model):
    """The symbolic inputs of a Functional or Sequential model, else None."""
    if not getattr(model, "inputs", None):
        return None
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return untracked(model.input)


def output_structure(model):
    """A model's outputs in their structure; None if only a run shows them."""
    if isinstance(model, keras.Sequential):
        return model.outputs[0] if model.built else None
    if getattr(model, "outputs", None):
        return untracked(model.output)
    return None


def data_spec(inputs):
    """A batch's inputs as `KerasTensor`s; None for those that are None."""
    return keras.tree.map_structure(_spec_of, untracked(inputs))


def _spec_of(array):
    if array is None:
        return None
    dtype = keras.backend.standardize_dtype(array.dtype)
    if dtype == "float64":  # Keras casts it before any layer.
        dtype = keras.config.floatx()
    return keras.KerasTensor(tuple(array.shape), dtype)


def stated_spec(input_shape, model):
    """The argument `input_shape` as `KerasTensor`s, checked.

    Types that are not given are those of the model's own inputs.
    """
    if input_shape is None:
        return None
    spec = _stated(input_shape, graph_inputs(model))
    for each in keras.tree.flatten(spec):
        if not each.shape or None in each.shape[1:]:
            raise ValueError(
                "Argument `input_shape` must give all sizes except the batch "
                "size, such as `(None, 128)`, in the structure of the data's "
                f"inputs. Received: input_shape={input_shape!r}."
            )
    return spec


def _stated(stated, taken):
    if isinstance(stated, dict):
        entries = taken if isinstance(taken, dict) else {}
        return {
            name: _stated(each, entries.get(name))
            for name, each in stated.items()
        }
    if hasattr(stated, "shape"):
        return _spec_of(stated)
    listed = isinstance(stated, (list, tuple))
    if listed and all(isinstance(n, int | None) for n in stated):
        return keras.KerasTensor(stated, getattr(taken, "dtype", "float32"))
    if listed:
        entries = taken if isinstance(taken, list) else [None] * len(stated)
        return [_stated(*pair) for pair in zip(stated, entries)]
    raise ValueError(
        "Argument `input_shape` must be a shape with the batch axis, such as "
        "`(None, 128)`, a `keras.Input` to give the type, too, or a dict or "
        f"list of them. Received: input_shape={stated!r}."
    )


def of_batch_size(spec, size):
    """The same inputs with this batch size (None for any)."""
    return keras.tree.map_structure(
        lambda each: None if each is None else _resized(each, size), spec
    )


def batch_size_of(spec):
    """The fixed batch size of inputs, or None."""
    given = [each for each in keras.tree.flatten(spec) if each is not None]
    sizes = [each.shape[0] for each in given if each.shape]
    return next((size for size in sizes if size is not None), None)


def any_batch(features, size):
    """Features found for one batch size, as features of any batch size."""
    return keras.tree.map_structure(
        lambda each: (
            _resized(each, None) if each.shape[:1] == (size,) else each
        ),
        features,
    )


def _resized(spec, size):
    return keras.KerasTensor((size, *spec.shape[1:]), spec.dtype)


def inputs_for(role, model, inputs):
    """The inputs of a model, selected from a batch's, which may have more.

    If a dict has too many entries, Keras would take them by their order, not by
    their names.
    """
    taken = graph_inputs(model)
    if taken is None or not isinstance(inputs, dict):
        return inputs
    entries = taken
    if not isinstance(taken, dict):
        entries = {each.name: each for each in keras.tree.flatten(taken)}
    missing = [
        name
        for name, each in entries.items()
        if name not in inputs and not is_optional(each)
    ]
    if missing:
        raise ValueError(
            f"The {role} {model.name!r} takes an input {missing[0]!r}, which "
            "the data does not have. Received: inputs with the keys "
            f"{list(inputs)}, expected {list(entries)} among them."
        )
    picked = {name: inputs.get(name) for name in entries}
    if isinstance(taken, dict):
        return picked
    if isinstance(taken, (list, tuple)):
        return list(picked.values())
    return picked[taken.name]


def check_same_inputs(name, teacher_spec, student_spec):
    """Raises a `ValueError` if teacher and student take different inputs.

    Args:
        name: the teacher's name.
        teacher_spec: the teacher's inputs, as `KerasTensor`s.
        student_spec: the student's inputs, likewise.
    """
    both = teacher_spec, student_spec
    if all(isinstance(each, dict) for each in both):
        shared = teacher_spec.keys() & student_spec.keys()
        pairs = [(teacher_spec[each], student_spec[each]) for each in shared]
    else:
        both = [keras.tree.flatten(each) for each in both]
        pairs = list(zip(*both)) if len(both[0]) == len(both[1]) else []
    if not all(_same_data(*pair) for pair in pairs):
        raise _other_inputs("teacher", name, student_spec, teacher_spec)


def _same_data(first, second):
    # Keras itself adds or drops a last axis of size 1.
    shapes = [each.shape for each in (first, second)]
    short, long = sorted(shapes, key=len)
    if len(long) == len(short) + 1 and long[-1] in (1, None):
        long = long[:-1]
    return same_shape(short, long)


def fresh_inputs(model):
    """New `keras.Input`s like a model's inputs; None if they are unknown."""
    spec = input_spec(model)
    if spec is None:
        return None
    specs = keras.tree.flatten(spec)
    # Keras expects inputs in a dict to have the names of their keys.
    names = [each.name for each in getattr(model, "inputs", None) or specs]
    inputs = [
        keras.Input(each.shape[1:], dtype=each.dtype, name=name)
        for each, name in zip(specs, names)
    ]
    return keras.tree.pack_sequence_as(spec, inputs)


def take_weights(model, source):
    """Copies the weights of another model of the same architecture.

    After `set_weights` alone, a `Normalization` would keep the values that it
    computed from its weights when it was built.
    """
    model.set_weights(source.get_weights())
    finalize(model)


def finalize(model):
    """Lets layers compute values from their weights again, after assigning."""
    for layer in all_layers(model):
        if layer.built and hasattr(layer, "finalize_state"):
            layer.finalize_state()


def untracked(structure):
    """A structure with plain dicts and lists in place of Keras' tracked ones.

    JAX can't trace the tracked ones, as in a model's own structures.
    """
    if isinstance(structure, dict):
        return {key: untracked(v) for key, v in structure.items()}
    if isinstance(structure, list):
        return [untracked(value) for value in structure]
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
    unbuilt = unbuilt_layers(teacher)
    if unbuilt:
        raise ValueError(
            f"The teacher {teacher.name!r} is not built, so it can't have "
            f"been trained. Received: a teacher whose layers {unbuilt[:5]} "
            "have no weights yet. Train it, load its weights, or call it on "
            "a batch first."
        )


def unbuilt_layers(layer):
    """The names of a model's layers that have no weights yet, but will have.

    Not of layers that its predictions don't use, such as a preprocessor or a
    label encoder that it keeps, nor of layers without a `build`.
    """
    if not layer.built and makes_weights(layer):
        return [layer.name]
    if isinstance(layer, (Functional, keras.Sequential)):
        inner = layer.layers
    else:
        # A call of a model has run all layers that it needs, and a layer's
        # `build` has built all layers with weights.
        done = isinstance(layer, keras.Model) and was_called(layer)
        done = done or (makes_weights(layer) and bool(layer.weights))
        inner = [each for each in sublayers(layer) if each.built or not done]
    return [name for each in inner for name in unbuilt_layers(each)]


def check_student(student):
    """Raises a `ValueError` unless the student is a Keras model."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "Argument `student` must be a Keras model. Received: "
            f"student={student!r} (of type {type(student).__name__})."
        )
    if keras_compat.overrides(student, "train_step"):
        raise ValueError(
            "The student's `train_step` would never be called: a Distiller "
            "trains the student in its own step, with the distillation "
            f"terms. Received: student={student.name!r}, of the class "
            f"{type(student).__name__}, which overrides `train_step`. Move "
            "its computation to `compute_loss(x, y, y_pred, sample_weight)`, "
            "which is used as the hard loss."
        )


def is_optional(tensor):
    """Whether a Functional model's input may be None."""
    return is_symbolic(tensor) and getattr(
        producer(tensor)[0], "optional", False
    )


@contextlib.contextmanager
def explained(role, model, inputs):
    """Explains the error of a model that gets inputs of another shape."""
    try:
        yield
    except Exception as error:
        expected = input_spec(model)
        if expected is None or _fits(inputs, expected):
            raise
        raise _other_inputs(role, model.name, inputs, expected) from error


def _other_inputs(role, name, inputs, expected):
    return ValueError(
        f"The {role} {name!r} takes inputs of shape "
        f"{_shapes(expected)}. Received: inputs of shape "
        f"{_shapes(inputs)}. Teacher and student must take the same "
        "inputs: give data of that shape, or put a layer that converts the "
        "data (such as a `keras.layers.Resizing`) in front of the model."
    )


def _fits(inputs, expected):
    inputs, expected = keras.tree.flatten(inputs), keras.tree.flatten(expected)
    return len(inputs) == len(expected) and all(
        given is None or same_shape(given.shape, wanted.shape)
        for given, wanted in zip(inputs, expected)
    )


def same_shape(first, second):
    """Whether two shapes agree, as far as they are known."""
    return len(first) == len(second) and all(
        a == b or a is None or b is None for a, b in zip(first, second)
    )


def _shapes(inputs):
    shapes = keras.tree.map_structure(
        lambda x: None if x is None else _Shape(x.shape), inputs
    )
    return repr(shapes)


class _Shape:
    """A shape that `keras.tree` treats as a leaf."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def __repr__(self):
        return repr(self.shape)
