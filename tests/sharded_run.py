"""Trains on one device and with a sharded head (JAX); compares both."""

import os

os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"

import keras
import numpy as np
from support import numpy

import keras_kd as kd

CLASSES = 10


def language_model(units, name):
    # Logits of 0 or so would have a divergence of nothing but rounding.
    initializer = keras.initializers.RandomNormal(stddev=1.0)
    tokens = keras.Input((6,), dtype="int32")
    embedding = keras.layers.Embedding(CLASSES, units, initializer)
    head = keras.layers.Dense(
        CLASSES, kernel_initializer=initializer, name=f"{name}_head"
    )
    return keras.Model(tokens, head(embedding(tokens)), name=name)


def train():
    keras.utils.set_random_seed(0)
    teacher, student = (
        language_model(units, name)
        for units, name in ((8, "teacher"), (4, "student"))
    )
    distiller = kd.schemes.causal_lm(teacher, student, chunk_size=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, weighted_metrics=[kd.metrics.Perplexity()])
    tokens = np.random.default_rng(0).integers(CLASSES, size=(8, 7))
    x, y = tokens[:, :-1], tokens[:, 1:]
    history = distiller.fit(x, y, 4, epochs=2, shuffle=False, verbose=0)
    return history.history, student


def main():
    alone, plain = train()
    devices = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(devices)
    layout[".*head/kernel"] = (None, "model")
    layout[".*head/bias"] = ("model",)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout)
    )
    sharded, student = train()
    kernel = student.layers[-1].kernel.value
    assert not kernel.sharding.is_fully_replicated
    for name in alone:
        np.testing.assert_allclose(
            alone[name], sharded[name], rtol=1e-5, err_msg=name
        )
    for one, two in zip(plain.variables, student.variables):
        np.testing.assert_allclose(numpy(one), numpy(two), atol=1e-6)


if __name__ == "__main__":
    main()
