"""How fast answers are read, of a cache of any size and number of parts.

    KERAS_BACKEND=torch python examples/benchmarks/cache_reading.py

Top-32 of 1000 classes, 138 bytes a sample, are read in random batches of 256,
on one core, from memory that the system holds files in (the page cache):

- caches of 100,000 samples in 1, 16 and 64 parts: each part a range of the
  samples; or dealt out in blocks of 256, as to workers that take batches in
  turns; or one part that was written in random order, whose index is as long
- simulated ones of 10 and 100 million samples: sparse files, up to 13.8 GB, of
  which about 2 GB are on the disk while this runs. Every eighth shard has
  records; a million of them are read
- these from a disk, on the clock: 50,000 records that aren't in memory (Linux)

Printed are seconds to open it, on the clock and of the core's own time, with
all that `cache.open` verifies; how many MiB the process's memory grows by the
time that all is read; and samples a second of the core's own time, which
others on the machine disturb less than the clock, median and quartiles over
runs of 20 batches. "first" is the first time that a record is read, when the
system has to map its page into the process; "again" is the second time. "of
NumPy" are the two rates of a cache in one part to those of NumPy indexing the
same file, mapped anew: what is left to gain, and of a large cache how much of
the fall is the memory's. The backend has no part in it, but to write. A plot
goes to `cache_reading.png`. Two minutes; `--smoke` takes a few seconds and
its figures mean nothing.

On one core of an AMD EPYC, 100,000 samples in 1, 16, 64 parts: 7.8, 2.7 and
1.1 million samples a second. 10 million: 7.5 first and 7.7 again. 100 million:
opened in 0.08 s, 5.7 and 6.6; each record is on a page of its own there, and
NumPy itself falls to less than half: ours is 2.4 and 2.7 times its rate, of the
small one's 1.3. From the disk, 10 and 100 million: 142,000 and 68,000 a second.
"""

import argparse
import os
import pathlib
import tempfile
import time
import zlib

import keras
import matplotlib
import numpy as np
from keras import layers

from keras_kd import cache
from keras_kd._src.cache.manifest import Manifest
from keras_kd._src.cache.part import PartWriter
from keras_kd._src.cache.part import read_description

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES, BATCH = 1000, 256
WALL, CORE = 0, 1  # Of the clocks.
SHARDS = 8  # of as many, one has records to read in the simulated cache


def write_one(path, samples):
    """A cache of random samples in one part, and its records."""
    head = layers.Dense(CLASSES, kernel_initializer="random_normal")
    teacher = keras.Sequential([keras.Input((16,)), head])
    x = np.random.default_rng(0).normal(scale=30, size=(samples, 16))
    x, stored = x.astype("float32"), cache.TopK(32)
    cache.write(teacher, x, path, outputs=stored, batch_size=2048, verbose=0)
    return np.load(path / "parts/0/rows.npy")


def deal_out(path, example, records, parts, block):
    """The same cache in several parts, each of every so many blocks."""
    begun = read_description(example / "parts/0")
    numbers = np.arange(len(records))
    blocks = np.split(numbers, range(block, len(records), block))
    for part in range(parts):
        folder = path / "parts" / str(part)
        with PartWriter(folder, records.dtype) as writer:
            writer.begin(lambda: begun)
            writer.append(records[np.concatenate(blocks[part::parts])])
            writer.finish()
    cache.merge(path, samples=len(records))


