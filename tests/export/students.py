"""Small students to export, of importable classes, and their samples."""

import keras
import numpy as np
from keras import layers
from keras import ops

SAMPLES = 6


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def mlp():
    """One number a sample, and an activation that converters know apart."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(40, activation="gelu"),
            layers.Dense(40, activation="tanh"),
            layers.Dense(1),
        ]
    )


def cnn():
    """As for phones: batch normalization, bounded ReLU, depthwise."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(_trained_norm(16)(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU()(_trained_norm(16)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4)(x), name="cnn")


def _trained_norm(channels):
    """What it would have learned of data: neither zeros nor ones."""
    draw = np.random.default_rng(7).uniform
    sizes = [(0.5, 2.0), (-0.5, 0.5), (-0.5, 0.5), (0.5, 2.0)]
    norm = layers.BatchNormalization()
    norm.build((None, None, None, channels))
    norm.set_weights([draw(*each, channels) for each in sizes])
    return norm


def text():
    """Inputs of one shape and outputs of one shape, in no order of names."""
    tokens = {
        name: keras.Input((6,), dtype="int32", name=name)
        for name in ("token_ids", "padding_mask")
    }
    x = layers.Embedding(20, 8)(tokens["token_ids"])
    mask = ops.cast(tokens["padding_mask"], "bool")
    attended = layers.MultiHeadAttention(2, 4)(
        x, x, attention_mask=mask[:, None, :]
    )
    x = layers.LayerNormalization()(x + attended)
    real = ops.cast(tokens["padding_mask"], "float32")[..., None]
    x = ops.sum(x * real, axis=1) / ops.sum(real, axis=1)
    outputs = {
        "topic": layers.Dense(3)(x),
        "mood": layers.Dense(3, activation=swish_of_twice)(x),
    }
    return keras.Model(tokens, outputs, name="text")


class Residual(keras.Model):
    """A `call` of its own, of a class that nobody registered."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.inner = layers.Dense(width, activation="gelu")
        self.outer = layers.Dense(3)

    def call(self, inputs):
        return self.outer(inputs + 2 * self.inner(inputs))  # An integer.

    def get_config(self):
        return {"width": self.width, "name": self.name}


def swish_of_twice(x):
    return x * ops.sigmoid(2.0 * x)


def residual():
    student = Residual(5)
    student(np.zeros((1, 5), "float32"))
    return student


class Counting(layers.Layer):
    """Gives something else each time: no file can follow it."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs + self.calls


def unsteady():
    return keras.Sequential([keras.Input((5,)), layers.Dense(3), Counting()])


def samples_for(student):
    if student.name == "text":
        ids = np.random.default_rng(2).integers(0, 20, (SAMPLES, 6))
        lengths = np.arange(1, SAMPLES + 1)
        return {
            "padding_mask": (np.arange(6) < lengths[:, None]).astype("int32"),
            "token_ids": ids.astype("int32"),
        }
    known = getattr(student, "inputs", None)
    return random(SAMPLES, *(known[0].shape[1:] if known else (5,)))


def predictions(student, samples):
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy, student.predict(samples, verbose=0)
    )
