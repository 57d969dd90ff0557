"""How fast predictions are read from a cache, and from other formats.

    KERAS_BACKEND=torch python examples/benchmarks/cache_formats.py

A teacher's top-32 of 1000 classes for a million samples, 138 bytes each with
the sample index, are stored by `keras_kd.cache.write`; the same records are
stored as ArrayRecord, HDF5 and Zarr, each as its documentation recommends for
random reads; where that names no size for chunks, several are tried. Random
batches of 256 are then read from all, in turns, on one core, from memory that
the system holds files in (the page cache). All return the records in the order
of the batch; ours also finds each sample, checks the sample index in its
record, and prepares the indices for a batch. One that is not installed is left
out: `pip install array_record h5py zarr`.

Printed are samples a second of the core's own time, median and quartiles over
all turns; the median on the clock, the same where the core has nothing else to
do; and bytes of a sample on the disk. The best setting of each is marked, and
goes into the plot `cache_formats.png`. About three minutes; `--smoke` takes a
few seconds and its figures mean nothing.

On one core of an AMD EPYC, a million samples: ours 7.1 million a second, HDF5
0.49 (all in its own memory) or 0.37, ArrayRecord 0.06, Zarr 0.013.
"""

import argparse
import importlib.util
import os
import pathlib
import tempfile
import time

import keras
import matplotlib
import numpy as np

from keras_kd import cache

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES, K, BATCH, SECONDS = 1000, 32, 256, 0.2
CHUNKS = (256, 1024, 4096, 16384, 65536)
WHOLE_FILE = {"rdcc_nbytes": 2**28, "rdcc_nslots": 1_000_003}


def write_cache(path, samples):
    head = keras.layers.Dense(CLASSES, kernel_initializer="random_normal")
    teacher = keras.Sequential([keras.Input((16,)), head])
    x = np.random.default_rng(0).normal(scale=30, size=(samples, 16))
    cache.write(
        teacher,
        x.astype("float32"),
        path,
        outputs=cache.TopK(K),
        batch_size=2048,
        verbose=0,
    )


def load_records(path):
    """All records of a cache in one part: its shards, in order."""
    shards = sorted((path / "parts/0").glob("*-*.npy"))
    return np.concatenate([np.load(shard) for shard in shards])


# --- formats: each yields its settings, its path, and what reads -------------


def ours(folder, records):
    path = folder.parent / "predictions"
    for memory in (False, True):
        predictions = cache.open(path, memory=memory)
        name = f"keras_kd.cache{', memory=True' * memory}"
        yield name, path, lambda keys, p=predictions: p.read(keys)["output"]


def array_record(folder, records):
    from array_record.python import array_record_module

    for compression in ("", ",uncompressed"):
        path = folder / f"records{compression}"
        writer = array_record_module.ArrayRecordWriter(
            str(path), f"group_size:1{compression}"
        )
        for record in records:
            writer.write(record.tobytes())
        writer.close()
        reader = array_record_module.ArrayRecordReader(
            str(path), options="readahead_buffer_size:0,max_parallelism:0"
        )

        def read(keys, reader=reader):
            found = b"".join(reader.read(keys.tolist()))
            return fields_of(np.frombuffer(found, records.dtype))

        yield f"ArrayRecord group_size:1{compression}", path, read


def hdf5(folder, records):
    import h5py

    sizes = [chunk for chunk in CHUNKS if chunk <= len(records)]
    # Without chunks, there is no cache of them.
    tried = [(chunk, "", {}) for chunk in (None, *sizes)]
    tried += [(chunk, ", all in its cache", WHOLE_FILE) for chunk in sizes]
    for chunk, about, options in tried:
        path = folder / f"{chunk}{about}.h5"
        chunks = None if chunk is None else (chunk,)
        with h5py.File(path, "w") as file:
            file.create_dataset("records", data=records, chunks=chunks)
        dataset = h5py.File(path, "r", **options)["records"]

        def read(keys, dataset=dataset):
            # It takes distinct numbers in increasing order only.
            sorted_keys, places = np.unique(keys, return_inverse=True)
            return fields_of(dataset[sorted_keys][places])

        layout = f"chunks of {chunk}" if chunk else "contiguous"
        yield f"HDF5 {layout}{about}", path, read


