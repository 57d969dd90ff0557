"""StoredRecords: finds records by key in the parts of a cache."""

import zlib

import numpy as np

from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.readahead import blocks_read
from keras_kd._src.cache.readahead import fetch_ahead
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import gather
from keras_kd._src.cache.records import split
from keras_kd._src.cache.remote import LocalFolder
from keras_kd._src.cache.rows import check_shard
from keras_kd._src.cache.rows import check_shards
from keras_kd._src.cache.rows import checked_rows
from keras_kd._src.cache.rows import mapped

VERIFIED_AT_OPEN = 2**28  # Bytes: about a fifth of a second.


class StoredRecords:
    """The records of all parts, mapped into memory when they are first used.

    Args:
        storage: the cache's files.
        manifest: its `Manifest`.

    Raises:
        ValueError: the index is damaged.

    Example:
    >>> import tempfile, keras, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, np.ones((8, 4)), folder, verbose=0)
    >>> records, parts = kd.cache.open(folder).stored.records(np.array([3, 1]))
    >>> records["sample_index"].tolist(), parts.tolist()
    ([3, 1], [0, 0])
    """

    def __init__(self, storage, manifest):
        self.storage, self.manifest = storage, manifest
        self.name = storage.name
        self._rows, self._on_disk = {}, True
        samples = [part["samples"] for part in manifest.parts]
        self._ends = np.cumsum(samples)
        self._begins = self._ends - samples
        self._open_index()

    def __getstate__(self):
        # Memory maps are opened anew in another process.
        state = {**vars(self), "_rows": {}}
        del state["_index"]
        return state

    def __setstate__(self, state):
        vars(self).update(state)
        self._open_index()

    def _open_index(self):
        name = self.manifest.index_file
        with self.storage.dropping(name):
            self._index = mapped(self.storage.local(name), self._damaged())
            self._check_index()

    def _check_index(self):
        shape = 2, self.manifest.content["index"]["runs"]
        if self._index.dtype.str != "<i8" or self._index.shape != shape:
            raise ValueError(self._damaged())
        # That of scattered samples may be large; records say whose they are.
        if self._index.nbytes <= VERIFIED_AT_OPEN:
            self._verify_index()

    def _verify_index(self):
        checksum = zlib.crc32(np.ascontiguousarray(self._index))
        if checksum != self.manifest.content["index"]["checksum"]:
            raise ValueError(self._damaged())

    def _damaged(self):
        return (
            f"The index of the cache {self.name!r} is damaged. Received: "
            f"{self.manifest.index_file} that is not the one of the manifest. "
            "Copy it again, or make it anew with `keras_kd.cache.merge`."
        )

    def _part(self, number):
        if number not in self._rows:
            part = self.manifest.parts[number]
            with self.storage.dropping(_rows_of(part)):
                self._rows[number] = self._mapped(part)
        return self._rows[number]

    def _mapped(self, part):
        path = self.storage.local(_rows_of(part))
        rows = checked_rows(path, part, self.manifest.dtype)
        if not isinstance(self.storage, LocalFolder):
            # It was just fetched, for the most part: look at all of it.
            check_shards(rows, part["name"], part["shards"])
        return rows

    def load(self):
        """Reads all records into memory."""
        for number in range(len(self.manifest.parts)):
            self._rows[number] = np.array(self._part(number))

    def verify(self, extent="full"):
        """Looks whether the records are what was written.

        Args:
            extent: as `verify` in `keras_kd.cache.open`.

        Raises:
            ValueError: a part is missing or damaged.
        """
        if extent == "full":
            with self.storage.dropping(self.manifest.index_file):
                self._verify_index()
        parts = self.manifest.parts
        sizes = self.storage.sizes([_rows_of(part) for part in parts])
        for part, size in zip(parts, sizes):
            with self.storage.dropping(_rows_of(part)):
                self._check_size(part, size)
        shards = [
            (number, *shard)
            for number, part in enumerate(parts)
            for shard in _spans(part)
        ]
        for chosen in self._chosen(shards, extent):
            number, place, start, shard = chosen
            records = self._part(number)[start : start + shard["samples"]]
            check_shard(records, shard, parts[number]["name"], place)

    def _check_size(self, part, size):
        # Caches of before don't say it; some header there must be.
        header = part.get("header", 1)
        expected = header + part["samples"] * self.manifest.dtype.itemsize
        if size < expected:  # It is larger where a writer has gone on.
            raise ValueError(
                f"The part {part['name']!r} of the cache {self.name!r} is cut "
                f"off. Received: rows.npy of {size} bytes, expected {expected} "
                "or more. Copy the part's folder again, or delete it, run its "
                "writer again, then `keras_kd.cache.merge`."
            )

    def _chosen(self, shards, extent):
        if extent == "full" or not shards:
            return shards
        if extent == "sizes" or not isinstance(self.storage, LocalFolder):
            return []
        total = self._ends[-1] * self.manifest.dtype.itemsize
        step = -(-total // VERIFIED_AT_OPEN)
        return shards[::step]

    def rows_of(self, keys):
        """Where the records of keys are, counted over all parts.

        Raises:
            ValueError: the cache has none of one.
        """
        run = np.searchsorted(self._index[0], keys, side="right") - 1
        rows = self._index[1][run]
        missing = (rows < 0) | (keys < 0)
        if missing.any():
            sample = Numbering(self.manifest.views).sample(keys[missing][0])
            raise ValueError(
                f"The cache {self.name!r} has no answer for sample {sample}. "
                f"Received: sample_index {sample}; the cache holds "
                f"{self.manifest.samples} samples. Is it the cache of this "
                "data, and are samples numbered as they were then?"
            )
        return rows + keys - self._index[0][run]

    def records(self, keys):
        """The records of keys, and the number of the part of each.

        Args:
            keys: int64 of shape `(batch,)`: sample indices, or
                `view * samples + sample`.

        Returns:
            `(records, parts)`: each field's values by name, of shape
            `(batch, ...)`, and integers of shape `(batch,)`.
        """
        rows = self.rows_of(keys)
        parts = np.searchsorted(self._ends, rows, side="right")
        records = self._records_at(rows, parts)
        if not np.array_equal(records[SAMPLE_INDEX], keys):
            raise ValueError(
                f"The records of the cache {self.name!r} are not those of the "
                "samples that its index says. Look at it with "
                "`cache.open(path, verify='full')`."
            )
        return records, parts

    def _shares(self, rows, parts):
        """`(mine, records, places)` of each part: which of the batch it has."""
        if len(rows) and (parts == parts[0]).all():
            places = rows - self._begins[parts[0]]
            return [(slice(None), self._part(parts[0]), places)]
        order = np.argsort(parts, kind="stable")
        changes = np.flatnonzero(np.diff(parts[order])) + 1
        shares = []
        for mine in np.split(order, changes) if len(rows) else []:
            number = parts[mine[0]]
            places = rows[mine] - self._begins[number]
            shares.append((mine, self._part(number), places))
        return shares

    def _records_at(self, rows, parts):
        shares = self._shares(rows, parts)
        before = blocks_read()
        if self._on_disk:
            for _, records, places in shares:
                fetch_ahead(records, places)
        records = self._gathered(shares)
        self._on_disk = blocks_read() > before
        return records

    def _gathered(self, shares):
        if len(shares) == 1:
            ((_, records, places),) = shares
            return gather(records, places)
        samples = sum(len(places) for _, _, places in shares)
        whole = np.empty(samples, f"V{self.manifest.dtype.itemsize}")
        for mine, records, places in shares:
            whole[mine] = records.view(whole.dtype)[places]
        return split(whole, self.manifest.dtype)


def _rows_of(part):
    return f"parts/{part['name']}/rows.npy"


def _spans(part):
    """`(place, start, shard)` of a part's shards."""
    start = 0
    for place, shard in enumerate(part["shards"]):
        yield place, start, shard
        start += shard["samples"]
