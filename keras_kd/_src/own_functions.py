"""Functions of one's own that a model's layers were given."""

import inspect

from keras_kd._src.keras_compat import all_layers


def own_functions(model):
    """Yields activations and the like, of which configs give the names only."""
    for layer in all_layers(model):
        for attribute, value in vars(layer).items():
            # Keras wraps methods, and writes a lambda's code into the config.
            is_method = hasattr(type(layer), attribute)
            is_function = inspect.isfunction(value) and not is_method
            if is_function and value.__name__ != "<lambda>":
                yield value
