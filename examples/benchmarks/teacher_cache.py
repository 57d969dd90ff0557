r"""How long a training step takes with cached predictions.

    KERAS_BACKEND=jax python examples/benchmarks/teacher_cache.py

The same student is trained in seven ways, in one process and in turns:

- student alone: `fit`, no teacher; and once more, to see how exact the ratios
  are
- live teacher: `kd.Distiller(teacher, student)`, which runs it in each step
- dense, top-32: `kd.Distiller(predictions, student)`, of
  `cache.Dense("float16")` and of `cache.TopK(32)`, 1000 classes; from disk
  (mapped into memory, and here in the system's page cache) and with
  `memory=True`

Batches are shuffled, and come from a `PyDataset` of the same arrays: that of
`predictions.join(x, y)`, and for the student alone and the live teacher one
that is the same without the predictions. So a ratio shows the time of the
predictions (they are read, passed to the step, decoded, and the distillation
loss is computed) and not that of the pipeline. Each run is short and between
two runs of the student alone, so that other programs affect both, and each way
has three models, which take turns. Printed are the median milliseconds a step;
the ratio to the mean of the two neighbors, median and quartiles over all
turns; and the median of that ratio of the CPU time of all cores, on which
other programs have less effect. A plot goes to
`teacher_cache_<backend>.png`. Five to ten minutes on two CPU cores; `--smoke`
takes a few seconds and its figures mean nothing.

Ratios on the clock, two cores, batches of 256; a step of the student alone
takes 89, 160 and 58 ms (24 turns):

                     torch   JAX   TensorFlow
    alone, again      1.00  1.00      1.00
    live teacher      2.58  1.60      2.03
    dense, disk       1.03  1.01      1.04
    dense, memory     1.01  1.02      1.05
    top-32, disk      1.02  1.02      1.04
    top-32, memory    1.03  1.02      1.04

The error of a ratio is about 0.01 if other programs run on the machine.

With `--batch 64 --steps 15` a step of the student takes 31, 29 and 25 ms, and
predictions take a larger part:

                     torch   JAX   TensorFlow
    dense, disk       1.05  1.03      1.06
    dense, memory     1.04  1.02      1.05
    top-32, disk      1.05  1.03      1.05
    top-32, memory    1.07  1.03      1.05

Disk and memory take the same time to read; the rest is the loss (written by
hand it takes nearly as long), and passing the predictions, on TensorFlow
through the generator of `tf.data`.

By default glibc gives large blocks that are freed back to the system, and takes
them anew, empty, in the same step: thousands of pages, each a fault. PyTorch
pays for it in each step, by chance from one model to the next, and most with
the live teacher, whose ratio was 4.4 in place of 2.6, with cached predictions
at 1.06, 1.05, 1.00 and 1.05 (`--give-memory-back`, one model each). TensorFlow
pays in its generators: on Python 3.11 it has glibc do so from 128 KiB on, and a
batch of 3 MB came in 2.9 ms in place of 1.2, dense predictions in 0.9 ms more
in place of 0.3. So here glibc keeps memory, for all. A program of your own
does, and never gives back what it once took, as

    MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_MAX_=0 python train.py

On TensorFlow, XLA and the autotuning of `tf.data` are off: see `step_time.py`.
"""

import argparse
import ctypes
import pathlib
import platform
import tempfile
import time

import keras
import matplotlib
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd import cache

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BACKEND = keras.backend.backend()
CLASSES = 1000
PLACES = ["disk", "memory"]
WIDTHS = {"teacher": (32, 64, 96), "student": (8, 16, 24)}
MODELS = 3  # Of each way, in turn: two of the same code differ, too.
COMPILE = {"jit_compile": BACKEND == "jax"}
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # Numbers of glibc's malloc.h.
DENSE, TOP_K = cache.Dense("float16"), cache.TopK(32, temperature=4.0)


