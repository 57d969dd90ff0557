"""Numbering: the key under which each view of each sample is stored."""

from keras_kd._src.cache.to_numpy import to_numpy


class Numbering:
    """Counts samples, or the views of samples.

        key = view * number of samples + sample_index

    Written view by view, the keys are those of an array's rows: 0, 1, 2...

    Args:
        views: what `Views.settings` returns; None where there are none.

    Example:
    >>> numbering = Numbering({"count": 2, "samples": 10})
    >>> numbering.keys({"sample_index": [4, 7], "view": [0, 1]}).tolist()
    [4, 17]
    >>> numbering.sample(17)
    7
    """

    def __init__(self, views=None):
        self.count = views["count"] if views else 1
        self.samples = views["samples"] if views else None

    def sample(self, key):
        """The index of the sample that a key is of."""
        return int(key) % self.samples if self.samples else int(key)

    def keys(self, targets):
        """The keys of a batch's samples.

        Args:
            targets: a batch's `y`.

        Returns:
            int64 array of shape `(batch,)`.

        Raises:
            ValueError: samples or views are not told apart.
        """
        check_indexed(targets)
        keys = _whole_numbers(targets["sample_index"], "sample_index")
        if self.count > 1:
            keys = keys + self._first_keys(targets, keys)
        return keys

    def _first_keys(self, targets, sample_index):
        if "view" not in targets:
            raise ValueError(
                f"The cache holds {self.count} views of each sample, and a "
                'batch does not say which it has. Expected: "view" beside '
                '"sample_index" in `y`, as `cache.Views` gives it. Received: '
                f"{sorted(targets)}."
            )
        view = _whole_numbers(targets["view"], "view")
        _check_range("views", view, self.count)
        _check_range("samples", sample_index, self.samples)
        return view * self.samples


def check_indexed(targets):
    """Raises a `ValueError` unless a batch's `y` says which samples it has.

    Example:
    >>> check_indexed({"sample_index": [4, 7]})
    """
    if not (isinstance(targets, dict) and "sample_index" in targets):
        raise ValueError(
            "Each sample needs its index in the data, by which its answer is "
            "found again. Received: a batch without one. Expected: batches "
            '`(x, {"labels": y, "sample_index": i})`, with whole numbers from '
            "0 (labels may be left out)."
        )


def _whole_numbers(values, name):
    values = to_numpy(values)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise ValueError(
            f"A batch has one whole number for each sample as `{name}`. "
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
