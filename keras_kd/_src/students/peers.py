"""Peers: several students in one model, for deep mutual learning."""

import keras

from keras_kd._src.students.parts import checked_parts
from keras_kd._src.students.parts import first_inputs


def peers(students, *, name="peers"):
    """Several students of the same inputs as one model (DML).

    For deep mutual learning (`schemes.mutual_learning`): a `SelfDistiller`
    trains all of them, alike or not, in one `fit`.
    Nothing is shared or copied: each student stays the model that it was, to
    be saved and used alone. A peer's output is tapped as "[small]", its layers
    below its model's own name, "cnn/stage2".

        output = {key: student(inputs) for each peer}

    Args:
        students: dict, key -> Keras model; two or more. The keys name the
            peers in the logs.
        name: the model's name.

    Returns:
        A Functional model whose output is a dict, each student's by its key;
        it needs no `keras_kd` to be loaded.

    Raises:
        ValueError: there are fewer than two students; one is no Keras model,
            or is there twice; two models have one name; no model's inputs are
            known.

    Example:
    >>> together = peers({
    ...     key: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    ...     for key in ("small", "large")
    ... })
    >>> outputs = together(keras.ops.ones((2, 4)))
    >>> {key: tuple(outputs[key].shape) for key in ("small", "large")}
    {'small': (2, 3), 'large': (2, 3)}

    Reference: Zhang et al., 2018, "Deep Mutual Learning", arXiv 1706.00384.
    """
    students = checked_parts(students, "students")
    inputs = first_inputs(students.values())
    outputs = {key: student(inputs) for key, student in students.items()}
    return keras.Model(inputs, outputs, name=name)
