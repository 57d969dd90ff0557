"""A writer's part of a cache: records, appended shard by shard."""

import contextlib
import os
import re
import time
import zlib

import numpy as np

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.cache.part_journal import PartJournal
from keras_kd._src.cache.part_journal import broken
from keras_kd._src.cache.probes import of_a_shard
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import runs_of
from keras_kd._src.cache.rows import check_shards
from keras_kd._src.cache.rows import checked_rows
from keras_kd._src.cache.sealed import sealed
from keras_kd._src.cache.sealed import unsealed

SHARD_BYTES = 2**24
COMMIT_SECONDS = 30  # No more of the teacher's time is lost to a kill.
MOST_RUNS = 64  # Of a shard, in the journal; else they are in the records.


class PartWriter:
    """Appends records to a part; goes on where a killed writer ended.

    A shard counts as soon as the journal `shards.jsonl` has its line, which
    is written after its records are on the disk. What is behind the last such
    shard is cut off by the next writer.

    Args:
        folder: the part's folder, a `pathlib.Path`.
        dtype: type of a record.
        shard_samples: records in a shard, at most; None for about 16 MB.

    Raises:
        ValueError: another process is writing this part.

    Example:
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "parts" / "0"
    >>> with PartWriter(folder, np.dtype([("sample_index", "<i8")])) as part:
    ...     part.append(np.array([(0,), (1,)], part.dtype))
    ...     part.finish()
    >>> PartJournal(folder).samples
    2
    """

    def __init__(self, folder, dtype, shard_samples=None):
        self.folder = folder
        self.dtype = dtype
        self.shard_samples = shard_samples or max(
            1, SHARD_BYTES // dtype.itemsize
        )
        self._begin_shard()

    def _begin_shard(self):
        self._keys, self._checksum, self._probes = [], 0, []
        self._begun_at = time.monotonic()

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open_files = contextlib.ExitStack()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._open_files.close)
            self._journal_file = self._opened("shards.jsonl")
            lock(self._journal_file, self.folder)
            self.journal = PartJournal(self.folder)
            self._journal_file.truncate(self.journal.bytes)
            self._rows_file = self._opened("rows.npy")
            self._cut_off_unfinished()
            for file in (self._journal_file, self._rows_file):
                file.seek(0, os.SEEK_END)
            on_error.pop_all()
        return self

    def __exit__(self, *exception):
        # What no line of the journal counts is left out: half a shard is none.
        self._open_files.close()

    def _opened(self, name):
        path = self.folder / name
        path.touch()
        return self._open_files.enter_context(path.open("rb+"))

    def _cut_off_unfinished(self):
        begun = self._rows_file.seek(0, os.SEEK_END)
        self._write_header()
        end = self._rows_file.tell()
        end += self.journal.samples * self.dtype.itemsize
        if begun < end and self.journal.samples:
            what = f"rows.npy of {begun} bytes, expected {end} or more"
            raise ValueError(broken(self.folder.name, what))
        self._rows_file.truncate(end)

    def _write_header(self):
        # NumPy leaves room in it for any number of rows.
        self._rows_file.seek(0)
        np.lib.format.write_array_header_2_0(
            self._rows_file,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.journal.samples,),
            },
        )
        self._rows_file.flush()

    def begin(self, describe):
        """What the part is made with; written down by its first writer.

        Args:
            describe: function that returns it, a dict.

        Returns:
            The dict.
        """
        path = self.folder / "part.json"
        if self.journal.shards or path.exists():
            return read_description(self.folder)
        text = sealed(describe())
        atomic_write(path, lambda file: file.write_text(text))
        return read_description(self.folder)

    def stored_keys(self):
        """The keys of all samples that are in the part already."""
        path = self.folder / "rows.npy"
        part = {"name": self.folder.name, "samples": self.journal.samples}
        rows = checked_rows(path, part, self.dtype)
        check_shards(rows, part["name"], self.journal.shards)
        return np.array(rows[SAMPLE_INDEX])

    def append(self, records, probes=()):
        """Adds records; they count once their shard is committed.

        Args:
            records: array of the part's type, of shape `(n,)`.
            probes: `(key, checksum)` of the inputs of some samples.
        """
        data = records.view("u1").data
        write(self._rows_file, data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._keys.append(np.array(records[SAMPLE_INDEX]))
        self._probes += probes
        appended = sum(map(len, self._keys))
        late = time.monotonic() - self._begun_at > COMMIT_SECONDS
        if appended >= self.shard_samples or late:
            self.commit()

    def commit(self):
        """Makes a shard of what was appended since the last one."""
        if not any(map(len, self._keys)):
            return
        os.fsync(self._rows_file.fileno())
        keys = np.concatenate(self._keys)
        runs = runs_of(keys)
        line = {
            "samples": len(keys),
            "checksum": self._checksum,
            "runs": runs.tolist() if runs.shape[1] <= MOST_RUNS else None,
            "probes": of_a_shard(self._probes),
        }
        self._write_line(line)
        self._begin_shard()

    def _write_line(self, entry):
        write(self._journal_file, self.journal.line(entry))
        os.fsync(self._journal_file.fileno())

    def finish(self):
        """Commits the last shard, and says that the part is whole."""
        self.commit()
        self._write_header()
        os.fsync(self._rows_file.fileno())
        if not self.journal.finished:
            self._write_line({"finished": True})


def checked_name(name):
    """A part's name, which is a folder's.

    Raises:
        ValueError: it has other signs than letters, digits, `_` and `-`.

    Example:
    >>> checked_name("worker-7")
    'worker-7'
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(
            "A part's name is made of letters, digits, '_' and '-', for "
            f"example part='3'. Received: part={name!r}."
        )
    return name


def read_description(folder):
    """What a part was begun with, from its `part.json`.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = folder / "part.json"
    if not path.is_file():
        raise ValueError(broken(folder.name, "part.json is missing"))
    message = broken(folder.name, "part.json is damaged")
    return unsealed(path.read_bytes(), message)


def write(file, data):
    """Writes bytes, so that they outlive the process."""
    file.write(data)
    file.flush()


def lock(file, folder):
    """Holds a file against other processes that would write it, too."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(
            f"Another process is writing the part in {str(folder)!r}. Wait "
            "for it, or give each writer its own `part`."
        ) from error
