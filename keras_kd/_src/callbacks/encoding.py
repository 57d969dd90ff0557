"""Python values as JSON and arrays, and back; random generators, too."""

from itertools import repeat

import keras
import numpy as np


class NotEncodable(ValueError):
    """Raised for a value that can't be written and read again."""


def encode(value):
    """A value as JSON, in which arrays are left to `json.dumps(default=)`.

    It takes numbers, texts, None, lists, tuples and dicts of these, arrays,
    tensors, variables and random generators; anything else raises
    `NotEncodable`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode(each) for each in value]
    if type(value) is tuple:
        return {"tuple": [encode(each) for each in value]}
    if type(value) is dict:
        return {"dict": encode([list(pair) for pair in value.items()])}
    if isinstance(value, keras.Variable):
        return {"in_place": _array(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": _array(value)}
    if keras.ops.is_tensor(value):
        return {"tensor": _array(value)}
    if is_generator(value):
        return {"in_place": encode(generator_state(value))}
    raise NotEncodable(f"Received: {type(value)}, which can't be saved.")


def _array(value):
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.dtype.hasobject:
        raise NotEncodable(f"Received: {type(value)}, which can't be saved.")
    return array


def decode(saved, array, now=None):
    """The value that `encode` was given.

    Args:
        saved: the JSON.
        array: function of an array's number and type that returns the array.
        now: the present value; variables and generators in it are set.
    """
    if isinstance(saved, list):
        present = [*now] if isinstance(now, (list, tuple)) else []
        present += [None] * (len(saved) - len(present))
        return [decode(*each) for each in zip(saved, repeat(array), present)]
    if not isinstance(saved, dict):
        return saved
    if "number" in saved:
        return array(saved["number"], saved["dtype"])
    kind, content = next(iter(saved.items()))
    value = decode(content, array, now if kind == "tuple" else None)
    if kind == "in_place":
        if now is not None:  # Else it is created later in the run.
            set_state(now, value)
        return now
    return {
        "tuple": tuple,
        "dict": dict,
        "array": lambda found: found if found.ndim else found[()],
        "tensor": keras.ops.convert_to_tensor,
    }[kind](value)


def is_generator(value):
    """Whether a value is a random generator whose state can be read."""
    if isinstance(value, (np.random.Generator, keras.random.SeedGenerator)):
        return True
    package = type(value).__module__.partition(".")[0]
    of_package = package in ("random", "numpy", "torch", "tensorflow")
    names = {"getstate", "get_state"}
    return (of_package and bool(names & set(dir(value)))) or (
        package == "tensorflow" and type(value).__name__ == "Generator"
    )


def generator_state(generator):
    """The state of a random generator (or module), for `encode`."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if hasattr(generator, "getstate"):
        return generator.getstate()
    if not hasattr(generator, "get_state"):  # Keras' or TensorFlow's.
        return keras.ops.convert_to_numpy(generator.state)
    state = generator.get_state()
    return state.numpy() if hasattr(state, "numpy") else state


def set_state(target, state):
    """Sets the value of a variable or the state of a random generator."""
    if isinstance(target, keras.Variable):
        target.assign(state)
    elif isinstance(target, np.random.Generator):
        target.bit_generator.state = state
    elif hasattr(target, "setstate"):
        target.setstate(state)
    elif not hasattr(target, "set_state"):
        target.state.assign(state)
    elif type(target).__module__.startswith("torch"):
        import torch

        target.set_state(torch.tensor(state))
    else:
        target.set_state(state)