def make_model(name):
    """Residual blocks."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for width in WIDTHS[name]:
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        shortcut = layers.Activation("relu")(x)
        x = layers.Conv2D(width, 3, padding="same")(shortcut)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(layers.Add()([x, shortcut]))
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 1)(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name=name)


class Batches(keras.utils.PyDataset):
    """What `join` makes of arrays, without the predictions."""

    def __init__(self, arrays, batch):
        super().__init__()
        self.arrays, self.batch = arrays, batch
        self.order = np.arange(len(arrays[0]))

    def __len__(self):
        return -(-len(self.order) // self.batch)

    def __getitem__(self, number):
        start = number * self.batch
        rows = self.order[start : start + self.batch]
        return tuple(array[rows] for array in self.arrays)

    def set_epoch(self, epoch):
        self.order = np.random.default_rng(epoch).permutation(len(self.order))


def fed(dataset):
    """A `PyDataset` as it is, on TensorFlow without autotuning."""
    if BACKEND != "tensorflow":
        return dataset
    import tensorflow as tf

    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype),
        dataset[0],
    )
    batches = tf.data.Dataset.from_generator(
        lambda: (dataset[number] for number in range(len(dataset))),
        output_signature=signature,
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


def keep_freed_memory():
    """Has glibc keep what is freed; elsewhere it does nothing.

    Not by a higher threshold for blocks of their own: TensorFlow sets its own.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(TRIM_THRESHOLD, 2**30)
        libc.mallopt(MMAP_MAX, 0)


def clocks():
    """Seconds on the clock, and of CPU time of all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def make_trainers(x, y, folder, batch, steps):
    """By name, a function that trains for some steps of a turn."""
    teacher, plain = make_model("teacher"), Batches((x, y), batch)

    def make_student():
        return make_model("student")

    def distilled_from(teacher):
        return lambda: kd.Distiller(teacher, make_student())

    trainers = {
        "student alone": trainer(make_student, plain, steps),
        "alone, again": trainer(make_student, plain, steps),
        "live teacher": trainer(distilled_from(teacher), plain, steps),
    }
    for name, encoding in {"dense": DENSE, "top-32": TOP_K}.items():
        cache.write(teacher, x, folder / name, outputs=encoding, verbose=0)
        for place in PLACES:
            predictions = cache.open(folder / name, memory=place == "memory")
            joined = predictions.join(x, y, batch_size=batch, seed=0)
            trainers[f"{name}, {place}"] = trainer(
                distilled_from(predictions), joined, steps
            )
    return trainers


def trainer(make, dataset, steps):
    models, data = [make() for _ in range(MODELS)], fed(dataset)
    for model in models:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, **COMPILE)

    def train(turn):
        model = models[turn % MODELS]
        dataset.set_epoch(turn)
        start = clocks()
        model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
        return 1000 * (clocks() - start) / steps

    return train


def measure(trainers, turns):
    """Milliseconds a step, and ratios: `{name: [(clock, cores) a turn]}`."""
    alone = trainers.pop("student alone")
    times = {name: [] for name in ("student alone", *trainers)}
    ratios = {name: [] for name in trainers}
    for train in (alone, *trainers.values()):
        for turn in range(MODELS):
            train(turn)  # compiles
    names = list(trainers)
    for turn in range(turns):
        before = alone(turn)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took, after = trainers[name](turn), alone(turn)
            times["student alone"].append(after)
            times[name].append(took)
            ratios[name].append(took / ((before + after) / 2))
            before = after
    return times, ratios


def report(times, ratios):
    print(
        f"\n{'':16} {'ms/step':>8} {'to alone':>9} {'quartiles':>12} {'CPU':>6}"
    )
    medians = {}
    for name, values in times.items():
        line = f"{name:16} {np.median(values, axis=0)[0]:8.1f}"
        if name in ratios:
            clock, cores = np.transpose(ratios[name])
            low, medians[name], high = np.quantile(clock, [0.25, 0.5, 0.75])
            line += f" {medians[name]:9.3f} {low:6.3f}-{high:.3f}"
            line += f" {np.median(cores):6.3f}"
        print(line)
    return medians


def plot(ratios, path):
    figure, axis = plt.subplots(figsize=(7, 2.6))
    axis.barh(list(ratios), list(ratios.values()))
    axis.invert_yaxis()
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel(f"time of a step, student alone = 1 ({BACKEND})")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description="Times training steps.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--turns", type=int, default=42)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--give-memory-back", action="store_true")
    arguments = parser.parse_args()
    if not arguments.give_memory_back:
        keep_freed_memory()
    if arguments.smoke:
        arguments.samples, arguments.steps = 16, 2
        arguments.turns, arguments.batch = 1, 4
        WIDTHS.update(teacher=(4,), student=())
        PLACES.remove("memory")
    random = np.random.default_rng(0)
    x = random.normal(size=(arguments.samples, 32, 32, 3)).astype("float32")
    y = random.integers(0, CLASSES, arguments.samples).astype("int32")
    with tempfile.TemporaryDirectory() as folder:
        trainers = make_trainers(
            x, y, pathlib.Path(folder), arguments.batch, arguments.steps
        )
        measured = measure(trainers, arguments.turns)
    plot(report(*measured), f"teacher_cache_{BACKEND}.png")


if __name__ == "__main__":
    main()
