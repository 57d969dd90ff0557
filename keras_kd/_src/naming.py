"""Names in logs, summaries and errors."""

import re


def snake_case(name):
    """A class name in the form of Keras' layer names: snake_case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def distinct(names):
    """The names, with a number added to those that repeat an earlier one."""
    found = []
    for first in names:
        name, number = first, 2
        while name in found:
            name, number = f"{first}_{number}", number + 1
        found.append(name)
    return found


def model_text(model):
    """A model's name, class and size."""
    size = f"{model.count_params():,} parameters" if model.built else "unbuilt"
    return f"{model.name} ({type(model).__name__}, {size})"


def batches_text(count):
    """A number of batches, in words."""
    return f"{count} batch" if count == 1 else f"{count} batches"


def loss_text(loss):
    """The name of the argument `loss` of `compile`."""
    if isinstance(loss, (dict, list, tuple)):
        values = loss.values() if isinstance(loss, dict) else loss
        return ", ".join(loss_text(each) for each in values)
    if loss is None or isinstance(loss, str):
        return str(loss)
    return getattr(loss, "name", None) or getattr(loss, "__name__", repr(loss))
