"""How fast predictions are written to a cache, and how many bytes they take.

    KERAS_BACKEND=jax python examples/benchmarks/cache_writing.py

- the rate of `cache.write` to that of the teacher's bare `predict` on the same
  images, in turns, each `write` between two of `predict`: median and quartiles
  over all turns, on the clock, and the median of the CPU time of all cores,
  on which other programs have less effect. Compiling does not count; all that
  `write` does with the predictions does: encode, store, checksum, merge.
- bytes of a sample: what the format implies (8 bytes of the sample index,
  and the encoding's `bytes_per_sample`), and what is stored, which must be the
  same to the byte. Beside it, all files of the cache of 1024 samples, with
  manifest and index.

A plot goes to `cache_writing_<backend>.png`. About four minutes on two CPU
cores; `--smoke` takes a few seconds and its figures mean nothing.

Rates to `predict` on the clock, two cores: dense float16 torch 1.00, JAX 0.99,
TensorFlow 0.98; top-32 1.04, 0.98, 1.00 (two to four turns, a spread of up to
0.05). A teacher with a quarter of the work (`--width 24`), which takes 34 ms
for 256 images on TensorFlow, is written there at 0.91 to 0.94 and 0.93 to 0.96.
Stored: 2008 and 138 bytes a sample, as implied.

On TensorFlow, XLA and the autotuning of `tf.data` are off for `predict`: see
`step_time.py`.
"""

import argparse
import pathlib
import tempfile
import time

import keras
import matplotlib
import numpy as np
from keras import layers

from keras_kd import cache

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BACKEND = keras.backend.backend()
CLASSES, BATCH = 1000, 256
COMPILED = 4  # batches, after which all is compiled
CHOICES = {"dense float16": cache.Dense(), "top-32": cache.TopK(32)}


def make_teacher(width):
    model = keras.Sequential([keras.Input((32, 32, 3))], name="teacher")
    conv = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    for factor in (1, 2, 3):
        model.add(layers.Conv2D(factor * width, **conv))
        model.add(layers.Conv2D(factor * width, **conv))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D(name="features"))
    model.add(layers.Dense(CLASSES))
    return model


def clocks():
    """Seconds on the clock, and of CPU time of all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def predictor(teacher, x):
    """A function that predicts all, and returns seconds a sample."""
    given = {"x": x, "batch_size": BATCH}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
        given = {"x": batches.prefetch(2).with_options(options)}

    def predict():
        start = clocks()
        teacher.predict(**given, verbose=0)
        return (clocks() - start) / len(x)

    predict()  # compiles
    return predict


class Watched:
    """An array that stores the time whenever rows of it are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.taken = []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.taken.append(clocks())
        return self.array[rows]


def seconds_to_write(teacher, x, path, encoding):
    """Seconds a sample, without the batches in which all is compiled."""
    watched = Watched(x)
    cache.write(
        teacher, watched, path, outputs=encoding, batch_size=BATCH, verbose=0
    )
    end, batches = clocks(), -(-len(x) // BATCH)
    start = watched.taken[COMPILED - batches]
    return (end - start) / (len(x) - COMPILED * BATCH)


def measure_writing(x, teacher, folder, turns):
    """Rates to that of `predict`: `{name: [(clock, cores) a turn]}`."""
    ratios = {name: [] for name in CHOICES}
    predict = predictor(teacher, x)
    before = predict()
    for turn in range(turns):
        for name, encoding in CHOICES.items():
            path = folder / f"{name} {turn}"
            writing = seconds_to_write(teacher, x, path, encoding)
            after = predict()
            ratios[name].append((before + after) / 2 / writing)
            before = after
    return ratios


def report_writing(ratios):
    print(f"\nwriting ({BACKEND})")
    print(f"{'':28} {'to predict':>10} {'quartiles':>13} {'CPU':>6}")
    medians = {}
    for name, values in ratios.items():
        clock, cores = np.transpose(values)
        low, medians[name], high = np.quantile(clock, [0.25, 0.5, 0.75])
        spread = f"{low:.3f}-{high:.3f}"
        print(
            f"{name:28} {medians[name]:10.3f} {spread:>13} "
            f"{np.median(cores):6.3f}"
        )
    return medians


def measure_bytes(x, teacher, folder):
    """Prints bytes of a sample; raises an error if they aren't as implied."""
    stored = {
        f"{type_} of {CLASSES}": ("", cache.Dense(type_), (CLASSES,))
        for type_ in ("float32", "float16", "bfloat16")
    }
    for k in (8, 32, 128):
        stored[f"top-{k} of {CLASSES}"] = "", cache.TopK(k), (CLASSES,)
    features = teacher.get_layer("features").output.shape[1:]
    stored[f"int8, {features[0]} features"] = "features", cache.Int8(), features
    print(
        f"\nbytes of a sample {'implied':>20} {'stored':>8} {'all files':>10}"
    )
    for name, (tap, encoding, shape) in stored.items():
        path = folder / name
        cache.write(teacher, x, path, outputs={tap: encoding}, verbose=0)
        implied = 8 + encoding.bytes_per_sample(shape)
        shards = (path / "parts/0").glob("*-*.npy")
        size = sum(np.load(shard, mmap_mode="r").nbytes for shard in shards)
        if size != implied * len(x):
            raise ValueError(f"{name}: {size} bytes, not {implied * len(x)}")
        files = [file for file in path.rglob("*") if file.is_file()]
        whole = sum(file.stat().st_size for file in files) / len(x)
        print(f"{name:28} {implied:10} {size / len(x):8g} {whole:10.1f}")


def plot(ratios, path):
    figure, axis = plt.subplots(figsize=(7, 1.8))
    axis.barh(list(ratios), list(ratios.values()))
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel(f"rate of cache.write, bare predict = 1 ({BACKEND})")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description="Writes predictions.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--samples", type=int, default=12288)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--width", type=int, default=48)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.samples, arguments.turns = 6 * BATCH, 1
        arguments.width = 1
    x = np.random.default_rng(0).normal(size=(arguments.samples, 32, 32, 3))
    x = x.astype("float32")
    teacher = make_teacher(arguments.width)
    if BACKEND == "tensorflow":
        teacher.compile(jit_compile=False)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ratios = measure_writing(x, teacher, folder, arguments.turns)
        medians = report_writing(ratios)
        measure_bytes(x[:1024], teacher, folder)
    plot(medians, f"cache_writing_{BACKEND}.png")


if __name__ == "__main__":
    main()
