"""What things are called in logs, summaries and errors."""

import re


def snake_case(name):
    """A class's name as Keras spells the names of layers."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def distinct(names):
    """The names, later ones numbered where they repeat an earlier one."""
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
    """So many batches, in words."""
    return f"{count} batch" if count == 1 else f"{count} batches"


def loss_text(loss):
    """The name of what was given to `compile` as the loss."""
    if isinstance(loss, (dict, list, tuple)):
        values = loss.values() if isinstance(loss, dict) else loss
        return ", ".join(loss_text(each) for each in values)
    if loss is None or isinstance(loss, str):
        return str(loss)
    return getattr(loss, "name", None) or getattr(loss, "__name__", repr(loss))
