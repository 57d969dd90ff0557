"""Cache predictions on several machines: Ray Data, and a part for each shard.

    pip install ".[ray]"
    KERAS_BACKEND=jax python examples/teacher_predictions_with_ray.py

For large data, the teacher's pass is split among many machines. Ray Data gives
shards of the data to its workers. Each worker has a copy of the teacher and
writes the predictions as a part of its own; `cache.merge` makes one cache of
all parts when none is missing. Here there are two workers on one machine, eight
shards of scikit-learn's digits, and two failures:

- One worker is killed in the middle of part 3. Ray starts another one, which
  continues where the first stopped: no finished shard is computed twice.
- Part 7 is not written. `merge` raises an error with the samples that are
  missing.

Then students are trained from the cached predictions, without the teacher, and
for comparison with the live teacher. 50 of 1000 images have a label; the last
epoch is tested on 500 others. One teacher, five students, mean and standard
deviation; one or two minutes; on JAX:

                            test accuracy %
teacher                                97.2
distilled, live teacher          95.8 ± 0.5
distilled, cached predictions    95.6 ± 0.2

On a cluster:

- `ray.init(address="auto")`, and this library on each machine.
- `num_gpus=1` in `map`, and as many workers as there are GPUs.
- The folder is one that all machines see. The finished cache can be copied to
  object storage: `cache.open("s3://bucket/predictions")` downloads
  what is read.
- The shards are the data's own files. Part `n` must have the same samples each
  time, so that a pass that was interrupted can be repeated.
"""

import argparse
import json
import logging
import os
import pathlib
import signal
import tempfile

# Before Ray is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import keras
import numpy as np
import ray
from keras import layers
from keras import losses
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# Images without a label have the label -1.
LOSS = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
NUM_LABELS = 50
NUM_WORKERS = 2
NUM_SHARDS = 8
BATCH_SIZE = 25
KILLED = "3"  # The part whose first worker is killed before it is done.
LIVE, CACHED = ROWS = [
    "distilled, live teacher",
    "distilled, cached predictions",
]


def load_data():
    """Images, models and learning rates are those of `quickstart.py`."""
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., None]
    labels = digits.target.astype("int32")
    train, test = split(labels, np.arange(len(labels)), 500, seed=0)
    # Everything was chosen with the 297 images that are left out here.
    train, _validation = split(labels, train, 297, seed=0)
    return (images[train], labels[train]), (images[test], labels[test])


def split(labels, indices, size, seed):
    # As many of each class.
    return train_test_split(
        indices, test_size=size, stratify=labels[indices], random_state=seed
    )


def build_teacher():
    stack = [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ]
    return keras.Sequential(stack, name="teacher")


def build_student():
    hidden = layers.Dense(32, activation="relu")
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(10)]
    )


def save_shards(images, folder):
    """The images in files, as data too large for one machine would be."""
    indices = np.array_split(np.arange(len(images)), NUM_SHARDS)
    for number, index in enumerate(indices):
        path = folder / f"shard_{number}.npz"
        np.savez(path, images=images[index], sample_index=index)
        yield {"part": str(number), "shard": str(path), "samples": len(index)}


def batches(shard):
    """A shard's images, each with its sample index; no labels."""
    with np.load(shard) as arrays:
        images, sample_index = arrays["images"], arrays["sample_index"]
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        yield images[rows], {"sample_index": sample_index[rows]}


