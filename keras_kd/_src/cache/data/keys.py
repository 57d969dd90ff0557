"""Keys: the numbers under which predictions are stored."""

import numpy as np

from keras_kd._src.cache.to_numpy import to_numpy

MOST_KEYS = 2**36


class Numbering:
    """Numbers samples, or the augmented views of samples."""

    # key = view * number of samples + sample_index
    # Written view by view, the keys are those of an array's rows: 0, 1, 2...

    def __init__(self, views=None):
        self.count = views["count"] if views else 1
        self.samples = views["samples"] if views else None

    def sample(self, key):
        """The index of a key's sample."""
        return int(key) % self.samples if self.samples else int(key)

    def keys(self, targets):
        """The keys of a batch's samples, int64 `(batch,)`."""
        check_indexed(targets)
        keys = _integers(targets["sample_index"], "sample_index")
        if self.count > 1:
            keys = keys + self._first_keys(targets, keys)
        return keys

    def _first_keys(self, targets, sample_index):
        if "view" not in targets:
            raise ValueError(
                f"The cache holds {self.count} augmented views of each sample, "
                'and a batch does not say which it has. Expected: "view" '
                'beside "sample_index" in `y`, as `cache.AugmentedViews` gives '
                f"it. Received: {sorted(targets)}."
            )
        view = _integers(targets["view"], "view")
        _check_range("augmented views", view, self.count)
        _check_range("samples", sample_index, self.samples)
        return view * self.samples


def check_indexed(targets):
    """Raises a `ValueError` unless a batch's `y` has sample indices."""
    if not (isinstance(targets, dict) and "sample_index" in targets):
        raise ValueError(
            "Each sample needs its index in the data, by which its prediction "
            "is found again. Received: a batch without one. Expected: batches "
            '`(x, {"labels": y, "sample_index": i})`, with integers from 0 '
            "(labels may be left out)."
        )


def _integers(values, name):
    values = to_numpy(values)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise ValueError(
            f"A batch must have one integer for each sample as `{name}`. "
            f"Received: {name} of type {values.dtype} and shape "
            f"{values.shape}."
        )
    return values.astype("int64")


def _check_range(what, values, number):
    outside = values[(values < 0) | (values >= number)]
    if len(outside):
        raise ValueError(
            f"The cache holds the {what} 0 to {number - 1}. Received: "
            f"{what[:-1]} {int(outside[0])}."
        )


class KeySet:
    """A set of keys, one byte for each; `room` is its first size."""

    def __init__(self, room):
        self._marks = np.zeros(room, bool)

    def has(self, keys):
        """Whether each key is in the set; bool of the keys' shape."""
        self._make_room(keys)
        return self._marks[keys]

    def add(self, keys):
        """Adds keys to the set."""
        self._make_room(keys)
        self._marks[keys] = True

    def _make_room(self, keys):
        if not len(keys):
            return
        lowest, highest = int(keys.min()), int(keys.max())
        if lowest < 0 or highest >= MOST_KEYS:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                "A sample index must be an integer from 0 to "
                f"{MOST_KEYS - 1}. Received: {wrong}."
            )
        if highest >= len(self._marks):
            grown = np.zeros(2 * (highest + 1), bool)
            grown[: len(self._marks)] = self._marks
            self._marks = grown
