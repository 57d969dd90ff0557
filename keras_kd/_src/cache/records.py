"""Records: the stored predictions for one sample, as a NumPy structure."""

import contextlib
import mmap
import types

import numpy as np

from keras_kd._src.cache.encodings import KINDS

try:
    import resource
except ImportError:  # Windows has none.
    resource = None

SAMPLE_INDEX = "sample_index"
OUTPUT = "output"  # The name of the tap "", as fields need a name.
WIDE = 512  # Bytes: a wider record is not copied twice.


class StoredOutput:
    """One output of the teacher: its tap, shape and encoding."""

    def __init__(self, tap, shape, encoding):
        self.tap = tap
        self.name = tap or OUTPUT
        self.shape = tuple(shape)
        self.encoding = encoding
        # NumPy's files take field names in ASCII only.
        self._prefix = self.name.encode("ascii", "backslashreplace").decode()
        self.fields = {
            f"{self._prefix}.{field}": dtype
            for field, dtype in encoding.fields(self.shape).items()
        }

    def take(self, records):
        """This output's fields of the records."""
        skipped = len(self._prefix) + 1
        return {
            field[skipped:]: np.ascontiguousarray(records[field])
            for field in self.fields
        }

    def carried(self, records, parts, constants):
        """What a batch carries, from its records.

        Args:
            records: NumPy arrays by field.
            parts: the number of each record's part.
            constants: list of each part's constants.
        """
        fields = self.take(records)
        if wrong := self.encoding.outside(fields, self.shape):
            raise ValueError(
                f"Predictions at {self.name!r} are not what was written. "
                f"Received: {wrong}. Look at the cache with "
                "`keras_kd.cache.verify`, and copy what it names again."
            )
        if not self.encoding.needs_samples:
            return self.encoding.unpack(fields, {})
        scales = [part[self.name]["scale"] for part in constants]
        each = np.array(scales, "float32")[parts]
        ones = [1] * (len(self.shape) - 1)
        each = each.reshape(len(parts), *ones, each.shape[-1])
        return self.encoding.unpack(fields, {"scale": each})

    def fault(self, records):
        """A text on what is wrong with this output's records, or None."""
        fields = self.take(records)
        wrong = self.encoding.outside(fields, self.shape)
        if not wrong and not self.encoding.finite(fields):
            wrong = "NaN or infinity"
        return wrong and f"with {wrong} at {self.name!r}"

    def put(self, records, packed):
        """Fills in this output's fields of the records."""
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
    """The type of a record: its sample index, then each output's fields.

    The fields are packed without padding, to save bytes.
    """
    fields = [(SAMPLE_INDEX, np.dtype("<i8"))]
    for output in outputs:
        fields += output.fields.items()
    names = [name for name, _ in fields]
    if len(set(names)) < len(names):
        raise ValueError(
            "What is stored of two outputs would have one name. Received: "
            f"{names}. Rename one of the teacher's layers."
        )
    return np.dtype(fields)


# --- reading -----------------------------------------------------------------


def gather(records, rows):
    """Some rows of contiguous records: `{field: contiguous values}`.

    Records of up to 512 bytes are gathered whole, then split: so memory is
    read once for each record, not once for each field. Copying wider records
    twice would take longer than that saves.
    """
    if records.itemsize > WIDE:
        return {
            name: field[rows].view(dtype)
            for name, field, dtype in _fields(records)
        }
    whole = records.view(f"V{records.itemsize}").take(rows)
    return _split(whole, records.dtype)


def _split(whole, dtype):
    """The fields of whole records, which are given as raw bytes."""
    return {
        name: np.ascontiguousarray(field).view(dtype)
        for name, field, dtype in _fields(whole.view(dtype))
    }


def _fields(records):
    # NumPy copies a structure, or an array in it, value by value. To copy the
    # same number of raw bytes is several times as fast.
    types = [(name, records.dtype[name]) for name in records.dtype.names]
    in_bytes = [(name, f"V{dtype.itemsize}") for name, dtype in types]
    records = records.view(in_bytes)
    return [(name, records[name], dtype) for name, dtype in types]


class ShardMaps:
    """Mapped shards, whose records are gathered as if they were one array.

    A loop over the shards of a random batch would take several times as long
    as copying its records. So the memory from the first byte of the lowest
    shard to the last byte of the highest is treated as one array, in which a
    record may begin at any byte. Memory between the shards is never read:
    `starts` leads to shards only, and each row lies within its shard.

    An instance never changes, so a reading thread keeps its shards mapped.
    """

    def __init__(self, files, count, dtype):
        self.files = files  # Shard number -> (map, records), oldest first.
        self.dtype = dtype
        self.starts = np.full(count, -1, "int64")
        if files:
            self._place([records for _, records in files.values()])

    def _place(self, shards):
        addresses = np.array([records.ctypes.data for records in shards])
        lowest = int(addresses.min())
        ends = [a + r.nbytes for a, r in zip(addresses.tolist(), shards)]
        self.starts[list(self.files)] = addresses - lowest
        dtypes = [self.dtype, *(dtype for dtype, _ in self._offsets())]
        self._memory = {
            size: _memory(lowest, max(ends), size)
            for size in {dtype.itemsize for dtype in dtypes}
        }

    def _offsets(self):
        fields = self.dtype.fields
        return [fields[name][:2] for name in self.dtype.names]

    def gather(self, shards, rows):
        """The records at some shard numbers, and rows within the shards."""
        if not len(shards):
            return gather(np.empty(0, self.dtype), rows)
        if len(self.files) == 1:
            return gather(self.files[int(shards[0])][1], rows)
        size = self.dtype.itemsize
        begins = self.starts[shards] + rows * size
        if size <= WIDE:
            return _split(self._memory[size][begins], self.dtype)
        return {
            name: self._memory[dtype.itemsize][begins + offset].view(dtype)
            for name, (dtype, offset) in zip(self.dtype.names, self._offsets())
        }

    def prefetch(self, shards, rows):
        """Prefetches the records that are read next, all at once.

        A mapped record that isn't in memory is fetched when it is first read.
        A batch then waits for one record after another, although a disk serves
        a hundred at a time; and the bytes around each are fetched as well,
        which evicts other records. (A 6.9 GB cache in 4 GB of memory gave 316
        samples per second, and 61,000 with prefetching.) The request itself
        takes ten times as long as reading from memory.
        """
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        size = self.dtype.itemsize
        for shard, row in zip(shards.tolist(), rows.tolist()):
            mapped, records = self.files[shard]
            begin = len(mapped) - records.nbytes + row * size
            page = begin - begin % mmap.PAGESIZE
            # Only a hint to the system: if it fails, reading still works.
            with contextlib.suppress(OSError):
                mapped.madvise(mmap.MADV_WILLNEED, page, begin + size - page)


def _memory(lowest, end, size):
    """The process's memory as items of `size` bytes, one at each address."""
    interface = {
        "data": (lowest, True),  # To be read only.
        "shape": (end - lowest - size + 1,),
        "strides": (1,),
        "typestr": f"|V{size}",
        "version": 3,
    }
    return np.asarray(types.SimpleNamespace(__array_interface__=interface))


def blocks_read():
    """How many blocks this thread has read from disks; 0 if not known."""
    if not hasattr(resource, "RUSAGE_THREAD"):  # Linux has it.
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def most_maps():
    """How many shards are mapped at once: a part of the files allowed."""
    if resource is None:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**14 if soft < 0 else min(2**14, max(8, soft // 3))