def simulate(path, example, records, samples, read):
    """A cache in a sparse file; returns the samples that can be read.

    Each shard has the checksum that it must have, also those without records.
    """
    manifest = Manifest.parse((example / "manifest.json").read_bytes(), "")
    (path / "parts/0").mkdir(parents=True)
    file = path / "parts/0/rows.npy"
    rows = np.lib.format.open_memmap(
        file, "w+", records.dtype, (samples,), version=(2, 0)
    )
    shard = min(2**24 // records.itemsize, samples // SHARDS)
    random = np.random.default_rng(0)
    keys = random.integers(0, samples // (SHARDS * shard), read)
    keys = keys * SHARDS * shard + random.integers(0, shard, read)
    keys = random.permutation(np.unique(keys))
    there = records[random.integers(0, len(records), len(keys))]
    there["sample_index"] = keys
    rows[keys] = there
    of_zeros, shards = zlib.crc32(bytes(shard * records.itemsize)), []
    for start in range(0, samples, shard):
        span = rows[start : start + shard]
        empty = len(shards) % SHARDS and len(span) == shard
        checksum = of_zeros if empty else zlib.crc32(span)
        about = {"samples": len(span), "checksum": checksum}
        shards.append(about)
    index = np.array([[0, samples], [0, -1]])
    np.save(path / "index.npy", index)
    manifest.parts[0] |= {"samples": samples, "shards": shards}
    about = {"runs": 2, "checksum": zlib.crc32(index)}
    manifest.content |= {"samples": samples, "index": about}
    (path / "manifest.json").write_text(manifest.text())
    return keys


def memory():
    """MiB of the process's own memory; files that are mapped don't count."""
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kilobytes = [line.split()[1] for line in lines if "RssAnon" in line]
    return int(kilobytes[0]) / 1024 if kilobytes else float("nan")


def clocks():
    """Seconds on the clock, and of the core's own time."""
    return np.array([time.perf_counter(), time.process_time()])


def read_all(read, keys, clock=CORE):
    """Samples a second of a clock, for each 20 batches."""
    batches, rates = np.split(keys, range(BATCH, len(keys), BATCH)), []
    for start in range(0, len(batches), 20):
        some, begun = batches[start : start + 20], clocks()
        for batch in some:
            read(batch)
        rates.append(sum(map(len, some)) / (clocks() - begun)[clock])
    return rates


def of_numpy(path, keys, medians):
    """Rates to those of NumPy's own indexing of the same file, mapped anew."""
    rows = np.load(path / "parts/0/rows.npy", mmap_mode="r")
    rows = np.asarray(rows)
    bare = [np.median(read_all(rows.__getitem__, keys)) for _ in range(2)]
    return np.divide(medians, bare)


def forget(file):
    """Takes a file out of the memory that the system holds files in."""
    with open(file, "rb") as content:
        os.fsync(content)
        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_disk(name, path, keys):
    """Prints samples a second, on the clock, of records not in memory."""
    forget(path / "parts/0/rows.npy")
    answers = cache.open(path, verify="sizes")
    rates = read_all(answers.read, keys[:50_000], WALL)
    low, median, high = np.quantile(rates, [0.25, 0.5, 0.75])
    name = f"{name}, from disk"
    print(f"{name:52} {median:10,.0f} {low:10,.0f}-{high:10,.0f}")


def measure_reading(name, path, keys):
    before, opening = memory(), []
    for _ in range(5):
        start = clocks()
        answers = cache.open(path)
        opening.append(clocks() - start)
    opened, working = np.median(opening, axis=0)
    passes = [read_all(answers.read, keys) for _ in range(2)]
    line = f"{name:32} {opened:7.3f} {working:6.3f} {memory() - before:5.1f}"
    medians = [np.median(rates) for rates in passes]
    for rates in passes:
        low, median, high = np.quantile(rates, [0.25, 0.5, 0.75])
        line += f" {median:10,.0f} {low:10,.0f}-{high:10,.0f}"
    if not (path / "parts/1").exists():
        first, again = of_numpy(path, keys, medians)
        line += f" {first:5.2f} {again:5.2f}"
    print(line)
    return medians


def measure(folder, samples, sizes, reads):
    """Samples a second, `{name: (first, again)}`."""
    print(
        f"{'':32} {'open, s':>7} {'CPU':>6} {'MiB':>5} "
        f"{'first':>10} {'quartiles':>21} "
        f"{'again':>10} {'quartiles':>21} {'of NumPy':>11}"
    )
    example, keys = folder / "1", np.random.default_rng(1).permutation(samples)
    records = write_one(example, samples)
    paths = {f"{samples:,} in 1 part": (example, keys)}
    for parts in 16, 64:
        for block in -(-samples // parts), BATCH:
            dealt = ", dealt out" * (block == BATCH)
            path = folder / f"{parts}{dealt}"
            deal_out(path, example, records, parts, block)
            paths[f"{samples:,} in {parts} parts{dealt}"] = path, keys
    path = folder / "shuffled"
    deal_out(path, example, records[keys], 1, samples)
    paths[f"{samples:,} in 1 part, shuffled"] = path, keys[::-1]
    simulated = {}
    for many in sizes:
        path = folder / str(many)
        keys = simulate(path, example, records, many, reads)
        simulated[f"{many:,} in 1 part, simulated"] = path, keys
    rates = {
        name: measure_reading(name, path, keys)
        for name, (path, keys) in (paths | simulated).items()
    }
    if hasattr(os, "posix_fadvise"):
        for name, (path, keys) in simulated.items():
            measure_disk(name, path, keys)
    return rates


def plot(rates, path):
    figure, axis = plt.subplots(figsize=(7, 2.6))
    places = np.arange(len(rates))
    for column, label in enumerate(("first", "again")):
        values = [each[column] for each in rates.values()]
        axis.barh(places + 0.4 * column, values, 0.4, label=label)
    axis.set_yticks(places + 0.2, list(rates))
    axis.invert_yaxis()
    axis.axvline(200_000, color="black", linewidth=0.8)
    axis.set_xlabel("samples read a second, one core (the line: 200,000)")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description="Reads answers.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10_000_000, 100_000_000]
    )
    parser.add_argument("--reads", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.samples, arguments.sizes = 20_000, [100_000]
        arguments.reads = 5000
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(
            pathlib.Path(folder),
            arguments.samples,
            arguments.sizes,
            arguments.reads,
        )
    plot(rates, "cache_reading.png")


if __name__ == "__main__":
    main()
