"""Two replicas take the step that one takes (TensorFlow)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import BACKEND

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Keras has replicas on TensorFlow only"
)

# The devices must be set before TensorFlow starts: a process of its own.
SCRIPT = """
import json

import keras
import numpy as np
import tensorflow as tf

import keras_kd as kd

LOSSES = {
    "soft_targets": lambda: kd.losses.SoftTargets(temperature=2.0),
    "standardized": lambda: kd.losses.SoftTargets(2.0, standardize=True),
    "binary_soft_targets": kd.losses.BinarySoftTargets,
    "logit_matching": kd.losses.LogitMatching,
    "feature_matching": kd.losses.FeatureMatching,
    "cosine": lambda: kd.losses.FeatureMatching("cosine"),
    "attention_code": kd.losses.AttentionTransfer,
    "attention_paper": lambda: kd.losses.AttentionTransfer(form="paper"),
}
random = np.random.default_rng(0)
x = random.normal(size=(8, 4, 5)).astype("float32")
teacher = random.normal(size=(8, 4, 3)).astype("float32")
# Keras divides by each replica's own weights: equal sums, or no equality.
weights = np.array([1.0, 2.0, 0.0, 1.0] * 2, "float32")


def step(make, strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((4, 5)), keras.layers.Dense(3)])
        kernel = np.random.default_rng(1).normal(size=(5, 3))
        model.layers[-1].kernel.assign(kernel)
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss=make())
    data = tf.data.Dataset.from_tensor_slices((x, teacher, weights)).batch(8)
    model.fit(data, verbose=0)
    after = keras.ops.convert_to_numpy(model.layers[-1].kernel.value)
    return after - kernel


cpus = tf.config.list_physical_devices("CPU")
device = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpus[0], [device, device])
two = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
one = tf.distribute.get_strategy()
print(
    json.dumps(
        {
            "replicas": two.num_replicas_in_sync,
            "steps": {
                name: [step(make, one).tolist(), step(make, two).tolist()]
                for name, make in LOSSES.items()
            },
        }
    )
)
"""


def test_two_replicas_take_the_step_of_one():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["replicas"] == 2
    for name, (one, two) in answer["steps"].items():
        largest = max(abs(number) for row in one for number in row)
        assert largest > 1e-4, name
        for row_of_one, row_of_two in zip(one, two):
            assert row_of_two == pytest.approx(
                row_of_one, rel=0, abs=1e-5 * largest
            ), name
