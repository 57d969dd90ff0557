"""Finds the layers of a teacher that losses need: its head and others."""

import keras

from keras_kd._src.keras_compat import sublayers

HEADS = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)


def paths_of(layer, kind, prefix=""):
    """Pairs of path and layer, of all layers of a kind inside a layer."""
    found = []
    for child in sublayers(layer):
        path = prefix + child.name
        if isinstance(child, kind):
            found.append((path, child))
        else:
            found += paths_of(child, kind, f"{path}/")
    return found


def find_head(teacher):
    """The path and the layer that makes the teacher's logits.

    Raises:
        ValueError: the last layer with a kernel does not output the classes.
    """
    found = paths_of(teacher, HEADS)
    path, head = found[-1] if found else (None, None)
    units = getattr(head, "units", getattr(head, "filters", None))
    classes = teacher.output_shape[-1]
    if units != classes:
        name = head and head.name
        raise ValueError(
            f"The layer that makes the {classes} logits of the teacher "
            f"{teacher.name!r} was not found. Received: a teacher whose last "
            f"Dense or convolution is {name!r}, of {units} units. Name the "
            "layer (`FeatureActivation(layer=...)`), or pass "
            "`class_similarity=` to `impressions`."
        )
    return path, head


def head_path(teacher):
    """The path of the layer that makes the teacher's logits."""
    path, _ = find_head(teacher)
    return path
