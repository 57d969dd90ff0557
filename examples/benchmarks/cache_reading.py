"""How fast predictions are read, from caches of any size and number of parts.

    KERAS_BACKEND=torch python examples/benchmarks/cache_reading.py

Top-32 of 1000 classes, 138 bytes a sample, are read in random batches of 256,
on one core, from memory that the system holds files in (the page cache):

- caches of 100,000 samples in 1, 16 and 64 parts: each part a range of the
  samples; or dealt out in blocks of 256, as with workers that take batches in
  turns; or one part of 49 shards; or one that was written in random order,
  whose index is as long
- simulated ones of 10 and 100 million samples, in shards of 128 MB: sparse
  files, up to 13.8 GB, of which about 2 GB are on the disk while this runs.
  Every eighth shard has records; a million of them are read
- these from a disk, on the clock: 50,000 records that aren't in memory (Linux)

Printed are seconds to open it, on the clock and of the core's own time, with
all that `cache.open` verifies; how many MiB the process's memory grows by the
time that all is read; and samples a second of the core's own time, on which
other programs have less effect than on the clock, median and quartiles over
runs of 20 batches. "first" is the first time that a record is read, when the
system has to map its page into the process; "again" is the second time. "of
NumPy" are the two rates of a cache in one shard to those of NumPy indexing the
same file, mapped anew: what is left to gain. The backend is only used to write.
A plot goes to `cache_reading.png`. Three minutes; `--smoke` takes a few seconds
and its figures mean nothing.

On one core of an AMD EPYC, 100,000 samples in 1, 16, 64 parts: 7.8, 2.7 and
1.1 million samples a second. 10 million: 7.5 first and 7.7 again. 100 million:
opened in 0.08 s, 5.7 and 6.6; each record is on a page of its own there, and
NumPy itself falls to less than half: ours is 2.4 and 2.7 times its rate, of the
small one's 1.3. From the disk, 10 and 100 million: 142,000 and 68,000 a second.
"""

import argparse
import io
import json
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

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES, BATCH = 1000, 256
WALL, CORE = 0, 1  # Of the clocks.
SHARDS = 8  # of as many, one has records to read in the simulated cache


def make_teacher():
    head = layers.Dense(CLASSES, kernel_initializer="random_normal")
    return keras.Sequential([keras.Input((16,)), head])


def inputs(samples):
    x = np.random.default_rng(0).normal(scale=30, size=(samples, 16))
    return x.astype("float32")


def write(teacher, data, path, **arguments):
    arguments = {"batch_size": 2048, "verbose": 0, **arguments}
    cache.write(teacher, data, path, outputs=cache.TopK(32), **arguments)


def deal_out(path, teacher, x, parts, block, order=None):
    """The same cache in several parts, each of every so many blocks."""
    order = np.arange(len(x)) if order is None else order
    blocks = np.split(order, range(block, len(order), block))
    for part in range(parts):
        batches = (
            (x[index], {"sample_index": index})
            for dealt in blocks[part::parts]
            for index in np.split(dealt, range(2048, len(dealt), 2048))
        )
        write(teacher, batches, path, part=str(part))
    cache.merge(path, samples=len(x))


def shards_of(path):
    return sorted(path.glob("parts/*/*.npy"))


