"""Two replicas take the step that one takes (TensorFlow).

Where a loss compares the samples of a batch, a replica has its own to compare:
two then take the mean of the steps that the two halves of the batch give.
"""

import functools
import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import pytest
from support import BACKEND

from keras_kd import losses as kd_losses

pytestmark = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="Keras has replicas on TensorFlow only"
)


class Case(NamedTuple):
    """A loss, the shapes of its features of a sample, and what it compares."""

    make: Any
    shapes: list
    student_shapes: list | None = None
    compares_samples: bool = False


def make(name, *args, **kwargs):
    # By name: a loss that is gone fails its own test, not the import.
    return functools.partial(getattr(kd_losses, name), *args, **kwargs)


def responses(name, *args, **kwargs):
    return Case(make(name, *args, **kwargs), [(4,)])


def features(name, *args, **kwargs):
    return Case(make(name, *args, **kwargs), [(4, 4, 2)])


def attention(name, *args, **kwargs):
    return Case(make(name, *args, **kwargs), [(2, 3, 3)])


def relations(name, *args, **kwargs):
    return Case(make(name, *args, **kwargs), [(4,)], compares_samples=True)


class Aligned(kd_losses.LikelihoodMatching):
    """One chunk a text, of three tokens that are its label."""

    def call(self, teacher_logits, student_logits, *, labels, mask):
        labels = keras.ops.repeat(labels[:, None], 3, axis=1)
        chunks = keras.ops.zeros_like(labels)
        inputs = {
            "chunks": chunks,
            "teacher_chunks": chunks,
            "teacher_labels": labels,
        }
        return super().call(
            teacher_logits,
            student_logits,
            labels=labels,
            inputs=inputs,
            mask=mask,
        )


# By class; what follows a hyphen is a variant.
CASES = {
    "ActivationBoundaries": features("ActivationBoundaries"),
    "AttentionDivergence": attention("AttentionDivergence", from_scores=True),
    "AttentionMapMatching": attention("AttentionMapMatching"),
    "AttentionTransfer": features("AttentionTransfer"),
    "AttentionTransfer-paper": features("AttentionTransfer", form="paper"),
    "BinarySoftTargets": responses("BinarySoftTargets"),
    "BoundedRegression": Case(make("BoundedRegression"), [(1,)]),
    "ChannelWiseDistillation": features("ChannelWiseDistillation"),
    "CollaborativeTargets": Case(make("CollaborativeTargets"), [(4,), (4,)]),
    # All others are negatives, so that the draw is of no importance.
    "ContrastiveMemory": Case(
        make(
            "ContrastiveMemory", 8, 4, num_negatives=7, temperature=0.5, seed=0
        ),
        [(4,)],
    ),
    "ContrastiveRepresentation": relations("ContrastiveRepresentation"),
    "CorrelationCongruence": relations("CorrelationCongruence"),
    "CorrelationCongruence-kernel": relations(
        "CorrelationCongruence", "kernel"
    ),
    "DIST": relations("DIST"),
    "DecoupledKD": responses("DecoupledKD"),
    "FactorTransfer": features("FactorTransfer"),
    "FeatureMatching": features("FeatureMatching"),
    "FeatureMatching-cosine": features("FeatureMatching", "cosine"),
    "FlowOfSolution": Case(make("FlowOfSolution"), [(4, 4, 2), (2, 2, 3)]),
    "HierarchicalContext": features("HierarchicalContext"),
    "InterChannelCorrelation": features("InterChannelCorrelation"),
    "JensenShannon": responses("JensenShannon"),
    "LikelihoodMatching": Case(
        functools.partial(Aligned, temperature=1.0), [(3, 4)]
    ),
    "LogSumDistance": relations("LogSumDistance"),
    "LogitMatching": responses("LogitMatching"),
    "MarginMixedTeacher": responses("MarginMixedTeacher"),
    "MarginReLU": features("MarginReLU"),
    "NeuronSelectivity": features("NeuronSelectivity"),
    "OrdinalSoftTargets": responses("OrdinalSoftTargets"),
    "PastPredictions": Case(make("PastPredictions", 8, 4), [(4,)]),
    "ProbabilisticTransfer": relations("ProbabilisticTransfer"),
    "RelationalAngle": relations("RelationalAngle"),
    "RelationalDistance": relations("RelationalDistance"),
    "ReverseKL": responses("ReverseKL"),
    "SelfAttentionRelation": Case(make("SelfAttentionRelation", 2), [(3, 4)]),
    "SimilarityPreserving": relations("SimilarityPreserving"),
    "SingularVectors": Case(make("SingularVectors"), [(4, 4, 3), (2, 2, 4)]),
    "SkewKL": responses("SkewKL"),
    "SkewReverseKL": responses("SkewReverseKL"),
    "SoftTargets": responses("SoftTargets", 2.0),
    "SoftTargets-standardized": responses("SoftTargets", standardize=True),
    "StreamlinedDirection": relations("StreamlinedDirection"),
    "TargetEnhancement": responses("TargetEnhancement"),
    "TopKTargets": responses("TopKTargets", 2),
    "UniversalLogit": Case(make("UniversalLogit"), [(3, 4)], [(3, 5)]),
    "VariationalInformation": Case(
        make("VariationalInformation"), [(3, 2)], [(3, 4)]
    ),
    "VirtualTeacher": responses("VirtualTeacher"),
}

