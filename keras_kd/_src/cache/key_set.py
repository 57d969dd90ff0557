"""KeySet: which samples were seen, a byte for each."""

import numpy as np

MOST_KEYS = 2**36


class KeySet:
    """A set of sample keys, whole numbers from 0.

    Args:
        room: how many keys to have room for at first; it grows.

    Example:
    >>> keys = KeySet(4)
    >>> keys.add(np.array([2, 9]))
    >>> keys.has(np.array([9, 3, 2])).tolist()
    [True, False, True]
    """

    def __init__(self, room):
        self._marks = np.zeros(room, bool)

    def has(self, keys):
        """Whether each of some keys is in it; bool of the keys' shape."""
        self._make_room(keys)
        return self._marks[keys]

    def add(self, keys):
        """Takes keys in.

        Raises:
            ValueError: one is not a sample's place in the data.
        """
        self._make_room(keys)
        self._marks[keys] = True

    def _make_room(self, keys):
        if not len(keys):
            return
        lowest, highest = int(keys.min()), int(keys.max())
        if lowest < 0 or highest >= MOST_KEYS:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                "A sample's index is its place in the data, a whole number "
                f"from 0. Received: {wrong}."
            )
        if highest >= len(self._marks):
            grown = np.zeros(2 * (highest + 1), bool)
            grown[: len(self._marks)] = self._marks
            self._marks = grown