class Writer:
    """One of Ray's workers: a copy of the teacher that predicts shards."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.teacher = build_teacher()
        self.teacher.load_weights(self.folder / "teacher.weights.h5")

    def __call__(self, row):
        shard = batches(row["shard"])
        if row["part"] == KILLED:
            shard = self.killed_half_way(shard)
        kd.cache.write(
            self.teacher,
            shard,
            self.folder / "predictions",
            part=row["part"],
            # Written to the disk so often only as there is so little data.
            shard_samples=BATCH_SIZE,
            verbose=0,
        )
        return {**row, "worker": os.getpid()}

    def killed_half_way(self, shard):
        """Kills this process, as if a machine failed; only once."""
        marker = self.folder / "killed.json"
        for number, batch in enumerate(shard):
            if number == 3 and not marker.exists():
                report = {
                    "worker": os.getpid(),
                    "shards": finished_shards(self.folder),
                }
                marker.write_text(json.dumps(report))
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def finished_shards(folder):
    """Files of the killed worker's part with their times of writing.

    A file that `part.json` doesn't name yet does not count, and is removed.
    """
    part = folder / f"predictions/parts/{KILLED}"
    named = json.loads((part / "part.json").read_text())["shards"]
    files = [part / shard["file"] for shard in named]
    return {file.name: file.stat().st_mtime_ns for file in files}


def start_ray():
    ray.init(
        num_cpus=NUM_WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        # The workers need the backend. Ray gives each of them one thread.
        runtime_env={"env_vars": {"KERAS_BACKEND": keras.backend.backend()}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel("ERROR")


def predict(shards, folder):
    """Writes the predictions of the shards; returns them with their workers.

    If a worker is lost, Ray starts another, and gives it the same shard.
    """
    dataset = ray.data.from_items(shards, override_num_blocks=len(shards))
    workers = ray.data.ActorPoolStrategy(
        size=NUM_WORKERS, max_tasks_in_flight_per_actor=1
    )
    arguments = dict(fn_constructor_args=[str(folder)], compute=workers)
    return dataset.map(Writer, **arguments).take_all()


def write_predictions(shards, folder, samples):
    """The pass over the data, with two failures; shards with their workers."""
    written = predict(shards[:-1], folder)
    ray.shutdown()
    killed = json.loads((folder / "killed.json").read_text())
    if not killed["shards"].items() <= finished_shards(folder).items():
        raise RuntimeError(
            "The second worker did not continue, but began again."
        )
    killed["samples"] = BATCH_SIZE * len(killed["shards"])
    print(
        f"\nPart {KILLED}: its worker was killed after {killed['samples']} "
        "samples, and another wrote the rest."
    )
    try:
        kd.cache.merge(folder / "predictions", samples=samples)
    except ValueError as error:
        print(f"\nmerge: {error}")
    # The pass may be repeated, which computes only what is missing. Or any
    # process writes the part that is missing.
    written.append(Writer(folder)(shards[-1]))
    kd.cache.merge(folder / "predictions", samples=samples)
    return written, killed


def train(model, data, learning_rate, test, epochs):
    """Compiles and fits; returns the test accuracy by epoch, in percent."""
    adam = keras.optimizers.Adam(learning_rate)
    model.compile(adam, LOSS, metrics=["accuracy"])
    history = model.fit(**data, epochs=epochs, validation_data=test, verbose=0)
    return 100 * np.array(history.history["val_accuracy"])


def train_students(seed, teacher, predictions, images, labels, test, epochs):
    """Test accuracy by epoch of two students; soft targets, temperature 4."""
    keras.utils.set_random_seed(seed)
    _, few = split(labels, np.arange(len(labels)), NUM_LABELS, seed)
    partly = np.full_like(labels, -1)
    partly[few] = labels[few]
    live = kd.Distiller(teacher, build_student())
    cached = kd.Distiller(predictions, build_student())
    joined = predictions.join(images, partly, batch_size=50, seed=seed)
    arrays = dict(x=images, y=partly, batch_size=50)
    return {
        LIVE: train(live, arrays, 1e-2, test, epochs),
        CACHED: train(cached, dict(x=joined), 1e-2, test, epochs),
    }


def print_table(teacher_accuracy, curves):
    print(f"\n{'':30}  test accuracy %\n{'teacher':30}{teacher_accuracy:17.1f}")
    for row in ROWS:
        last = [curve[row][-1] for curve in curves]
        ddof = min(1, len(last) - 1)
        text = f"{np.mean(last):.1f} ± {np.std(last, ddof=ddof):.1f}"
        print(f"{row:30}{text:>17}")


def plot(path, written, killed, curves):
    figure = Figure(figsize=(11, 4), layout="constrained")
    parts, accuracy = figure.subplots(1, 2)
    workers = [killed["worker"], *(row["worker"] for row in written)]
    colors = {
        worker: f"C{i}" for i, worker in enumerate(dict.fromkeys(workers))
    }
    for row in sorted(written, key=lambda row: row["part"]):
        parts.barh(row["part"], row["samples"], color=colors[row["worker"]])
    parts.barh(KILLED, killed["samples"], color=colors[killed["worker"]])
    title = "Parts by process; one process was killed"
    parts.set(xlabel="samples", ylabel="part", title=title)
    for row, color in zip(ROWS, ["0.6", "tab:blue"]):
        values = np.array([curve[row] for curve in curves])
        ddof = min(1, len(values) - 1)
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=ddof)
        x, low, high = range(1, len(mean) + 1), mean - spread, mean + spread
        accuracy.plot(x, mean, color=color, label=row)
        accuracy.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    title = f"Learning curves, mean and spread of {len(curves)} seeds"
    accuracy.set(xlabel="epoch", ylabel="test accuracy, %", title=title)
    accuracy.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--output", default="teacher_predictions_with_ray.png")
    arguments = parser.parse_args()
    seeds, epochs = (1, 1) if arguments.smoke else (5, 30)

    # First of all: a process with threads, as JAX's, is better not forked.
    start_ray()
    (images, labels), test = load_data()
    keras.utils.set_random_seed(0)
    teacher = build_teacher()
    data = dict(x=images, y=labels, batch_size=50)
    teacher_accuracy = train(teacher, data, 1e-3, test, epochs)[-1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        teacher.save_weights(folder / "teacher.weights.h5")
        shards = list(save_shards(images, folder))
        written, killed = write_predictions(shards, folder, len(images))
        predictions = kd.cache.open(folder / "predictions", teacher=teacher)
        everything = [teacher, predictions, images, labels, test, epochs]
        curves = [train_students(seed, *everything) for seed in range(seeds)]
    print_table(teacher_accuracy, curves)
    plot(arguments.output, written, killed, curves)
    print(f"\nParts by process, and learning curves: {arguments.output}")


if __name__ == "__main__":
    main()
