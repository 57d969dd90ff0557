"""Peers: several students in one model, for deep mutual learning."""

import keras

from keras_kd._src.students.parts import checked_parts
from keras_kd._src.students.parts import first_inputs


def peers(students, *, name="peers"):
    """Several students with the same inputs as one model (DML).

    For deep mutual learning (`schemes.mutual_learning`): a `SelfDistiller`
    trains all of them in one `fit`, whether their architectures are the same
    or not. Nothing is shared or copied: each student remains a model of its
    own, to be saved and used alone. The tap of a peer's output is its key,
    "[small]"; taps of its layers begin with its model's name, "cnn/stage2".

        output = {key: student(inputs) for each peer}

    Args:
        students: dict, key -> Keras model; two or more. The keys name the
            peers in the logs.
        name: the model's name.

    Returns:
        A Functional model whose output is a dict, each student's output under
        its key. It can be loaded without `keras_kd`.

    Raises:
        ValueError: there are fewer than two students; one is not a Keras
            model, or occurs twice; two models have the same name; no model's
            inputs are known.

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
