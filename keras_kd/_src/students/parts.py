"""What models that are made of several have in common."""

import re

import keras

from keras_kd._src.specs import fresh_inputs


def checked_parts(parts, argument):
    """The user's dict of two models or more, if they fit into one model."""
    if not isinstance(parts, dict) or len(parts) < 2:
        raise ValueError(
            f"Argument `{argument}` must be a dict of at least 2 Keras "
            "models, such as {'small': ..., 'large': ...}. Received: "
            f"{argument}={parts!r}."
        )
    for key, part in parts.items():
        named = isinstance(key, str) and re.fullmatch(r"\w+", key)
        # The distiller's own "hard_loss" is in the logs as well.
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
            f"Each of the {argument} must be a model of its own, with a name "
            f"of its own. Received: models named {names}, of which {twice} "
            "more than once. Make each anew, with another `name=`."
        )
    return dict(parts)


def first_inputs(models):
    """New inputs, of what the first model takes whose inputs are known."""
    models = list(models)
    for model in models:
        inputs = fresh_inputs(model)
        if inputs is not None:
            return inputs
    raise ValueError(
        "The shape of the inputs is not known. Received models "
        f"{[model.name for model in models]} that don't say what they take. "
        "Give one a `keras.Input`, or call it on a batch first."
    )