def npy_header(dtype, samples):
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype)}
    about |= {"fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_2_0(header, about)
    return header.getvalue()


def simulate(path, example, samples, read):
    """A cache in sparse files; returns the samples that can be read.

    Each shard has the checksum that it must have, also those without records.
    """
    records = np.load(shards_of(example)[0])
    (path / "parts/0").mkdir(parents=True)
    shard = min(2**27 // records.itemsize, samples // SHARDS)
    random = np.random.default_rng(0)
    keys = random.integers(0, samples // (SHARDS * shard), read)
    keys = keys * SHARDS * shard + random.integers(0, shard, read)
    keys = np.unique(keys)
    there = records[random.integers(0, len(records), len(keys))]
    there["sample_index"] = keys
    shards, of_zeros = [], {}
    for start in range(0, samples, shard):
        span = np.zeros(min(shard, samples - start), records.dtype)
        header, empty = npy_header(span.dtype, len(span)), len(shards) % SHARDS
        if not empty:
            mine = (keys >= start) & (keys < start + len(span))
            span[keys[mine] - start] = there[mine]
        known = of_zeros.get(len(span)) if empty else None
        checksum = known or zlib.crc32(span, zlib.crc32(header))
        if empty:
            of_zeros[len(span)] = checksum
        name = f"{len(shards):05}-{checksum:08x}.npy"
        size = len(header) + span.nbytes
        with open(path / "parts/0" / name, "wb") as file:
            file.write(header)
            if not empty:
                for row in np.array_split(span, 16):
                    file.write(row)
            file.truncate(size)
        about = {"file": name, "bytes": size, "checksum": checksum}
        about |= {"samples": len(span), "input_checksums": []}
        shards.append(about)
    file = io.BytesIO()
    np.save(file, np.array([[0, samples], [0, -1]]))
    data = file.getvalue()
    checksum = zlib.crc32(data)
    name = f"index-{checksum:08x}.npy"
    (path / name).write_bytes(data)
    content = json.loads((example / "manifest.json").read_text())
    del content["checksum"]
    about = {"file": name, "bytes": len(data), "runs": 2}
    content["index"] = {**about, "checksum": checksum}
    content["samples"] = samples
    content["parts"][0]["shards"] = shards
    text = json.dumps(content, sort_keys=True).encode()
    content = {"checksum": zlib.crc32(text), **content}
    (path / "manifest.json").write_text(json.dumps(content))
    return random.permutation(keys)


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
    rows = np.asarray(np.load(shards_of(path)[0], mmap_mode="r"))
    bare = [np.median(read_all(rows.__getitem__, keys)) for _ in range(2)]
    return np.divide(medians, bare)


def forget(file):
    """Takes a file out of the memory that the system holds files in."""
    with open(file, "rb") as content:
        os.fsync(content)
        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_disk(name, path, keys):
    """Prints samples a second, on the clock, of records not in memory."""
    for file in shards_of(path):
        forget(file)
    predictions = cache.open(path, verify="sizes")
    rates = read_all(predictions.read, keys[:50_000], WALL)
    low, median, high = np.quantile(rates, [0.25, 0.5, 0.75])
    name = f"{name}, from disk"
    print(f"{name:52} {median:10,.0f} {low:10,.0f}-{high:10,.0f}")


def measure_reading(name, path, keys):
    before, opening = memory(), []
    for _ in range(5):
        start = clocks()
        predictions = cache.open(path)
        opening.append(clocks() - start)
    opened, working = np.median(opening, axis=0)
    passes = [read_all(predictions.read, keys) for _ in range(2)]
    line = f"{name:32} {opened:7.3f} {working:6.3f} {memory() - before:5.1f}"
    medians = [np.median(rates) for rates in passes]
    for rates in passes:
        low, median, high = np.quantile(rates, [0.25, 0.5, 0.75])
        line += f" {median:10,.0f} {low:10,.0f}-{high:10,.0f}"
    if len(shards_of(path)) == 1:
        first, again = of_numpy(path, keys, medians)
        line += f" {first:5.2f} {again:5.2f}"
    print(line)
    return medians


def measure(folder, samples, parts_tried, sizes, reads):
    """Samples a second, `{name: (first, again)}`."""
    print(
        f"{'':32} {'open, s':>7} {'CPU':>6} {'MiB':>5} "
        f"{'first':>10} {'quartiles':>21} "
        f"{'again':>10} {'quartiles':>21} {'of NumPy':>11}"
    )
    teacher, x = make_teacher(), inputs(samples)
    example, keys = folder / "1", np.random.default_rng(1).permutation(samples)
    write(teacher, x, example)
    write(teacher, x, folder / "shards", shard_samples=2048)
    paths = {
        f"{samples:,} in 1 part": (example, keys),
        f"{samples:,} in 1 part, 49 shards": (folder / "shards", keys),
    }
    for parts in parts_tried:
        for block in -(-samples // parts), BATCH:
            dealt = ", dealt out" * (block == BATCH)
            path = folder / f"{parts}{dealt}"
            deal_out(path, teacher, x, parts, block)
            paths[f"{samples:,} in {parts} parts{dealt}"] = path, keys
    path = folder / "shuffled"
    deal_out(path, teacher, x, 1, samples, keys)
    paths[f"{samples:,} in 1 part, shuffled"] = path, keys[::-1]
    simulated = {}
    for many in sizes:
        path = folder / str(many)
        keys = simulate(path, example, many, reads)
        simulated[f"{many:,}, simulated"] = path, keys
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
    parser = argparse.ArgumentParser(description="Reads predictions.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10_000_000, 100_000_000]
    )
    parser.add_argument("--reads", type=int, default=1_000_000)
    arguments = parser.parse_args()
    parts = 16, 64
    if arguments.smoke:
        arguments.samples, arguments.sizes = 4000, [100_000]
        arguments.reads, parts = 5000, (2, 4)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(
            pathlib.Path(folder),
            arguments.samples,
            parts,
            arguments.sizes,
            arguments.reads,
        )
    plot(rates, "cache_reading.png")


if __name__ == "__main__":
    main()
