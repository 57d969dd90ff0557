"""Part: the records that one writer stores, shard by shard."""

import contextlib
import re
import time

import numpy as np

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.atomic_write import remove_unfinished
from keras_kd._src.cache.format import check_shard
from keras_kd._src.cache.format import checksummed_json
from keras_kd._src.cache.format import read_part
from keras_kd._src.cache.format import write_array
from keras_kd._src.cache.input_checksums import checksums_of_shard
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.own_folder import held
from keras_kd._src.own_folder import inside

SHARD_BYTES = 2**27
# A killed writer loses at most 30 seconds of work; in a long run at most this
# share of its time, as a shard for each half minute would be too many.
COMMIT_SECONDS, COMMIT_SHARE = 30, 1 / 64


class Part:
    """A writer's part: shards, and `part.json`, which lists them.

    A shard counts as soon as `part.json` names it. That file is rewritten
    after each shard, so a killed writer loses one shard at most.
    """

    def __init__(self, folder, dtype, shard_samples=None):
        self.folder = folder
        self.dtype = dtype
        self.shard_samples = shard_samples or max(
            1, SHARD_BYTES // dtype.itemsize
        )
        self._begun_at = time.monotonic()
        self._begin_shard()

    def _begin_shard(self):
        self._records, self._input_checksums, self._samples = [], [], 0
        self._shard_begun_at = time.monotonic()

    def __enter__(self):
        path = self.folder.parents[1]
        inside(path, self.folder.relative_to(path))
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                held(
                    self.folder,
                    "Another process is writing the part. Wait for it, or "
                    "give each writer its own `part`.",
                )
            )
            for file in self.folder.glob("unfinished_*"):
                remove_unfinished(file)  # Of a writer that was killed.
            self._holding = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._holding.close()

    def begin(self, describe):
        """The part's description: `describe()` as its first writer gave it."""
        # Where shards exist, a lost part.json must be an error.
        known = any(self.folder.glob("*.npy"))
        if known or (self.folder / "part.json").exists():
            self.description = read_part(self.folder)
        else:
            self.description = {**describe(), "shards": [], "finished": False}
            self._write_description()
        return self.description

    @property
    def shards(self):
        return self.description["shards"]

    def stored_keys(self):
        """The keys of all samples that are in the part; checks its shards."""
        keys = [np.zeros(0, "int64")]
        for shard in self.shards:
            records = check_shard(self.folder, shard, self.dtype)
            keys.append(np.array(records[SAMPLE_INDEX]))
        self._remove_unnamed()
        return np.concatenate(keys)

    def _remove_unnamed(self):
        # A writer may be killed before `part.json` names its last shard.
        named = {shard["file"] for shard in self.shards}
        for file in self.folder.glob("[0-9]*-????????.npy"):
            if file.name not in named:
                file.unlink()

    def append(self, records, input_checksums=()):
        """Adds records, which count once their shard is committed."""
        self._records.append(records)
        self._samples += len(records)
        self._input_checksums += input_checksums
        if self._samples >= self.shard_samples or self._is_late():
            self.commit()

    def _is_late(self):
        now = time.monotonic()
        most = max(COMMIT_SECONDS, COMMIT_SHARE * (now - self._begun_at))
        return now - self._shard_begun_at > most

    def commit(self):
        """Writes a shard of the records appended since the last one."""
        if not self._samples:
            return
        stem = f"{len(self.shards):05}"
        shard = {
            **write_array(self.folder, stem, self._records),
            "samples": self._samples,
            "input_checksums": checksums_of_shard(self._input_checksums),
        }
        self.shards.append(shard)
        self.description["finished"] = False
        self._write_description()
        self._begin_shard()

    def finish(self):
        """Commits the last shard, and marks the part as finished."""
        self.commit()
        if not self.description["finished"]:
            self.description["finished"] = True
            self._write_description()

    def _write_description(self):
        text = checksummed_json(self.description)
        path = self.folder / "part.json"
        atomic_write(path, lambda file: file.write_text(text))


def checked_name(name):
    """A part's name, if it can name a folder; else a `ValueError`."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(
            "A part's name is made of letters, digits, '_' and '-', for "
            f"example part='3'. Received: part={name!r}."
        )
    return name
