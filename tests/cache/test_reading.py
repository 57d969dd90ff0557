"""Records of a batch: gathered in memory, prefetched at once from a disk."""

import mmap
import os
import pathlib
import resource
import sys
import threading
import types

import keras
import numpy as np
import pytest
from writing_run import HALVES
from writing_run import SHARD
from writing_run import batches
from writing_run import truth
from writing_run import write

from keras_kd import cache

pytestmark = pytest.mark.one_backend
KEYS = np.array([33, 2, 17, 2, 39, 0])
has_advice = pytest.mark.skipif(
    not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice"
)


def written(folder, width, samples=50, **arguments):
    """A cache of three outputs, none of whose fields is aligned; and them."""
    inputs = keras.Input((4 + width,))
    outputs = {
        "classes": inputs[:, :4],
        "wide": inputs[:, 4:],
        "map": keras.layers.Reshape((2, 2))(inputs[:, :4]),
    }
    stored = {
        "[classes]": cache.TopK(1),
        "[wide]": cache.Dense("float16"),
        "[map]": cache.Dense("float32"),
    }
    x = np.random.default_rng(width).normal(size=(samples, 4 + width))
    x = x.astype("float32")
    model = keras.Model(inputs, outputs)
    write(folder, x, model, outputs=stored, **arguments)
    return x


# Records of less and of more than 512 bytes are gathered in two ways.
@pytest.mark.parametrize("width", [1, 230, 250, 512])
@pytest.mark.parametrize("shard_samples", [50, 7])
@pytest.mark.parametrize("memory", [False, True])
def test_each_field_is_gathered_bit_for_bit(
    width, shard_samples, memory, tmp_path
):
    x = written(tmp_path, width, batch_size=7, shard_samples=shard_samples)
    cached = cache.open(tmp_path, memory=memory)
    fields = cached.read(KEYS)
    wide, maps = fields["[wide]"]["values"], fields["[map]"]["values"]
    np.testing.assert_array_equal(wide, x[KEYS, 4:].astype("float16"))
    np.testing.assert_array_equal(maps.reshape(6, 4), x[KEYS, :4])
    indices = fields["[classes]"]["indices"]
    np.testing.assert_array_equal(indices[:, 0], x[KEYS, :4].argmax(axis=1))
    for values in keras.tree.flatten(fields):
        assert values.flags["C_CONTIGUOUS"] and values.flags["WRITEABLE"]
        assert len(values) == 6
    assert all(len(v) == 0 for v in keras.tree.flatten(cached.read(KEYS[:0])))


