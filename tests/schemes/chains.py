"""A small chain of three stages, for the tests."""

import keras
import numpy as np
from keras import layers
from support import cross_entropy

import keras_kd as kd

EPOCHS = 3
BATCHES = 5
WIDTHS = {"large": 9, "medium": 6, "small": 3}


def model_of(width, name=None):
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(width, activation="tanh", name="hidden"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, name="head"),
        ],
        name=name,
    )


def samples(count=40, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype("float32")
    return x, np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=-1)


def compiled():
    return {
        "optimizer": keras.optimizers.Adam(0.01),
        "loss": cross_entropy(),
        "metrics": ["accuracy"],
    }


def hints(teachers):
    return [
        kd.Transfer(kd.losses.SoftTargets(2.0)),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="hidden",
            student="hidden",
            adapter=kd.layers.FeatureAdapter(),
            weight=kd.schedules.Annealing(1.0, 0.1, steps=2 * BATCHES),
        ),
    ]


class LowerRate(keras.callbacks.Callback):
    """Changes the optimizer at the end of an epoch, as Keras' own do."""

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        optimizer.learning_rate = float(optimizer.learning_rate) * 0.5


def stage_of(name, callbacks=(), **kwargs):
    """A stage; `callbacks` are functions that make one."""
    arguments = {
        "epochs": EPOCHS,
        "compile": compiled,
        "transfers": hints,
        "callbacks": lambda: [LowerRate(), *(make() for make in callbacks)],
    }
    arguments["student"] = lambda: model_of(WIDTHS[name])
    return kd.schemes.Stage(name, **{**arguments, **kwargs})


def chain_of(teacher, folder, *, seed=5, **callbacks):
    """A chain; callbacks by the stage's name."""
    return kd.schemes.Chain(
        teacher,
        [stage_of(name, callbacks.get(name, ())) for name in WIDTHS],
        folder=folder,
        seed=seed,
    )


def fit(chain, **kwargs):
    x, y = samples()
    return chain.fit(
        x,
        y,
        validation_data=samples(24, seed=1),
        batch_size=8,
        verbose=0,
        **kwargs,
    )
