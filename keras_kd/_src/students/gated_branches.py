"""ONE's student: branches on one trunk, and a gate that averages them."""

import keras
from keras import layers
from keras import ops

from keras_kd._src.students.parts import checked_parts
from keras_kd._src.students.parts import first_inputs

ENSEMBLE = "ensemble"


def gated_branches(trunk, branches, *, data_format=None, name="branches"):
    """A student with several branches and their gated ensemble (ONE).

    For on-the-fly native ensembles (`schemes.native_ensemble`): the first
    layers are shared, the branches differ in their initial weights, and a gate
    is trained to weight them. The ensemble is a teacher that costs little more
    than one student. After training, `keras.Sequential([trunk, branch])` is a
    plain model that can be used alone:

        gate = softmax(relu(norm(dense(mean over positions of trunk))))
        ensemble = sum_k gate_k * branch_k(trunk(inputs))

    Args:
        trunk: a Keras model with known inputs, whose output is one tensor.
        branches: dict, key -> Keras model from the trunk's output to logits,
            `(batch, classes)`; two or more. The keys name the branches in the
            logs.
        data_format: `"channels_last"` or `"channels_first"`, if the trunk's
            output is a feature map; Keras' setting by default.
        name: the model's name.

    Returns:
        A Functional model whose output is a dict: each branch's logits under
        its key, and their weighted sum under "ensemble", `(batch, classes)`
        each.

    Raises:
        ValueError: there are fewer than two branches; one is not a Keras
            model, occurs twice, or has the key "ensemble"; the trunk's inputs
            are not known.

    Example:
    >>> trunk = keras.Sequential([keras.Input((4,)), layers.Dense(8)])
    >>> student = gated_branches(trunk, {
    ...     key: keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    ...     for key in ("left", "right")
    ... })
    >>> sorted(student(ops.ones((2, 4))))
    ['ensemble', 'left', 'right']

    Reference: Lan, Zhu and Gong, 2018, "Knowledge Distillation by On-the-Fly
    Native Ensemble", arXiv 1806.04606.
    """
    branches = checked_parts(branches, "branches")
    if ENSEMBLE in branches:
        raise ValueError(
            f"Argument `branches` must have no key {ENSEMBLE!r}, which names "
            f"the output of all together. Received: {list(branches)}. "
            "Choose another key."
        )
    inputs = first_inputs([trunk])
    features = trunk(inputs)
    outputs = {key: branch(features) for key, branch in branches.items()}
    gate = _gate(features, len(branches), data_format)
    logits = ops.stack(list(outputs.values()), axis=1)
    outputs[ENSEMBLE] = ops.sum(logits * ops.expand_dims(gate, -1), axis=1)
    return keras.Model(inputs, outputs, name=name)


def _gate(features, branches, data_format):
    data_format = data_format or keras.config.image_data_format()
    positions = list(range(1, len(features.shape)))
    channels = 1 if data_format == "channels_first" else positions[-1]
    if len(positions) > 1:
        positions.remove(channels)
        features = ops.mean(features, axis=tuple(positions))
    x = layers.Dense(branches, name="gate")(features)
    x = layers.BatchNormalization(name="gate_norm")(x)
    return layers.Softmax(name="gate_weights")(ops.relu(x))
