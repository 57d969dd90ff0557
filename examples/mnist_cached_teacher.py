"""Hinton's MNIST experiment from a cache: the teacher is asked once.

KERAS_BACKEND=jax python examples/mnist_cached_teacher.py
"""

import argparse
import pathlib
import tempfile
import time

import keras
import numpy as np
from matplotlib.figure import Figure
from mnist_hinton import build
from mnist_hinton import fit
from mnist_hinton import load_data
from mnist_hinton import test
from mnist_hinton import train_teacher

import keras_kd as kd

TEMPERATURE = 20.0


def shift(elements, uniforms):
    """A batch of images, each shifted by up to two pixels each way.

    A shift is the sum of two draws from {-1, 0, 1}: small ones are likelier.
    """
    images, labels = elements
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    draws = (3 * uniforms).astype(int).reshape(-1, 2, 2)
    corner = draws.sum(axis=1).T
    rows, columns = corner[..., None] + np.arange(28)
    chosen = np.arange(len(images))[:, None, None]
    return padded[chosen, rows[:, :, None], columns[:, None, :]], labels


def train(name, seed, teacher, data, hard_weight, epochs):
    """A student of a live teacher, or of a cache in its place."""
    student = build(800, seed, standardize=True)
    soft_targets = kd.losses.SoftTargets(TEMPERATURE)
    transfers = [kd.Transfer(soft_targets, weight=1.0 - hard_weight)]
    distiller = kd.Distiller(
        teacher, student, transfers, hard_weight=hard_weight
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(name, distiller, loss, data, rate=4e-3, epochs=epochs)
    return student


def write(teacher, dataset, path, encoding):
    """The cache of a teacher's answers, opened; and the seconds it took."""
    start = time.time()
    kd.cache.write(
        teacher,
        dataset,
        path,
        outputs=encoding,
        batch_size=1000,
        class_names=[str(digit) for digit in range(10)],
        preprocessing="divided by 255",
        dataset_id="mnist:3.0.1/train",
        verbose=0,
    )
    return kd.cache.open(path, teacher=teacher), time.time() - start


def megabytes(path):
    return sum(file.stat().st_size for file in path.rglob("*.*")) / 1e6


def train_on_clean_images(
    rows, teacher, train_set, test_set, folder, seeds, epochs
):
    """The live teacher, and caches of it that are smaller and smaller."""
    encodings = {
        "float32": kd.cache.Dense("float32"),
        "float16": kd.cache.Dense("float16"),
        "top 4 of 10": kd.cache.TopK(4, TEMPERATURE),
    }
    caches = {"live teacher": (teacher, None, 0.0)}
    for name, encoding in encodings.items():
        path = folder / name
        written = write(teacher, train_set[0], path, encoding)
        caches[f"cache, {name}"] = written[0], path, written[1]
    joining = caches["cache, float32"][0]
    weights = {}
    for row, (asked, path, seconds) in caches.items():
        if path is not None:
            joining = asked
        errors = []
        for seed in seeds:
            # The live teacher is trained with on the same batches, whose
            # answers it does not need.
            data = joining.join(*train_set, batch_size=128, seed=seed)
            name = f"{row}, seed {seed}"
            student = train(name, seed, asked, data, 0.7, epochs)
            errors.append(test(student, *test_set)[0])
            weights[row, seed] = np.concatenate(
                [weight.ravel() for weight in student.get_weights()]
            )
        size = megabytes(path) if path else 0.0
        rows[row] = errors, size, seconds
    for seed in seeds:
        live, cached = (
            weights[row, seed] for row in ("live teacher", "cache, float32")
        )
        difference = np.abs(live - cached).max()
        print(f"seed {seed}: live and float32 differ by {difference:.2g}")


def train_on_views(rows, teacher, train_set, test_set, folder, seeds, epochs):
    """A cache of as many views of each image as there are epochs."""
    views = kd.cache.Views(
        *train_set, augment=shift, draws=4, count=epochs, seed=0
    )
    path = folder / "views"
    encoding = kd.cache.Dense("float16")
    answers, seconds = write(teacher, views, path, encoding)
    errors = []
    for seed in seeds:
        data = answers.join(views, batch_size=128, seed=seed)
        student = train(f"views, {seed}", seed, answers, data, 0.1, epochs)
        errors.append(test(student, *test_set)[0])
    row = f"cache, float16, {epochs} views"
    rows[row] = errors, megabytes(path), seconds


def print_table(rows):
    print(
        f"\n{'test errors':28}{'mean':>8}{'std':>7}{'MB':>8}{'written':>10}",
        end="",
    )
    print("   each seed")
    for row, (errors, size, seconds) in rows.items():
        spread = f"{np.std(errors, ddof=1):.1f}" if len(errors) > 1 else ""
        print(
            f"{row:28}{np.mean(errors):8.1f}{spread:>7}{size:8.1f}"
            f"{seconds:8.0f} s   {' '.join(map(str, errors))}"
        )


def plot(path, rows):
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    for (errors, _, _), place in zip(rows.values(), places):
        axes.barh(place, np.mean(errors), color="tab:blue")
        axes.plot(errors, [place] * len(errors), "o", color="black", ms=4)
    axes.axvline(74, color="0.5", ls="--", label="the paper's student")
    axes.set_yticks(places, rows)
    axes.set_xlabel("errors on the 10,000 test images (dots: seeds)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", help="one saved before, a .keras file")
    parser.add_argument("--output", default="mnist_cached_teacher.png")
    arguments = parser.parse_args()
    size, seeds, teacher_epochs, epochs = None, arguments.seeds, 100, 40
    if arguments.smoke:
        size, seeds, teacher_epochs, epochs = 512, 1, 1, 2

    train_set, test_set = load_data(size)
    if arguments.teacher:
        teacher = keras.saving.load_model(arguments.teacher)
    else:
        teacher = train_teacher(*train_set, teacher_epochs)
    print(f"teacher: {test(teacher, *test_set)[0]} test errors")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        given = teacher, train_set, test_set, pathlib.Path(folder)
        train_on_clean_images(rows, *given, range(seeds), epochs)
        train_on_views(rows, *given, range(seeds), epochs)
    print_table(rows)
    plot(arguments.output, rows)
    print(f"\nFigure: {arguments.output}")


if __name__ == "__main__":
    main()
