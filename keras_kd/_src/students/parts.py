"""Checks and inputs of models that are made of several models."""

import re

import keras

from keras_kd._src.specs import fresh_inputs


def checked_parts(parts, argument):
    """The user's dict of two or more models, checked to fit into one model."""
    if not isinstance(parts, dict) or len(parts) < 2:
        raise ValueError(
            f"Argument `{argument}` must be a dict of at least 2 Keras "
            "models, such as {'small': ..., 'large': ...}. Received: "
            f"{argument}={parts!r}."
        )
    for key, part in parts.items():
        named = isinstance(key, str) and re.fullmatch(r"\w+", key)
        # "hard" would collide with the distiller's "hard_loss" in the logs.
        if not named or key == "hard" or not isinstance(part, keras.Model):
            raise ValueError(
                f"Argument `{argument}` must map names of letters, digits and "
                "underscores, other than 'hard', to Keras models. Received: "
                f"{key!r}: {part!r}."
            )
    names = [part.name for part in parts.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"The {argument} must be different models with different names. "
            f"Received: models named {names}, of which {twice} occur more "
            "than once. Make each a new model with its own `name=`."
        )
    return dict(parts)


def first_inputs(models):
    """New inputs like those of the first model whose inputs are known."""
    models = list(models)
    for model in models:
        inputs = fresh_inputs(model)
        if inputs is not None:
            return inputs
    raise ValueError(
        "The shape of the inputs is not known. Received: the models "
        f"{[model.name for model in models]}, which are not built. Give one "
        "of them a `keras.Input`, or call it on a batch first."
    )
