"""Gives each pair of views its adapter, built and checked for the shapes."""

import keras

from keras_kd._src.distillation.memories import memories_of


def pairs_of(teacher_shapes, student_shapes, name):
    """The shapes of both sides' views in pairs, in order.

    Args:
        teacher_shapes: shapes of the teacher's views.
        student_shapes: shapes of the student's views.
        name: the transfer's name, for the error.

    Raises:
        ValueError: there are not as many on either side.

    Example:
    >>> pairs_of([(None, 8)], [(None, 4)], "hints")
    [((None, 8), (None, 4))]
    """
    if len(teacher_shapes) != len(student_shapes):
        raise ValueError(
            f"Transfer {name!r} pairs views one to one. Received: "
            f"{len(teacher_shapes)} views of the teacher and "
            f"{len(student_shapes)} of the student. Name the layers, or "
            "single outputs as '[key]', with `teacher=` and `student=`."
        )
    return [
        (tuple(teacher), tuple(student))
        for teacher, student in zip(teacher_shapes, student_shapes)
    ]


def one_adapter_a_pair(adapters, pairs, name):
    """The adapters, one for each pair; a single one is copied for the others.

    Args:
        adapters: list of layers or None.
        pairs: how many pairs of views there are.
        name: the transfer's name, for the error.

    Raises:
        ValueError: there are several adapters, but not one for each pair; or
            one, which has weights already.

    Example:
    >>> adapters = one_adapter_a_pair([keras.layers.Dense(2)], 3, "hints")
    >>> [type(adapter).__name__ for adapter in adapters]
    ['Dense', 'Dense', 'Dense']
    """
    if is_joint(adapters):
        return adapters
    if len(adapters) == 1 and pairs > 1:
        (first,) = adapters
        if first is not None and first.built:
            raise ValueError(
                f"Transfer {name!r} has {pairs} pairs of views, and copies of "
                "an adapter start anew. Received: one adapter that is built, "
                f"{first.name!r}. Give a list with one for each pair."
            )
        config = first and first.get_config()
        adapters = [first] + [
            first and type(first).from_config(config) for _ in range(pairs - 1)
        ]
    if len(adapters) != pairs:
        raise ValueError(
            f"Transfer {name!r} has {pairs} pairs of views. Received: "
            f"{len(adapters)} adapters. Give one for each pair, or one for "
            "all."
        )
    return adapters


def is_joint(adapters):
    """Whether one adapter takes the views of all pairs at once, as a list.

    Example:
    >>> is_joint([keras.layers.Dense(2)])
    False
    """
    return len(adapters) == 1 and getattr(adapters[0], "joint", False)


def fit_adapter(adapter, teacher_shape, student_shape):
    """Builds an adapter for a pair; returns the shape that it makes.

    Args:
        adapter: a Keras layer; if it has a `target_shape` of None, that is
            set to the teacher's. None leaves the view as it is.
        teacher_shape: shape of the teacher's view, with batch axis; None for
            an adapter of the teacher's own view, which has no target.
        student_shape: shape of the view that it takes, likewise.

    Returns:
        The shape of the adapted view, with batch axis.

    Raises:
        ValueError: the adapter is made for another shape.

    Example:
    >>> import keras_kd as kd
    >>> fit_adapter(kd.layers.FeatureAdapter(), (None, 8), (None, 4))
    (None, 8)
    """
    if adapter is None:
        return student_shape
    if teacher_shape and hasattr(adapter, "target_shape"):
        if adapter.target_shape is None:
            adapter.target_shape = teacher_shape[1:]
        elif tuple(adapter.target_shape) != teacher_shape[1:]:
            raise ValueError(
                f"the adapter is made for the shape {adapter.target_shape}. "
                f"Received: a teacher view of shape {teacher_shape[1:]}. Give "
                "each transfer an adapter of its own."
            )
    if not adapter.built:
        adapter.build(student_shape)
    return tuple(adapter.compute_output_shape(student_shape))


def fit_adapters(name, teacher_adapters, adapters, shapes):
    """Builds the adapters of all pairs; returns the shapes that they make.

    Args:
        name: the transfer's name.
        teacher_adapters: one for each pair, or None.
        adapters: one for each pair, or None.
        shapes: `(teacher_shape, student_shape)` of each pair.

    Returns:
        A list of `(teacher_shape, student_shape)`, adapted.

    Example:
    >>> dense = keras.layers.Dense(8)
    >>> fit_adapters("hint", [None], [dense], [((None, 8), (None, 4))])
    [((None, 8), (None, 8))]
    """
    teachers, students = zip(*shapes)
    teachers = [
        # A scope of its own: on PyTorch, Keras takes two variables of the
        # same path for one.
        _fit(f"{name}_teacher_adapter_{number}", adapter, None, shape)
        for number, (adapter, shape) in enumerate(
            zip(teacher_adapters, teachers)
        )
    ]
    if is_joint(adapters):
        targets = [shape[1:] for shape in teachers]
        students = _fit_joint(name, adapters[0], targets, list(students))
    else:
        students = [
            _fit(f"{name}_adapter_{number}", adapter, teacher, student)
            for number, (adapter, teacher, student) in enumerate(
                zip(adapters, teachers, students)
            )
        ]
    return list(zip(teachers, students))


def _fit(scope, adapter, teacher_shape, student_shape):
    with keras.name_scope(scope):
        return fit_adapter(adapter, teacher_shape, student_shape)


def _fit_joint(name, adapter, targets, shapes):
    adapter.target_shapes = targets
    with keras.name_scope(f"{name}_adapter"):
        if not adapter.built:
            adapter.build(shapes)
    return [tuple(shape) for shape in adapter.compute_output_shape(shapes)]


def check_shapes(loss, shapes):
    """Raises a `ValueError` unless the loss compares pairs of these shapes.

    Example:
    >>> import keras_kd as kd
    >>> check_shapes(kd.losses.SoftTargets(), [((None, 3), (None, 3))])
    """
    if not hasattr(loss, "check_shapes"):
        return
    if len(shapes) > 1 and memories_of(loss):
        raise ValueError(
            f"{type(loss).__name__} keeps something of each sample, of one "
            f"view. Received: {len(shapes)} pairs of views. Give each pair a "
            "transfer of its own, with a loss of its own; single outputs are "
            "taps such as '[small]'."
        )
    if getattr(loss, "joint", False):
        loss.check_shapes(*map(list, zip(*shapes)))
    else:
        for teacher, student in shapes:
            loss.check_shapes(teacher, student)


def adapted(adapters, views, training):
    """Each view as its adapter makes it; as it is where there is none.

    An adapter with `joint = True` gets all views, and returns as many.

    Example:
    >>> adapted([None], [keras.ops.ones((2, 3))], False)[0].shape == (2, 3)
    True
    """
    if is_joint(adapters):
        return list(adapters[0](list(views), training=training))
    return [
        view if adapter is None else adapter(view, training=training)
        for adapter, view in zip(adapters, views)
    ]


def unbuilt_config(adapter):
    """An adapter's serialised form; `Transfer.match` builds it again.

    Example:
    >>> sorted(unbuilt_config(keras.layers.Dense(2)))[:2]
    ['class_name', 'config']
    """
    config = keras.saving.serialize_keras_object(adapter)
    if config is not None:
        config.pop("build_config", None)
    return config
