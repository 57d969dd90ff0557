"""Inputs and outputs of models of other libraries: one tensor or several."""

import inspect
import numbers

import keras

from keras_kd._src.arguments import received


def specs_of(shape, dtype="float32", name="shape"):
    """A sample's shape, or a dict or list of them, as `KerasTensor`s."""
    if isinstance(shape, dict):
        return {
            key: specs_of(each, _entry(dtype, key), name)
            for key, each in shape.items()
        }
    sizes = isinstance(shape, (list, tuple)) and all(map(_is_size, shape))
    if sizes:
        return keras.KerasTensor((None, *shape), dtype=dtype)
    if isinstance(shape, (list, tuple)):
        return [
            specs_of(each, _entry(dtype, place), name)
            for place, each in enumerate(shape)
        ]
    raise ValueError(
        f"Argument `{name}` must be a sample's shape, a tuple without the "
        f"batch, or a dict or list of them. {received(name, shape)}"
    )


def _is_size(value):
    return value is None or isinstance(value, numbers.Integral)


def _entry(dtype, key):
    return dtype if isinstance(dtype, str) else dtype[key]


def entries_for(expected, inputs, who):
    """The inputs in the structure of `expected`; of a dict only its keys."""
    if isinstance(expected, dict):
        given = sorted(inputs) if isinstance(inputs, dict) else None
        missing = [key for key in expected if given is None or key not in given]
        if missing:
            raise ValueError(
                f"The {who} takes a dict of inputs with the entries "
                f"{list(expected)}. Received: {_text(inputs)}. Name the "
                "entries of the data in this way."
            )
        return {key: inputs[key] for key in expected}
    if isinstance(expected, list):
        several = isinstance(inputs, (list, tuple))
        if not several or len(inputs) != len(expected):
            raise ValueError(
                f"The {who} takes a list of {len(expected)} inputs. Received: "
                f"{_text(inputs)}. Give the same number, in its order."
            )
        return list(inputs)
    if keras.tree.is_nested(inputs):
        raise ValueError(
            f"The {who} takes one input. Received: {_text(inputs)}. Give one "
            "tensor, or make `input_shape` a dict or list."
        )
    return inputs


def _text(inputs):
    if isinstance(inputs, dict):
        return f"a dict with the entries {sorted(inputs)}"
    if isinstance(inputs, (list, tuple)):
        return f"a list of {len(inputs)}"
    return f"one input of shape {tuple(inputs.shape)}"


def call_with(function, inputs):
    """Calls a function: a dict gives keyword arguments, a list positional."""
    if isinstance(inputs, dict):
        return function(**inputs)
    if isinstance(inputs, (list, tuple)):
        return function(*inputs)
    return function(inputs)


def check_call(function, inputs, who):
    """Raises a `ValueError` unless the function takes such inputs."""
    signature = inspect.signature(function)
    try:
        call_with(signature.bind, inputs)
    except TypeError as error:
        raise ValueError(
            f"The {who} takes {list(signature.parameters)}. Received: "
            f"{_text(inputs)}: {error}. Name the entries of the data in this "
            "way, or wrap the model in a function that renames them."
        ) from error
