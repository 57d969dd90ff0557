"""StoredRecords: finds the records of samples in the files of a cache."""

import functools

import numpy as np

from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.format import check_file
from keras_kd._src.cache.format import damaged
from keras_kd._src.cache.format import has_header
from keras_kd._src.cache.format import map_file
from keras_kd._src.cache.format import rows_of_file
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import ShardMaps
from keras_kd._src.cache.records import blocks_read
from keras_kd._src.cache.records import gather
from keras_kd._src.cache.records import most_maps

CHECKED_AT_OPEN = 2**28  # Bytes: about a fifth of a second.


class StoredRecords:
    """The records of a cache, mapped into memory when they are first used."""

    def __init__(self, storage, manifest):
        self.storage, self.manifest = storage, manifest
        self.shards = [
            (number, shard)
            for number, part in enumerate(manifest.parts)
            for shard in part["shards"]
        ]
        self._part_of = np.array([number for number, _ in self.shards])
        samples = np.array([shard["samples"] for _, shard in self.shards])
        self._ends = np.cumsum(samples)
        self._begins = self._ends - samples
        index = self.manifest.content["index"]["bytes"]
        # An index of scattered samples may be large. It need not be checked
        # here, as each record holds its sample's key.
        self._index_is_small = index <= CHECKED_AT_OPEN
        # Bytes whose checksums were compared.
        self.checked_bytes = index if self._index_is_small else 0
        self._check_sizes()
        self._open()

    def __getstate__(self):
        # Memory maps are opened again in another process.
        kept = {**vars(self)}
        for name in ("_index", "_maps", "_in_memory", "_on_disk", "_most"):
            del kept[name]
        return kept

    def __setstate__(self, state):
        vars(self).update(state)
        self._open()

    def _open(self):
        self._maps = self._of_files({})
        self._in_memory = None
        self._on_disk = True
        self._most = most_maps()
        about = self.manifest.content["index"]
        check = self._index_is_small
        mapped = self._mapped(*self._index_file(), check=check)
        rows = rows_of_file(mapped, 2 * about["runs"], np.dtype("<i8"))
        self._index = rows.reshape(2, -1)

    def _index_file(self):
        about = self.manifest.content["index"]
        message = (
            f"The index of the cache {self.storage.name!r} is damaged. Copy "
            "it again, or rewrite it with `keras_kd.cache.merge`."
        )
        return about["file"], about, message

    def _shard_file(self, number):
        part, shard = self.shards[number]
        name = self.manifest.parts[part]["name"]
        return f"parts/{name}/{shard['file']}", shard, damaged(name)

    def _mapped(self, path, about, message, check):
        try:
            mapped = map_file(self.storage.local(path), about, message)
            if check:
                check_file(mapped, about, message)
        except ValueError as error:
            self.storage.drop(path, error)
            raise
        return mapped

    def load(self):
        """Reads all records into memory."""
        self._in_memory = np.concatenate(
            [self._shard(number)[1] for number in range(len(self.shards))]
        )

    def _shard(self, number):
        # A remote file was usually fetched just now: all of it is checked.
        check = not self.storage.is_local
        mapped = self._mapped(*self._shard_file(number), check=check)
        samples = self.shards[number][1]["samples"]
        return mapped, rows_of_file(mapped, samples, self.manifest.dtype)

    def _files(self):
        """`(path, entry in the manifest, error)` of the index and shards."""
        shards = [self._shard_file(n) for n in range(len(self.shards))]
        return [self._index_file(), *shards]

    def _check_sizes(self):
        """Raises a `ValueError` unless sizes are those of the manifest.

        It runs before a file is fetched or mapped: none may be larger than the
        manifest says.
        """
        files = self._files()
        sizes = self.storage.sizes([path for path, _, _ in files])
        for (path, about, message), size in zip(files, sizes):
            if size != about["bytes"]:
                error = ValueError(
                    f"{message} Received: {path} of {size} bytes, expected "
                    f"{about['bytes']}."
                )
                self.storage.drop(path, error)
                raise error

    def verify(self, extent):
        """Raises a `ValueError` unless files match their checksums."""
        index, *shards = self._files()
        files = shards
        if extent == "auto" and self.storage.is_local:
            total = sum(about["bytes"] for _, about, _ in shards)
            files = shards[:: -(-total // CHECKED_AT_OPEN)]
        elif extent != "full":
            files = []
        if extent == "full" and not self._index_is_small:
            files = [*files, index]
        for file in files:
            self._mapped(*file, check=True)
            self.checked_bytes += file[1]["bytes"]

    @property
    def verified(self):
        """The share of all bytes whose checksums were compared."""
        return self.checked_bytes / self.bytes

    @property
    def bytes(self):
        """The size of all files."""
        return sum(about["bytes"] for _, about, _ in self._files())

    def faults(self):
        """A text for each file that is wrong; reads all files."""
        found = [self._fault(*self._index_file(), self._check_index)]
        for number in range(len(self.shards)):
            check = functools.partial(self._check_shard, number)
            found.append(self._fault(*self._shard_file(number), check))
        return [fault for fault in found if fault]

    def _fault(self, path, about, message, check):
        try:
            mapped = self._mapped(path, about, message, check=True)
            wrong = check(mapped)
        except ValueError as error:
            return str(error)
        return wrong and f"{message} Received: {path} {wrong}."

    def _check_index(self, mapped):
        about, (keys, rows) = self.manifest.content["index"], self._index
        if not has_header(mapped, "<i8", (2, about["runs"])):
            return "with another header than it was written with"
        lengths = np.diff(keys, append=keys[-1:])
        held = int(lengths[rows >= 0].sum())
        if (lengths[:-1] <= 0).any() or rows[-1] >= 0 or held != self._ends[-1]:
            return f"of {held} samples, expected {self._ends[-1]} in order"
        return None

    def _check_shard(self, number, mapped):
        samples, dtype = self.shards[number][1]["samples"], self.manifest.dtype
        if not has_header(mapped, dtype, (samples,)):
            return "with another header than it was written with"
        records = rows_of_file(mapped, samples, dtype)
        step = max(1, 2**24 // dtype.itemsize)
        for begin in range(0, samples, step):
            some = records[begin : begin + step]
            first = self._begins[number] + begin
            rows = np.arange(first, first + len(some))
            if not np.array_equal(self.rows_of(some[SAMPLE_INDEX]), rows):
                return "with records of other samples than the index says"
            for output in self.manifest.outputs:
                if wrong := output.fault(some):
                    return wrong
        return None

    def rows_of(self, keys):
        """The rows of keys, counted over all shards."""
        run = np.searchsorted(self._index[0], keys, side="right") - 1
        rows = self._index[1][run]
        missing = (rows < 0) | (keys < 0)
        if missing.any():
            sample = Numbering(self.manifest.views).sample(keys[missing][0])
            raise ValueError(
                f"The cache {self.storage.name!r} has no predictions for "
                f"sample {sample}. Received: sample_index {sample}; the cache "
                f"holds {self.manifest.samples} samples. Is it the cache of "
                "this data, and are samples numbered as they were then?"
            )
        rows = rows + keys - self._index[0][run]
        if ((rows < 0) | (rows >= self._ends[-1])).any():
            # Rows become addresses.
            _, _, message = self._index_file()
            raise ValueError(
                f"{message} Received: rows up to {rows.max()}, expected rows "
                f"from 0 to {self._ends[-1] - 1}."
            )
        return rows

    def records(self, keys):
        """`(records, parts)`: records by field, and each one's part number."""
        rows = self.rows_of(keys)
        shards = np.searchsorted(self._ends, rows, side="right")
        if self._in_memory is None:
            records = self._gathered(shards, rows - self._begins[shards])
        else:
            records = gather(self._in_memory, rows)
        if not np.array_equal(records[SAMPLE_INDEX], keys):
            raise ValueError(
                f"The records of the cache {self.storage.name!r} are not those "
                "of the samples that its index says. Received: records of "
                f"{records[SAMPLE_INDEX][:5].tolist()}, ..., expected "
                f"{keys[:5].tolist()}, .... Check it with "
                "`cache.open(path, verify='full')`."
            )
        return records, self._part_of[shards]

    def _gathered(self, shards, rows):
        # Where a batch needs more shards than may be mapped at once, halve it.
        if len(self.shards) > self._most < len(np.unique(shards)):
            halves = zip(np.array_split(shards, 2), np.array_split(rows, 2))
            first, second = (self._gathered(*half) for half in halves)
            return {
                name: np.concatenate([first[name], second[name]])
                for name in first
            }
        maps = self._maps_of(shards)
        before = blocks_read()
        # On for the first batch, then as long as batches come from a disk.
        if self._on_disk:
            maps.prefetch(shards, rows)
        records = maps.gather(shards, rows)
        self._on_disk = blocks_read() > before
        return records

    def _maps_of(self, shards):
        """Maps that hold these shards; the oldest others are closed."""
        maps = self._maps  # Another thread may replace it.
        few = len(maps.files) < len(self.shards)
        if few and (maps.starts[shards] < 0).any():
            needed = np.unique(shards).tolist()
            files, maps = dict(maps.files), None
            missing = [number for number in needed if number not in files]
            for number in list(files):
                if len(files) + len(missing) <= self._most:
                    break
                if number not in needed:
                    del files[number]
            self._maps = self._of_files(files)  # Closes those left out.
            files |= {number: self._shard(number) for number in missing}
            maps = self._maps = self._of_files(files)
        return maps

    def _of_files(self, files):
        return ShardMaps(dict(files), len(self.shards), self.manifest.dtype)
