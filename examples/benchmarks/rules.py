"""Rules, weights and curricula: each alone, with three kinds of teacher.

KERAS_BACKEND=torch python examples/benchmarks/rules.py
"""

import argparse
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

BATCH_SIZE = 50
SIMILAR = {9: 4, 7: 1, 8: 3, 6: 0}


class Data(NamedTuple):
    images: np.ndarray
    theirs: np.ndarray  # The labels of the teacher.
    ours: np.ndarray  # The labels of the student.
    count: int  # The student has the first images only.
    temperature: float


def load_data():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    return train_test_split(
        images, labels, test_size=797, stratify=labels, random_state=0
    )


def mislabeled(labels, share, random):
    wrong = random.random(len(labels)) < share
    shift = random.integers(1, 10, len(labels))
    return np.where(wrong, (labels + shift) % 10, labels)


def sure(images, labels, random):
    return Data(images, labels, labels, 100, temperature=4.0)


def errors(images, labels, random):
    theirs, ours = (mislabeled(labels, 0.3, random) for _ in range(2))
    return Data(images, theirs, ours, len(images), temperature=1.0)


def confused(images, labels, random):
    similar = np.array([SIMILAR.get(label, label) for label in labels])
    theirs = np.where(random.random(len(labels)) < 0.6, similar, labels)
    ours = mislabeled(labels, 0.2, random)
    return Data(images, theirs, ours, len(images), temperature=1.0)


KINDS = {"sure": sure, "errors": errors, "confused": confused}


def network(units):
    hidden = layers.Dense(units, activation="relu")
    return keras.Sequential([keras.Input((64,)), hidden, layers.Dense(10)])


def fit(model, x, y, epochs, rate, callbacks=()):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(x, y, BATCH_SIZE, epochs, verbose=0, callbacks=[*callbacks])
    return model


def train_teacher(data, part, epochs):
    images, labels = data.images[part], data.theirs[part]
    return fit(network(512), images, labels, epochs, 1e-3)


def plain(soft_targets, steps):
    return kd.Transfer(soft_targets)


def with_rule(make_rule, **loss_arguments):
    """A way to distil: soft targets with a rule, made for so many steps."""

    def transfer(soft_targets, steps):
        config = {**soft_targets.get_config(), **loss_arguments}
        loss = type(soft_targets).from_config(config)
        return kd.Transfer(loss, rules=[make_rule(steps)])

    return transfer


def annealed_temperature(soft_targets, steps):
    annealing = kd.schedules.Annealing(8.0, 1.0, steps=steps)
    return kd.Transfer(kd.losses.SoftTargets(annealing))


def annealed_weight(soft_targets, steps):
    annealing = kd.schedules.Annealing(1.0, 0.0, steps=steps)
    return kd.Transfer(soft_targets, weight=annealing)


SUM = {"reduction": "sum_over_batch_size"}
MEMBERS = ["members/0", "members/1"]
# How the transfer is made; with one teacher, or with one for each half.
ONE_TEACHER = {
    "plain": plain,
    "DropWrong": with_rule(lambda steps: kd.rules.DropWrong()),
    "DropUnsure(0.8)": with_rule(lambda steps: kd.rules.DropUnsure(0.8)),
    "DropUnusual": with_rule(lambda steps: kd.rules.DropUnusual()),
    "ProbabilityShift": with_rule(lambda steps: kd.rules.ProbabilityShift()),
    "LiftTrueClass(2)": with_rule(lambda steps: kd.rules.LiftTrueClass(2.0)),
    "ClipTail(0.01)": with_rule(lambda steps: kd.rules.ClipTail(0.01)),
    "TemperatureByEntropy": with_rule(
        lambda steps: kd.rules.TemperatureByEntropy()
    ),
    "LearnedTemperature": with_rule(
        lambda steps: kd.rules.LearnedTemperature(
            kd.schedules.Annealing(0.0, 1.0, steps=max(1, steps // 4))
        )
    ),
    "WeighByEntropy": with_rule(lambda steps: kd.rules.WeighByEntropy()),
    "WeighByEntropy(sure)": with_rule(
        lambda steps: kd.rules.WeighByEntropy("sure")
    ),
    "WeighByLoss": with_rule(lambda steps: kd.rules.WeighByLoss(), **SUM),
    "WeighByDifficulty": with_rule(
        lambda steps: kd.rules.WeighByDifficulty(), **SUM
    ),
    "EasiestFirst": with_rule(
        lambda steps: kd.rules.EasiestFirst(
            kd.schedules.Annealing(0.3, 1.0, steps=max(1, steps // 2))
        )
    ),
    "temperature 8 to 1": annealed_temperature,
    "teacher fades out": annealed_weight,
}
TWO_TEACHERS = {
    "two teachers": (plain, None),
    "confidence weights": (plain, "confidence"),
    "entropy weights": (plain, "entropy"),
    "WeighByAgreement": (
        with_rule(lambda steps: kd.rules.WeighByAgreement(MEMBERS)),
        None,
    ),
}


def distil(teacher, make_transfer, data, steps):
    student, x, y = network(32), data.images[: data.count], data.ours
    soft_targets = kd.losses.SoftTargets(data.temperature)
    transfer = make_transfer(soft_targets, steps)
    distiller = kd.Distiller(teacher, student, transfer)
    epochs = max(1, steps * BATCH_SIZE // len(x))
    fit(distiller, x, y[: data.count], epochs, 5e-3)
    return student


def measure(make_data, seed, epochs, steps, split):
    """Test accuracies in %, by name."""
    x, x_test, y, y_test = split
    data = make_data(x, y, np.random.default_rng(seed))

    def accuracy(model):
        predicted = model.predict(x_test, batch_size=1000, verbose=0)
        return 100 * np.mean(predicted.argmax(axis=-1) == y_test)

    keras.utils.set_random_seed(seed)
    teacher = train_teacher(data, slice(None), epochs)
    halves = [
        train_teacher(data, slice(begin, None, 2), epochs) for begin in (0, 1)
    ]
    found = {"teacher": accuracy(teacher)}
    keras.utils.set_random_seed(seed)
    alone = fit(
        network(32),
        data.images[: data.count],
        data.ours[: data.count],
        max(1, steps * BATCH_SIZE // data.count),
        5e-3,
    )
    found["labels alone"] = accuracy(alone)
    for name, make_transfer in ONE_TEACHER.items():
        keras.utils.set_random_seed(seed)
        found[name] = accuracy(distil(teacher, make_transfer, data, steps))
    for name, (make_transfer, weights) in TWO_TEACHERS.items():
        keras.utils.set_random_seed(seed)
        ensemble = kd.teachers.Ensemble(
            halves, weights=weights, temperature=data.temperature
        )
        found[name] = accuracy(distil(ensemble, make_transfer, data, steps))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    arguments = parser.parse_args()
    seeds, epochs, steps = (1, 1, 1) if arguments.smoke else (5, 60, 800)
    kinds = ["confused"] if arguments.smoke else KINDS

    split, columns = load_data(), []
    for kind in kinds:
        found = [
            measure(KINDS[kind], seed, epochs, steps, split)
            for seed in range(seeds)
        ]
        columns.append({name: [f[name] for f in found] for name in found[0]})
    print(f"{'':22}" + "".join(f"{kind:>13}" for kind in kinds))
    for name in columns[0]:
        cells = [
            f"{np.mean(c[name]):5.1f} ± {np.std(c[name], ddof=seeds > 1):.1f}"
            for c in columns
        ]
        print(f"{name:22}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
