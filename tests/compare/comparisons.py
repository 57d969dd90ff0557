"""What the tests of comparisons share: small models and data."""

import keras
import numpy as np
from keras import layers

import keras_kd as kd


def classes_data(samples=60):
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 4)).astype("float32")
    return x, (x[:, 0] > x[:, 1]).astype("int32") + (x[:, 2] > 1.0)


def build(units=3):
    hidden = layers.Dense(units, activation="relu")
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(3)])


def build_teacher():
    return build(8)


def settings():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {"optimizer": keras.optimizers.Adam(0.02), "loss": loss}


def cooler(teacher, student):
    return kd.Distiller(teacher, student, kd.losses.SoftTargets(1.0))


def compare(teacher=build_teacher, **changed):
    """Compares small models; 40 samples to train on, 20 for the test."""
    x, y = classes_data()
    arguments = {
        "build_student": build,
        "train_data": (x[:40], y[:40]),
        "test_data": (x[40:], y[40:]),
        "compile": settings,
        "epochs": 2,
        "batch_size": 16,
        "seeds": (0, 1),
        "verbose": 0,
    }
    budgets = {"steps", "seconds"} & set(changed)
    if budgets:
        del arguments["epochs"]
    return kd.compare(teacher, **{**arguments, **changed})


TIMES = "seconds", "cpu_seconds", "compile_seconds"


def without_times(report):
    """The runs, but for what a clock measured, in a fixed order."""
    runs = [
        {key: value for key, value in run.items() if key not in TIMES}
        for run in report.runs
    ]
    return sorted(runs, key=lambda run: (run["way"], run["seed"]))
