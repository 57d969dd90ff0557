"""Finds the user's own functions in a model's layers."""

import inspect

from keras_kd._src.keras_compat import all_layers


def custom_functions(model):
    """Yields activations and the like, of which configs have only the names."""
    for layer in all_layers(model):
        for attribute, value in vars(layer).items():
            # Not methods, which Keras wraps, nor lambdas, whose code is in the
            # config.
            is_method = hasattr(type(layer), attribute)
            is_function = inspect.isfunction(value) and not is_method
            if is_function and value.__name__ != "<lambda>":
                yield value
