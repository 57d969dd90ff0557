"""The members of an ensemble: what they take, and which classes they know."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_kd._src.specs import input_spec
from keras_kd._src.specs import output_spec
from keras_kd._src.teachers.member import Member

# The logit of a class that a member does not know: its probability is 0.
UNKNOWN = -1e9


def checked_members(members):
    """The argument `members` of an ensemble, as a list of `Member`s.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [part.model is model for part in checked_members([model])]
    [True]
    """
    if not isinstance(members, (list, tuple)) or not members:
        raise ValueError(
            "Argument `members` must be a list of at least one Keras model. "
            f"Received: members={members!r}."
        )
    parts = [
        each if isinstance(each, Member) else Member(each) for each in members
    ]
    models = [part.model for part in parts]
    for place, model in enumerate(models):
        if any(model is other for other in models[:place]):
            raise ValueError(
                "Each member of an ensemble must be a model of its own. "
                f"Received: {model.name!r} twice. Make it count more with "
                "`weights`."
            )
    return parts


def inputs_of(parts, input_shape):
    """What an ensemble of these `Member`s takes, as a `KerasTensor`.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> inputs_of([Member(model)], None).shape
    (None, 4)
    """
    for part in parts:
        known = part.preprocess is None
        spec = input_spec(part.model) if known else None
        if isinstance(spec, keras.KerasTensor) and (
            input_shape is None or spec.shape[1:] == tuple(input_shape)
        ):
            return spec  # It knows the type, too.
    if input_shape is not None:
        return keras.KerasTensor((None, *input_shape))
    raise ValueError(
        "The shape of the ensemble's inputs is not known. Received members "
        f"{[part.model.name for part in parts]} of which none shows the shape "
        "of one input, or takes it without `preprocess`. Give the shape of a "
        "sample, such as `input_shape=(32, 32, 3)`."
    )


def table_of(parts, inputs, num_classes):
    """The `class_table` of `Member`s, which it builds for these inputs.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> table_of([Member(model)], keras.KerasTensor((None, 4)), None).tolist()
    [[0, 1]]
    """
    outputs = []
    for part in parts:
        part.build_for(inputs)
        answer = output_spec(lambda x: part(x, training=False), inputs)  # noqa: B023
        outputs.append(answer.shape[-1])
    return class_table(parts, outputs, num_classes)


def class_table(members, outputs, num_classes=None):
    """Where each member has each class of the ensemble among its logits.

    Args:
        members: list of `Member`.
        outputs: how many logits each returns.
        num_classes: of the ensemble; by default as many as are found.

    Returns:
        Integers of shape `(members, classes)`; -1 where it has none.

    Raises:
        ValueError: the numbers of classes do not agree.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> class_table([Member(model, classes=[2, 0])], [2]).tolist()
    [[1, -1, 0]]
    """
    classes = [
        list(range(count)) if each.classes is None else each.class_numbers
        for each, count in zip(members, outputs)
    ]
    found = 1 + max(max(each) for each in classes)
    num_classes = found if num_classes is None else num_classes
    for member, own in zip(members, classes):
        wrong = member.classes is None and len(own) != num_classes
        wrong = wrong or not isinstance(num_classes, numbers.Integral)
        if wrong or max(own) >= num_classes:
            raise ValueError(
                "The members' classes must agree. Received: member "
                f"{member.model.name!r} with {len(own)} classes, up to number "
                f"{max(own)}, in an ensemble of {num_classes!r} classes. Say "
                "which classes its outputs are: `Member(model, classes=[...])`"
                ", with one class number or None for each output."
            )
    table = np.full((len(members), num_classes), -1)
    for row, own in zip(table, classes):
        row[own] = np.arange(len(own))
    return table


def in_order(answer, places):
    """A member's logits in the ensemble's order of classes.

    Example:
    >>> places = np.array([1, -1, 0])
    >>> ops.convert_to_numpy(in_order(ops.array([[5.0, 6.0]]), places)).tolist()
    [[6.0, -1000000000.0, 5.0]]
    """
    if places.tolist() == list(range(answer.shape[-1])):
        return answer
    ordered = ops.take(answer, np.maximum(places, 0), axis=-1)
    return ops.where(places >= 0, ordered, UNKNOWN)