def zarr(folder, records):
    import zarr

    # As bytes: its third format does not specify records yet.
    table = records.view("u1").reshape(len(records), -1)
    for chunk in [size for size in CHUNKS if 1024 <= size <= len(records)]:
        path = folder / f"{chunk}.zarr"
        chunks = chunk, table.shape[1]
        zarr.create_array(path, data=table, chunks=chunks, compressors=None)
        array = zarr.open_array(path, mode="r")

        def read(keys, array=array):
            found = np.ascontiguousarray(array.oindex[keys])
            return fields_of(found.view(records.dtype)[:, 0])

        yield f"Zarr chunks of {chunk}", path, read


FIELDS = "indices", "values", "rest"
FORMATS = {"keras_kd": ours, "array_record": array_record}
FORMATS |= {"h5py": hdf5, "zarr": zarr}


def fields_of(records):
    return {name: records[f"output.{name}"] for name in FIELDS}


# --- measuring ---------------------------------------------------------------


def time_of(read, batches):
    """Samples a second, on the clock and of the core's own time."""
    start = time.perf_counter(), time.process_time()
    for keys in batches:
        read(keys)
    end = time.perf_counter(), time.process_time()
    return sum(map(len, batches)) / np.subtract(end, start)


def in_turns(readers, samples, turns):
    """Rates of readers, `{name: (turns, 2)}`, in batches of random samples."""
    random = np.random.default_rng(1)
    counts, rates = {}, {name: [] for name in readers}
    for turn in range(-1, turns):
        for name, read in readers.items():
            count = counts.get(name, 3)
            batches = list(random.integers(0, samples, (count, BATCH)))
            rate = time_of(read, batches)
            if turn >= 0:
                rates[name].append(rate)
            counts[name] = max(3, int(SECONDS * rate[0] / BATCH))
    return {name: np.array(values) for name, values in rates.items()}


def check_alike(readers, samples):
    """Raises an error unless all readers give the same predictions."""
    keys = np.random.default_rng(2).integers(0, samples, BATCH)
    expected, *others = [read(keys) for read in readers.values()]
    for found in others:
        for field, values in expected.items():
            np.testing.assert_array_equal(found[field], values)


def bytes_of(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def measure(folder, samples, turns):
    """Rates and bytes of a sample, by setting, for each installed format."""
    write_cache(folder / "predictions", samples)
    records = load_records(folder / "predictions")
    readers, sizes, groups = {}, {}, {}
    for package, stored in FORMATS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: left out")
            continue
        (folder / package).mkdir()
        for name, path, read in stored(folder / package, records):
            readers[name] = read
            sizes[name] = bytes_of(path) / samples
            groups.setdefault(package, []).append(name)
    check_alike(readers, samples)
    return in_turns(readers, samples, turns), sizes, groups


def report(rates, sizes, groups):
    medians = {name: np.median(each, axis=0) for name, each in rates.items()}
    best = [
        max(names, key=lambda name: medians[name][1])
        for names in groups.values()
    ]
    print(f"{'':43} {'samples/s':>10} {'quartiles':>21} {'clock':>10}  bytes")
    for name, each in rates.items():
        low, high = np.quantile(each[:, 1], [0.25, 0.75])
        clock, core = medians[name]
        print(
            f"{'*' if name in best else ' '} {name:41} {core:10,.0f} "
            f"{low:10,.0f}-{high:10,.0f} {clock:10,.0f} {sizes[name]:6.1f}"
        )
    return {name: medians[name][1] for name in best}


def plot(best, path):
    figure, axis = plt.subplots(figsize=(7, 2.6))
    axis.barh(list(best), list(best.values()))
    axis.set_xscale("log")
    axis.invert_yaxis()
    axis.axvline(200_000, color="black", linewidth=0.8)
    axis.set_xlabel("samples read a second, one core (the line: 200,000)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description="Reads predictions.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.samples, arguments.turns = 2000, 2
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        measured = measure(folder, arguments.samples, arguments.turns)
    print(f"\nreading {arguments.samples:,} samples at random")
    plot(report(*measured), "cache_formats.png")


if __name__ == "__main__":
    main()
