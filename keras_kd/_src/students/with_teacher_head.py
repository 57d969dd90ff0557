"""SimKD's student: its own backbone, with the teacher's classifier."""

import keras

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import received
from keras_kd._src.specs import fresh_inputs
from keras_kd._src.students.head_of import frozen_copy
from keras_kd._src.students.head_of import head_of

CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}


def with_teacher_head(
    backbone,
    teacher,
    layer,
    *,
    reduction=2,
    activation="relu",
    data_format=None,
    name=None,
):
    """A student that ends in a frozen copy of the teacher's head (SimKD).

    A good teacher owes much of its accuracy to its classifier. The student
    reuses that classifier unchanged, and is trained only to match the features
    in front of it, without labels:

        student = with_teacher_head(backbone, teacher, "stage3")
        Distiller(
            teacher,
            student,
            [Transfer(FeatureMatching(), teacher="stage3",
                      student="projector")],
            hard_weight=0.0,
        )

        features = backbone(inputs)
        projected = activation(norm(conv1x1(relu(norm(conv3x3(relu(norm(
            conv1x1(pool(features)))))))))
        outputs = head(projected)

    `pool` averages the backbone's feature map down to the teacher's size, if it
    is larger. A smaller map stays as it is, as in the authors' code: then
    `head` must take any size, and the transfer needs
    `teacher_adapter=AveragePooling2D(...)`, which brings the teacher's features
    to the student's size. The inner convolutions have the teacher's number of
    channels divided by `reduction`. For vectors all three are `Dense` layers.

    The backbone is used directly, not copied. The teacher's head is a copy,
    and the teacher is not changed. The copy is frozen, with its statistics, and
    has no dropout layers (dropout inside other layers remains). Besides the
    layers of the two models, the student has only Keras' own layers, so that a
    saved student can be loaded without `keras_kd`. The usual weight of the
    transfer is 1, with no other loss.

    Args:
        backbone: a built Keras model from inputs to one feature map,
            sequence or vector, such as a student without its classifier.
        teacher: a trained Functional or Sequential model.
        layer: name of the teacher's layer whose output the student is trained
            to match: in the paper the last feature map, before the pooling.
            The teacher's outputs must depend on this layer alone.
        reduction: divisor of the teacher's channels inside the projector, a
            positive integer; 2 in the paper. A larger one saves parameters.
        activation: activation of the projected features, `"relu"` in the
            paper; None if the output of the teacher's layer has negative
            numbers.
        data_format: format of feature maps, `"channels_last"` or
            `"channels_first"`; Keras' setting by default.
        name: the student's name.

    Returns:
        A Functional model, from the backbone's inputs to the teacher's
        outputs, with the layers `backbone` (under its own name),
        `"projector"` and `"teacher_head"`.

    Raises:
        ValueError: the teacher is not a graph of layers; there is no such
            layer; the outputs depend on more than the layer; the backbone is
            not built, or its features can't be projected; `reduction` is not a
            positive integer, or larger than the number of channels.

    Example:
    >>> teacher = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(6, 3, activation="relu", name="stage3"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(2),
    ... ])
    >>> backbone = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="stage3")
    ... ])
    >>> student = with_teacher_head(backbone, teacher, "stage3")
    >>> student.output_shape
    (None, 2)
    >>> len(student.get_layer("teacher_head").trainable_weights)
    0

    Reference: Chen et al., 2022, "Knowledge Distillation with the Reused
    Teacher Classifier", arXiv 2203.14001.
    """
    features, head = head_of(teacher, layer)
    inputs = _inputs(backbone)
    outputs = backbone(inputs)
    shape = _checked_shape(outputs, features.shape, layer)
    data_format = data_format or keras.config.image_data_format()
    axis = -1 if data_format == "channels_last" else 1
    projector = _projector(
        shape, features.shape, reduction, activation, axis, data_format
    )
    projected = projector(outputs)
    head = frozen_copy(head, projected.shape[1:], layer)
    return keras.Model(inputs, head(projected), name=name)


def _inputs(backbone):
    is_model = isinstance(backbone, keras.Model)
    inputs = fresh_inputs(backbone) if is_model else None
    if inputs is None:
        raise ValueError(
            "Argument `backbone` must be a built Keras model with known "
            f"inputs. Received: backbone={backbone!r}. Give it a "
            "`keras.Input`, or call it on a batch first."
        )
    return inputs


def _checked_shape(features, target, layer):
    shapes = [each.shape for each in keras.tree.flatten(features)]
    known = len(shapes) == 1 and all(
        (a is None) == (b is None) for a, b in zip(shapes[0][1:], target[1:])
    )
    if not known or len(shapes[0]) != len(target) or len(target) > 5:
        raise ValueError(
            "The output of the backbone must be one feature tensor of the same "
            "rank as the teacher's layer, 2 (vectors) to 5, with known sizes "
            "where the teacher's are known. Received: backbone outputs of "
            f"shape {shapes}, teacher layer {layer!r} of shape "
            f"{tuple(target)}. Name another layer of the teacher, or end the "
            "backbone in another layer."
        )
    return shapes[0]


def _projector(shape, target, reduction, activation, axis, data_format):
    channels = target[axis]
    inner = _inner_channels(channels, reduction)
    parts = _pooling(shape, target, axis, data_format)
    for units, size, end in (
        (inner, 1, "relu"),
        (inner, 3, "relu"),
        (channels, 1, activation),
    ):
        parts += [
            _convolution(len(target), units, size, data_format),
            keras.layers.BatchNormalization(axis=axis),
            keras.layers.Activation(end),
        ]
    return keras.Sequential([keras.Input(shape[1:]), *parts], name="projector")


def _inner_channels(channels, reduction):
    if integer(reduction, "reduction") > channels:
        raise ValueError(
            "Argument `reduction` must be at most the teacher's number of "
            f"channels, {channels}. {received('reduction', reduction)}"
        )
    return channels // reduction


def _convolution(rank, units, size, data_format):
    if rank == 2:
        return keras.layers.Dense(units, use_bias=False)
    return CONVOLUTIONS[rank](
        units,
        size,
        padding="same",
        use_bias=False,
        data_format=data_format,
    )


def _pooling(shape, target, axis, data_format):
    """A list of one layer that averages a larger map down; or an empty one."""
    source, target = (_positions(each, axis) for each in (shape, target))
    target = [min(s, t) for s, t in zip(source, target)]
    if source == target:
        return []
    dimensions = f"{len(source)}D"
    if any(s % t for s, t in zip(source, target)):
        # New in Keras 3.13.
        name = f"AdaptiveAveragePooling{dimensions}"
        layer = getattr(keras.layers, name, None)
        if layer is None or None in shape[1:]:
            raise ValueError(
                "The backbone's map can't be averaged down to the teacher's. "
                f"Received: {tuple(source)} positions of the backbone, at "
                f"most {tuple(target)} of the teacher. End the backbone in a "
                "map of known size that is a multiple of the teacher's."
            )
    else:
        layer = getattr(keras.layers, f"AveragePooling{dimensions}")
        target = [s // t for s, t in zip(source, target)]
    return [layer(tuple(target), data_format=data_format)]


def _positions(shape, axis):
    positions = list(shape)
    del positions[axis], positions[0]
    # Unknown sizes are taken as equal.
    return [size or 1 for size in positions]