@pytest.mark.skipif(os.name == "nt", reason="limits are POSIX")
def test_more_shards_than_a_process_may_have_files(tmp_path):
    x = written(tmp_path, 1, 600, batch_size=1, shard_samples=1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 200, before[1]))
    try:
        cached = cache.open(tmp_path, verify="full")
        random = np.random.default_rng(0)
        for keys in [
            random.permutation(600),
            *random.integers(0, 600, (9, 64)),
        ]:
            found = cached.predictions_of(keys)["[wide]"]
            np.testing.assert_array_equal(found, x[keys, 4:].astype("float16"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_several_threads_read_at_once(tmp_path, monkeypatch):
    x = written(tmp_path, 1, 400, batch_size=1, shard_samples=1)
    expected = x[:, 4:].astype("float16")
    # Few shards are mapped, so that others make room again and again.
    if os.name != "nt":
        monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 40))
    cached, wrong = cache.open(tmp_path, verify="sizes"), []

    def read(seed):
        random = np.random.default_rng(seed)
        for keys in random.integers(0, 400, (60, 8)):
            found = cached.read(keys)["[wide]"]["values"]
            wrong.append(not np.array_equal(found, expected[keys]))

    threads = [threading.Thread(target=read, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 240 and not any(wrong)


class RecordedMap(mmap.mmap):
    """A mapped file that keeps what it was told to fetch."""

    told = []

    def madvise(self, advice, start, length):
        assert advice == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0 and start + length <= len(self)
        self.told.append((self, start, start + length))
        super().madvise(advice, start, length)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(mmap, "mmap", RecordedMap)
    monkeypatch.setattr(RecordedMap, "told", [])
    return RecordedMap.told


@pytest.fixture
def blocks(monkeypatch):
    """Sets how many blocks a thread has read, before and after each batch."""

    def counted(numbers):
        counts = iter(numbers)
        monkeypatch.setattr(
            resource,
            "getrusage",
            lambda _: types.SimpleNamespace(ru_inblock=next(counts)),
        )

    return counted


@has_advice
def test_the_pages_of_each_record_are_prefetched(tmp_path, told):
    x = written(tmp_path, 20, 3000, batch_size=1000, shard_samples=2000)
    rows = np.random.default_rng(0).permutation(3000)[:40]
    cache.open(tmp_path).read(rows)
    assert len(told) == 40
    for (file, start, end), row in zip(told, rows, strict=True):
        # All of the record, and no page that has nothing of it.
        content = x[row, 4:].astype("<f2").tobytes()
        assert content in file[start:end]
        inner = file[start + mmap.PAGESIZE : end]
        record = row.astype("<i8").tobytes() + b""
        assert end - start < 2 * mmap.PAGESIZE and len(inner) < mmap.PAGESIZE
        assert record in file[start:end]
    assert len({start for _, start, _ in told}) > 20


@has_advice
@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts by thread")
def test_prefetched_at_first_and_while_a_disk_is_read(tmp_path, told, blocks):
    write(tmp_path)
    cached, sizes = cache.open(tmp_path), []
    numbers = [0, 8, 8, 16, 16, 16, 16, 24, 32, 40]  # Before and after each.
    blocks(numbers)
    for _ in range(len(numbers) // 2):
        before = len(told)
        found = cached.predictions_of(KEYS)["output"]
        np.testing.assert_array_equal(found, truth()[KEYS].astype("float16"))
        sizes.append(len(told) - before)
    of_all = len(KEYS)
    assert sizes == [of_all, of_all, of_all, 0, of_all]


@has_advice
def test_prefetched_from_all_parts(tmp_path, told):
    for part, keys in HALVES.items():
        write(tmp_path, batches(keys), part=part)
    cache.merge(tmp_path, samples=40)
    found = cache.open(tmp_path).predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS].astype("float16"))
    assert len(told) == len(KEYS)
    shards = {(key % 2, key // 2 // SHARD) for key in KEYS.tolist()}
    assert len({id(file) for file, _, _ in told}) == len(shards)


@has_advice
def test_records_in_memory_are_not_prefetched(tmp_path, told):
    write(tmp_path)
    cache.open(tmp_path, memory=True).predictions_of(KEYS)
    assert not told


@has_advice
def test_advice_that_is_refused_is_done_without(tmp_path, monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    write(tmp_path)
    found = cache.open(tmp_path).predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS].astype("float16"))


def bytes_from_disks():
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


@has_advice
@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts by thread")
def test_records_that_are_on_a_disk_are_prefetched(tmp_path, told):
    written(tmp_path, 512, 2000, batch_size=1000, shard_samples=2000)
    cached, counts = cache.open(tmp_path, verify="sizes"), []
    for on_disk in (False, False, True):
        if on_disk:  # Drops a mapped file's pages: then no map may be left.
            (path,) = (tmp_path / "parts/0").glob("*.npy")
            cached = cache.open(tmp_path, verify="sizes")
            with path.open("rb") as file:
                os.fsync(file)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            before = bytes_from_disks()
            cached.read(np.arange(0, 2000, 99))
            if bytes_from_disks() == before:
                pytest.skip("the temporary folder is in memory")
        before = len(told)
        cached.read(np.arange(1, 2000, 99))
        counts.append(len(told) - before)
    assert counts[1] == 0 < counts[0]


@has_advice
def test_where_nobody_counts_it_is_prefetched_once(tmp_path, told, monkeypatch):
    monkeypatch.delattr(resource, "RUSAGE_THREAD", raising=False)
    write(tmp_path)
    cached = cache.open(tmp_path)
    cached.predictions_of(KEYS)
    before = len(told)
    assert before
    cached.predictions_of(KEYS)
    assert len(told) == before
