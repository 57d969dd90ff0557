"""What transfers are called in the logs."""

import re


def snake_case(name):
    """A class's name as Keras spells the names of layers.

    Example:
    >>> snake_case("SoftTargets")
    'soft_targets'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def distinct(names):
    """The names, later ones numbered where they repeat an earlier one.

    Example:
    >>> distinct(["hint", "soft_targets", "hint"])
    ['hint', 'soft_targets', 'hint_2']
    """
    found = []
    for first in names:
        name, number = first, 2
        while name in found:
            name, number = f"{first}_{number}", number + 1
        found.append(name)
    return found
