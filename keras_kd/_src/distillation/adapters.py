"""Builds one adapter for each pair of features, and checks their shapes."""

import keras

from keras_kd._src.distillation.hyperparameter import Hyperparameter


def shape_pairs(teacher_shapes, student_shapes, name):
    """Pairs of teacher and student feature shapes, in order."""
    if len(teacher_shapes) != len(student_shapes):
        raise ValueError(
            f"Transfer {name!r} pairs features one to one. Received: "
            f"{len(teacher_shapes)} features of the teacher and "
            f"{len(student_shapes)} of the student. Name the layers, or "
            "single outputs as '[key]', with `teacher=` and `student=`."
        )
    return [
        (tuple(teacher), tuple(student))
        for teacher, student in zip(teacher_shapes, student_shapes)
    ]


def one_adapter_a_pair(adapters, pairs, name):
    """One adapter for each pair; a single one is copied for the others."""
    if is_joint(adapters):
        return adapters
    if len(adapters) == 1 and pairs > 1:
        (first,) = adapters
        if first is not None and first.built:
            raise ValueError(
                f"Transfer {name!r} has {pairs} pairs of features, and a built "
                "adapter can't be copied for them. Received: one adapter, "
                f"{first.name!r}, that has weights already. Give a list with "
                "one adapter for each pair."
            )
        config = first and first.get_config()
        adapters = [first] + [
            first and type(first).from_config(config) for _ in range(pairs - 1)
        ]
    if len(adapters) != pairs:
        raise ValueError(
            f"Transfer {name!r} has {pairs} pairs of features. Received: "
            f"{len(adapters)} adapters. Give one for each pair, or one for "
            "all."
        )
    return adapters


def is_joint(adapters):
    """Whether one adapter takes the features of all pairs at once."""
    return len(adapters) == 1 and getattr(adapters[0], "joint", False)


def build_adapters(name, teacher_adapters, adapters, pairs):
    """Builds the adapters of all pairs; returns their output shapes."""
    teachers, students = zip(*pairs)
    teachers = [
        # Each in its own scope: on PyTorch, Keras treats two variables of the
        # same path as one.
        _build(f"{name}_teacher_adapter_{number}", adapter, None, shape)
        for number, (adapter, shape) in enumerate(
            zip(teacher_adapters, teachers)
        )
    ]
    if is_joint(adapters):
        targets = [shape[1:] for shape in teachers]
        students = _build_joint(name, adapters[0], targets, list(students))
    else:
        students = [
            _build(f"{name}_adapter_{number}", adapter, teacher, student)
            for number, (adapter, teacher, student) in enumerate(
                zip(adapters, teachers, students)
            )
        ]
    return list(zip(teachers, students))


def _build(scope, adapter, target, shape):
    """An adapter's output shape; the shape itself without an adapter."""
    if adapter is None:
        return shape
    with keras.name_scope(scope):
        _set_target(adapter, target)
        if not adapter.built:
            adapter.build(shape)
        return tuple(adapter.compute_output_shape(shape))


def _set_target(adapter, target):
    if target is None or not hasattr(adapter, "target_shape"):
        return
    if adapter.target_shape is None:
        adapter.target_shape = target[1:]
    elif tuple(adapter.target_shape) != target[1:]:
        raise ValueError(
            f"the adapter was made for the shape {adapter.target_shape}. "
            f"Received: teacher features of shape {target[1:]}. Give each "
            "transfer an adapter of its own."
        )


def _build_joint(name, adapter, targets, shapes):
    adapter.target_shapes = targets
    with keras.name_scope(f"{name}_adapter"):
        if not adapter.built:
            adapter.build(shapes)
    return [tuple(shape) for shape in adapter.compute_output_shape(shapes)]


def check_shapes(loss, pairs):
    """Raises a `ValueError` unless the loss compares pairs of these shapes."""
    if not hasattr(loss, "check_shapes"):
        return
    if len(pairs) > 1 and memories_of(loss):
        raise ValueError(
            f"{type(loss).__name__} keeps values for each sample, so it takes "
            f"one pair of features. Received: {len(pairs)} pairs. Give each "
            "pair its own transfer with its own loss; single outputs are taps "
            "such as '[small]'."
        )
    if getattr(loss, "joint", False):
        loss.check_shapes(*map(list, zip(*pairs)))
    else:
        for teacher, student in pairs:
            loss.check_shapes(teacher, student)


def adapt(adapters, features, training):
    """The outputs of the adapters; the features as they are without one."""
    if is_joint(adapters):
        return list(adapters[0](list(features), training=training))
    return [
        each if adapter is None else adapter(each, training=training)
        for adapter, each in zip(adapters, features)
    ]


def unbuilt_config(adapter):
    """An adapter's serialized form; `Transfer.match` builds it again."""
    config = keras.saving.serialize_keras_object(adapter)
    if config is not None:
        config.pop("build_config", None)
    return config


def layers_of(loss):
    """The layers that a loss, which is no layer itself, has as attributes."""
    return [
        value
        for value in vars(loss).values()
        if isinstance(value, keras.layers.Layer)
    ]


def memories_of(loss):
    """The layers in which a loss keeps values for each sample."""
    return [
        layer
        for layer in layers_of(loss)
        if not isinstance(layer, Hyperparameter)
    ]


def check_memories(transfers):
    """Raises a `ValueError` if two transfers write to one loss's memory."""
    seen = {}
    for transfer in transfers:
        for memory in memories_of(transfer.loss):
            if id(memory) in seen:
                raise ValueError(
                    f"{type(transfer.loss).__name__} keeps values for each "
                    "sample, so each transfer needs its own. Received: one "
                    f"loss in the transfers {seen[id(memory)]!r} and "
                    f"{transfer.name!r}. Make a new loss for each."
                )
            seen[id(memory)] = transfer.name
