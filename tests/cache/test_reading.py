"""Records of a batch: gathered in memory, asked for at once from a disk."""

import mmap
import os
import pathlib
import sys

import numpy as np
import pytest
from writing_run import HALVES
from writing_run import batches
from writing_run import truth
from writing_run import write

from keras_kd import cache
from keras_kd._src.cache import stored_records
from keras_kd._src.cache.readahead import blocks_read
from keras_kd._src.cache.readahead import fetch_ahead
from keras_kd._src.cache.records import WIDE
from keras_kd._src.cache.records import gather
from keras_kd._src.cache.records import split
from keras_kd._src.cache.rows import mapped

KEYS = np.array([33, 2, 17, 2, 39, 0])
has_advice = pytest.mark.skipif(
    not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice"
)


def random_records(samples, width):
    """Records of three fields, packed: none of them is aligned."""
    fields = [("a", "u1"), ("b", "<f2", (width,)), ("c", "<i4", (2, 3))]
    records = np.zeros(samples, fields)
    random = np.random.default_rng(width)
    records.view("u1")[:] = random.integers(0, 255, records.nbytes)
    return records


@pytest.mark.parametrize("width", [1, (WIDE - 25) // 2, WIDE])
def test_each_field_is_gathered_bit_for_bit(width):
    records = random_records(50, width)
    gathered = [gather(records, KEYS)]
    gathered.append(
        split(records.view(f"V{records.itemsize}")[KEYS], records.dtype)
    )
    for fields in gathered:
        assert list(fields) == ["a", "b", "c"]
        for name, values in fields.items():
            expected = np.stack([records[name][key] for key in KEYS])
            assert values.tobytes() == expected.tobytes()
            assert values.shape == expected.shape
            assert values.dtype == expected.dtype
            assert values.flags["C_CONTIGUOUS"] and values.flags["WRITEABLE"]


class RecordedMap(mmap.mmap):
    """A mapped file that keeps what it was asked to fetch."""

    asked = []

    def madvise(self, advice, start, length):
        assert advice == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0 and start + length <= len(self)
        self.asked.append((self, start, start + length))
        super().madvise(advice, start, length)


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(mmap, "mmap", RecordedMap)
    monkeypatch.setattr(RecordedMap, "asked", [])
    return RecordedMap.asked


def bytes_from_disks():
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def places(file, content):
    """Where each of some bytes begins in a file; each is there once."""
    whole = file[:]
    assert [whole.count(some) for some in content] == [1] * len(content)
    return [whole.index(some) for some in content]


@has_advice
def test_the_pages_of_each_record_are_asked_for(tmp_path, asked):
    records = random_records(5000, 20)
    np.save(tmp_path / "rows.npy", records)
    rows = np.random.default_rng(0).permutation(len(records))[:40]
    fetch_ahead(mapped(tmp_path / "rows.npy", "damaged"), rows)
    content = [records[row].tobytes() for row in rows]
    begins = places(asked[0][0], content)
    for (_, start, end), begin in zip(asked, begins, strict=True):
        # All of the record, and no page that has nothing of it.
        assert start <= begin < start + mmap.PAGESIZE
        assert end == begin + records.itemsize
    assert len({start for _, start, _ in asked}) > 20


@has_advice
def test_asked_of_the_first_batch_and_while_a_disk_is_read(
    tmp_path, asked, monkeypatch
):
    blocks = [0, 8, 8, 16, 16, 16, 16, 24, 32, 40]  # Before and after each.
    counts = iter(blocks)
    monkeypatch.setattr(stored_records, "blocks_read", lambda: next(counts))
    write(tmp_path)
    answers, sizes = cache.open(tmp_path), []
    for _ in range(len(blocks) // 2):
        before = len(asked)
        told = answers.views(KEYS)["output"]
        np.testing.assert_array_equal(told, truth()[KEYS].astype("float16"))
        sizes.append(len(asked) - before)
    of_all = len(KEYS)
    assert sizes == [of_all, of_all, of_all, 0, of_all]


@has_advice
def test_asked_of_all_parts(tmp_path, asked):
    for part, keys in HALVES.items():
        write(tmp_path, batches(keys), part=part)
    cache.merge(tmp_path, samples=40)
    told = cache.open(tmp_path).views(KEYS)["output"]
    np.testing.assert_array_equal(told, truth()[KEYS].astype("float16"))
    assert len(asked) == len(KEYS)
    assert len({id(file) for file, _, _ in asked}) == 2


@has_advice
def test_records_in_memory_are_not_asked_for(tmp_path, asked):
    write(tmp_path)
    cache.open(tmp_path, memory=True).views(KEYS)
    assert not asked


@has_advice
def test_advice_that_is_refused_is_done_without(tmp_path, monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    write(tmp_path)
    told = cache.open(tmp_path).views(KEYS)["output"]
    np.testing.assert_array_equal(told, truth()[KEYS].astype("float16"))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts by thread")
def test_blocks_of_a_disk_are_counted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(2**20))
    with open(path, "rb") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = bytes_from_disks(), blocks_read()
        file.read()
        blocks = blocks_read() - before[1]
        read = bytes_from_disks() - before[0]  # By all threads.
        if not read:
            pytest.skip("the temporary folder is in memory")
        assert 0 < blocks <= read / 512


def test_where_nobody_counts_nothing_is_asked_again(
    tmp_path, asked, monkeypatch
):
    monkeypatch.setattr("keras_kd._src.cache.readahead.resource", None)
    assert blocks_read() == 0
    write(tmp_path)
    answers = cache.open(tmp_path)
    answers.views(KEYS)
    before = len(asked)
    answers.views(KEYS)
    assert len(asked) == before
