"""What models that are made of several have in common."""

import re

import keras

from keras_kd._src.specs import fresh_inputs


def checked_parts(parts, argument, least):
    """The parts as a dict, if they can be put into one model.

    Args:
        parts: what the user gave, a dict of names and Keras models.
        argument: what it is called.
        least: how many there must be.

    Raises:
        ValueError: they can't.

    Example:
    >>> parts = {"a": keras.Sequential(name="x"), "b": keras.Sequential()}
    >>> list(checked_parts(parts, "students", least=2))
    ['a', 'b']
    """
    if not isinstance(parts, dict) or len(parts) < least:
        raise ValueError(
            f"Argument `{argument}` must be a dict of at least {least} Keras "
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
    """New inputs, of what the first model takes whose inputs are known.

    Raises:
        ValueError: no model's are.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> first_inputs([model]).shape
    (None, 4)
    """
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
