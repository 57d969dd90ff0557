"""Records: what is stored of one sample, as a NumPy structure."""

import numpy as np

from keras_kd._src.cache.encodings import KINDS

SAMPLE_INDEX = "sample_index"
OUTPUT = "output"  # What the tap "" is called: fields need a name.
WIDE = 512  # Bytes: beyond, a record is not copied twice.


class StoredOutput:
    """One output of the teacher: where it is read, and how it is stored.

    Args:
        tap: text of the tap, `""` for the model's output.
        shape: of a sample's view.
        encoding: `Dense`, `TopK` or `Int8`.

    Example:
    >>> from keras_kd._src.cache.dense import Dense
    >>> StoredOutput("", (10,), Dense()).name
    'output'
    """

    def __init__(self, tap, shape, encoding):
        self.tap = tap
        self.name = tap or OUTPUT
        self.shape = tuple(shape)
        self.encoding = encoding
        # NumPy writes the names of fields in Latin letters only.
        self._prefix = self.name.encode("ascii", "backslashreplace").decode()
        self.fields = {
            f"{self._prefix}.{field}": dtype
            for field, dtype in encoding.fields(self.shape).items()
        }

    def take(self, records):
        """This output's fields, out of records."""
        skipped = len(self._prefix) + 1
        return {
            field[skipped:]: np.ascontiguousarray(records[field])
            for field in self.fields
        }

    def carried(self, records, parts, constants):
        """What a batch carries of this output.

        Args:
            records: of shape `(batch,)`.
            parts: the number of the part that each is of.
            constants: those of each part, by output.
        """
        fields = self.take(records)
        if not self.encoding.needs_samples:
            return self.encoding.unpack(fields, {})
        scales = [part[self.name]["scale"] for part in constants]
        each = np.array(scales, "float32")[parts]
        ones = [1] * (len(self.shape) - 1)
        each = each.reshape(len(parts), *ones, each.shape[-1])
        return self.encoding.unpack(fields, {"scale": each})

    def put(self, records, packed):
        """Fills in this output's fields of records."""
        for field, values in packed.items():
            records[f"{self._prefix}.{field}"] = values

    def get_config(self):
        return {
            "tap": self.tap,
            "shape": list(self.shape),
            "kind": self.encoding.kind,
            **self.encoding.get_config(),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        tap, shape = config.pop("tap"), config.pop("shape")
        return cls(tap, shape, KINDS[config.pop("kind")](**config))


def record_type(outputs):
    """The type of one sample's record: its key, then the outputs' fields.

    Each record says whose it is. Packed: bytes are what disks are short of.

    Args:
        outputs: list of `StoredOutput`.

    Returns:
        A structured `np.dtype`.

    Example:
    >>> from keras_kd._src.cache.top_k import TopK
    >>> record_type([StoredOutput("", (1000,), TopK(32))]).itemsize
    138
    """
    fields = [(SAMPLE_INDEX, np.dtype("<i8"))]
    for output in outputs:
        fields += output.fields.items()
    return np.dtype(fields)


def gather(records, rows):
    """Some rows of records, each field of them contiguous.

    Up to some 512 bytes, whole records are gathered, then split: memory that
    is far is then read once a record, not once a field. Wider ones take longer
    to copy twice than to find again.

    Args:
        records: structured array of shape `(samples,)`, contiguous.
        rows: integers of shape `(batch,)`.

    Returns:
        Dict, field -> array of shape `(batch, ...)`.

    Example:
    >>> records = np.array([(7, 0.5), (8, 0.0)], [("key", "i8"), ("p", "f4")])
    >>> gather(records, np.array([1, 1]))["key"].tolist()
    [8, 8]
    """
    if records.itemsize > WIDE:
        return {
            name: field[rows].view(dtype)
            for name, field, dtype in _fields(records)
        }
    return split(records.view(f"V{records.itemsize}").take(rows), records.dtype)


def split(whole, dtype):
    """The fields of whole records, each contiguous.

    Args:
        whole: records as so many bytes each, of shape `(batch,)`.
        dtype: type of a record.

    Returns:
        Dict, field -> array of shape `(batch, ...)`.

    Example:
    >>> records = np.array([(7, 0.5), (8, 0.0)], [("key", "i8"), ("p", "f4")])
    >>> split(records.view("V12"), records.dtype)["p"].tolist()
    [0.5, 0.0]
    """
    return {
        name: np.ascontiguousarray(field).view(dtype)
        for name, field, dtype in _fields(whole.view(dtype))
    }


def _fields(records):
    """`(name, values, dtype)` of each field, values as so many bytes a row.

    NumPy copies a structure, or an array in it, value by value, which takes
    several times as long.
    """
    types = [(name, records.dtype[name]) for name in records.dtype.names]
    in_bytes = [(name, f"V{dtype.itemsize}") for name, dtype in types]
    records = records.view(in_bytes)
    return [(name, records[name], dtype) for name, dtype in types]


def runs_of(keys):
    """Keys as runs of consecutive ones.

    Args:
        keys: integers of shape `(n,)`.

    Returns:
        int64 of shape `(2, runs)`: each run's first key, and how many.

    Example:
    >>> runs_of(np.array([4, 5, 6, 9, 8])).tolist()
    [[4, 9, 8], [3, 1, 1]]
    """
    begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 2) != 1)
    lengths = np.diff(begins, append=len(keys))
    return np.stack([keys[begins], lengths]).astype("int64")