# --- the program: all losses at once, each on layers of its own -------------


def model(side):
    """A layer for each array; its kernel learns from that array alone."""
    inputs = keras.Input((5,))
    outputs = []
    for name, case in CASES.items():
        shapes = case.shapes
        if side == "student" and case.student_shapes:
            shapes = case.student_shapes
        for place, shape in enumerate(shapes):
            array = keras.layers.Dense(
                math.prod(shape), use_bias=False, name=f"{name}-kernel{place}"
            )(inputs)
            outputs.append(
                keras.layers.Reshape(shape, name=f"{name}-array{place}")(array)
            )
    return keras.Model(inputs, outputs, name=side)


def distiller():
    import keras_kd as kd

    transfers = []
    for name, case in CASES.items():
        taps = [f"{name}-array{place}" for place in range(len(case.shapes))]
        transfers.append(
            kd.Transfer(case.make(), teacher=taps, student=taps, name=name)
        )
    teacher, student = model("teacher"), model("student")
    fill(teacher, seed=1)
    result = kd.Distiller(teacher, student, transfers)
    # A step so large that the kernel is not what rounds it.
    result.compile(keras.optimizers.SGD(1e4), jit_compile=False)
    return result


def fill(network, seed):
    random = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(random.normal(size=variable.shape))


def forget(trained):
    """Gives each memory a start of its own, and constants: no first batch's."""
    for transfer in trained.transfers:
        bank = getattr(transfer.loss, "bank", None)
        if bank is not None:
            random = np.random.default_rng(3)
            bank.rows.assign(random.dirichlet(np.ones(4), 8))
        memory = getattr(transfer.loss, "memory", None)
        if memory is not None:
            random = np.random.default_rng(3)
            for rows in (memory.teacher_rows, memory.student_rows):
                rows.assign(random.normal(0.0, 0.5, rows.shape))
            memory.classes.assign(np.full(8, -1))
            memory.log_constants.assign([2.0, 2.0])
            memory.constants_set.assign(1)


def steps(trained, samples):
    """Each loss's step on a batch, as one list of numbers."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    x = random.normal(size=(8, 5)).astype("float32")
    labels = random.integers(0, 4, size=8)
    # Keras divides by each replica's own weights: equal sums, or no equality.
    weights = np.array([1.0, 2.0, 0.0, 1.0] * 2, "float32")
    targets = {"labels": labels[samples], "sample_index": np.arange(8)[samples]}
    batch = x[samples], targets, weights[samples]
    fill(trained.student, seed=2)
    forget(trained)
    before = trained.student.get_weights()
    data = tf.data.Dataset.from_tensor_slices(batch).batch(8)
    trained.fit(data, shuffle=False, verbose=0)
    after = trained.student.get_weights()
    found = {name: [] for name in CASES}
    for variable, old, new in zip(trained.student.variables, before, after):
        name = variable.path.split("/")[0].rsplit("-", 1)[0]
        found[name] += (new - old).ravel().tolist()
    return found


def main():
    import tensorflow as tf

    # The devices must be set before TensorFlow starts: a process of its own.
    cpus = tf.config.list_physical_devices("CPU")
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpus[0], [device, device])
    # Rewriting a graph that runs once takes longer than running it.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    alone = distiller()
    runs = {
        "one": steps(alone, slice(0, 8)),
        "first": steps(alone, slice(0, 4)),
        "second": steps(alone, slice(4, 8)),
    }
    strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    with strategy.scope():
        together = distiller()
    runs["two"] = steps(together, slice(0, 8))
    runs["replicas"] = strategy.num_replicas_in_sync
    print(json.dumps(runs))


# --- the tests --------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    folder = Path(__file__)
    paths = [str(folder.parents[2]), str(folder.parents[1])]
    result = subprocess.run(
        [sys.executable, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def differ(first, second):
    """By how much, next to the largest."""
    first, second = np.array(first), np.array(second)
    return np.max(np.abs(first - second)) / np.max(np.abs(second))


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_take_the_step_of_one(name, runs):
    assert runs["replicas"] == 2
    one, two, *halves = (
        np.array(runs[run][name]) for run in ("one", "two", "first", "second")
    )
    assert np.isfinite(two).all() and np.max(np.abs(two)) > 1.0
    mean = np.mean(halves, axis=0)
    if CASES[name].compares_samples:
        assert differ(two, mean) < 1e-5
        assert differ(one, mean) > 1e-3, "it compares no samples"
    else:
        assert differ(two, one) < 1e-5


def test_no_loss_is_left_out():
    """Of the public ones; base classes compare nothing."""
    bases = ("DistillationLoss", "TemperedLoss", "LogitDivergence")
    public = {
        name
        for name, value in vars(kd_losses).items()
        if inspect.isclass(value)
        and issubclass(value, kd_losses.DistillationLoss)
        and name not in bases
    }
    assert public <= {name.split("-")[0] for name in CASES}


if __name__ == "__main__":
    main()
