"""Which temperature? Teachers and students of four kinds, at four temperatures.

    KERAS_BACKEND=jax python examples/benchmarks/temperature.py

Digits of scikit-learn, of 8 x 8 pixels. A student learns from the teacher's
soft targets alone, on images that the teacher was trained on: on 100 of them or
on all 1,000, for 800 steps. The four rows of the table are

- sure: a network, nearly always sure of its training images
- tiny student: the same teacher, and a student of six units in place of 32
- forest: a random forest, whose probabilities are soft already
- errors: a network that has memorized labels of which 30 % are wrong

Printed are, for each temperature, the student's test accuracy in % (mean and
standard deviation of three seeds, which draw all but the images) and below, how
probable the teacher's first class is on the student's images, in the mean. On
JAX:

              images        T = 1        T = 2        T = 4        T = 8
sure             100   92.9 ± 0.2   94.7 ± 0.3   95.6 ± 0.1   96.2 ± 0.6
                           (0.98)       (0.85)       (0.52)       (0.27)
sure            1000   96.7 ± 0.0   96.5 ± 0.4   96.6 ± 0.3   96.4 ± 0.6
                           (0.97)       (0.84)       (0.52)       (0.27)
tiny student     100   83.9 ± 4.3   87.5 ± 5.1   88.3 ± 5.2   88.9 ± 3.6
                           (0.98)       (0.85)       (0.52)       (0.27)
tiny student    1000   94.1 ± 0.9   94.3 ± 1.2   93.1 ± 1.1   90.9 ± 3.8
                           (0.97)       (0.84)       (0.52)       (0.27)
forest           100   88.2 ± 1.3   85.7 ± 1.5   84.0 ± 2.2   82.5 ± 1.9
                           (0.91)       (0.60)       (0.30)       (0.18)
forest          1000   97.3 ± 0.4   96.4 ± 0.1   95.5 ± 0.2   95.4 ± 0.5
                           (0.90)       (0.59)       (0.30)       (0.18)
errors           100   79.2 ± 1.0   79.2 ± 0.7   78.0 ± 1.8   76.7 ± 3.8
                           (0.73)       (0.43)       (0.24)       (0.16)
errors          1000   89.5 ± 1.6   87.0 ± 1.5   86.8 ± 1.5   86.3 ± 2.0
                           (0.72)       (0.42)       (0.24)       (0.16)

A high temperature pays where the teacher is sure and the images are few: at 1
its probabilities are the labels once more. With ten times as many images it
makes no difference, and for the tiny student it is too much. A forest, and a
teacher that has memorized errors, are best at 1 however many images there are:
what a temperature raises there is noise. At 1, `diagnose` proposes 4 for the
sure teacher, and no change for the others.
"""

import argparse

import keras
import numpy as np
import scipy
from keras import layers
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import keras_kd as kd

TEMPERATURES = 1.0, 2.0, 4.0, 8.0
BATCH_SIZE = 50


def load_data():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    return train_test_split(
        images, labels, test_size=797, stratify=labels, random_state=0
    )


def network(units, dropout=0.0):
    stack = [keras.Input((64,)), layers.Dense(units, activation="relu")]
    return keras.Sequential([*stack, layers.Dropout(dropout), layers.Dense(10)])


def fit(model, x, y, epochs, rate):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss if y is not None else None)
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def sure(x, y, epochs):
    return fit(network(512, dropout=0.3), x, y, 30 * epochs, 1e-3)


def forest(x, y, epochs):
    seed = int(keras.random.randint((), 0, 2**31 - 1))
    model = RandomForestClassifier(random_state=seed).fit(x, y)
    return kd.teachers.FunctionTeacher.of_classifier(model, (64,))


def errors(x, y, epochs):
    random = np.random.default_rng(int(keras.random.randint((), 0, 2**31 - 1)))
    wrong = random.random(len(y)) < 0.3
    other = (y + random.integers(1, 10, len(y))) % 10
    return fit(network(512), x, np.where(wrong, other, y), 80 * epochs, 1e-3)


# The teacher, and the student's units.
KINDS = {
    "sure": (sure, 32),
    "tiny student": (sure, 6),
    "forest": (forest, 32),
    "errors": (errors, 32),
}


def logits_of(model, x):
    return model.predict(x, batch_size=1000, verbose=0)


def distil(teacher, units, temperature, x, steps):
    student = network(units)
    distiller = kd.Distiller(
        teacher, student, kd.losses.SoftTargets(temperature), hard_weight=0.0
    )
    epochs = max(1, steps * BATCH_SIZE // len(x))
    fit(distiller, x, None, epochs, 5e-3)
    return student


def measure(kind, counts, seeds, epochs, steps, data):
    """Confidences and accuracies, `(counts, seeds, temperatures)`."""
    make, units = KINDS[kind]
    x, x_test, y, y_test = data
    found = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        teacher = make(x, y, epochs)
        for count in counts:
            logits = logits_of(teacher, x[:count])
            for temperature in TEMPERATURES:
                probabilities = scipy.special.softmax(logits / temperature, -1)
                keras.utils.set_random_seed(seed)
                student = distil(teacher, units, temperature, x[:count], steps)
                right = logits_of(student, x_test).argmax(axis=-1) == y_test
                found.append((probabilities.max(-1).mean(), 100 * right.mean()))
    shape = seeds, len(counts), len(TEMPERATURES), 2
    return np.moveaxis(np.reshape(found, shape), -1, 0).swapaxes(1, 2)


def print_rows(kind, counts, confidence, accuracy):
    spread = accuracy.std(axis=1, ddof=min(1, accuracy.shape[1] - 1))
    for count, *rows in zip(
        counts, confidence.mean(1), accuracy.mean(1), spread
    ):
        sure_of, mean, deviation = rows
        cells = [f"{m:5.1f} ± {s:.1f}" for m, s in zip(mean, deviation)]
        print(f"{kind:14}{count:6}" + "".join(f"{c:>13}" for c in cells))
        print(f"{'':20}" + "".join(f"{f'({p:.2f})':>13}" for p in sure_of))


def plot(path, results, counts):
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, len(counts), sharey=True)
    for place, (axis, count) in enumerate(zip(axes, counts)):
        for kind, (_, accuracy) in results.items():
            axis.plot(TEMPERATURES, accuracy[place].mean(0), "o-", label=kind)
        axis.set(xscale="log", xlabel="temperature", title=f"{count} images")
        axis.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--output", default="temperature.png")
    arguments = parser.parse_args()
    seeds, epochs, steps = (1, 0, 2) if arguments.smoke else (3, 1, 800)
    kinds = ["forest"] if arguments.smoke else KINDS

    data, counts, results = load_data(), (100, 1000), {}
    heads = "".join(f"{f'T = {t:g}':>13}" for t in TEMPERATURES)
    print(f"{'':14}images{heads}")
    for kind in kinds:
        results[kind] = measure(kind, counts, seeds, epochs, steps, data)
        print_rows(kind, counts, *results[kind])
    plot(arguments.output, results, counts)
    print(f"\nFigure: {arguments.output}")


if __name__ == "__main__":
    main()
