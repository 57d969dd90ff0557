"""Class weights for `y={"labels": ..., "sample_index": ...}`.

Keras takes class weights only where `y` is a single array.
"""

import functools

import keras

from keras_kd._src import keras_compat
from keras_kd._src.mapped_dataset import MappedDataset

CLASS_WEIGHT = "class_weight"


def with_class_weight(arguments):
    """Arguments of `fit`, with class weights as a weight of each sample."""
    class_weight = arguments.get("class_weight")
    if class_weight is None or arguments.get("sample_weight") is not None:
        return arguments  # Keras refuses both at once.
    x, y = arguments.get("x"), arguments.get("y")
    if _has_index(y):
        return {**arguments, "y": _weighed(y, class_weight), CLASS_WEIGHT: None}
    if isinstance(x, keras.utils.PyDataset) and _has_index(_targets(x[0])):
        weigh = functools.partial(_weighed_batch, class_weight=class_weight)
        x = MappedDataset(x, weigh)
        return {**arguments, "x": x, CLASS_WEIGHT: None}
    if _has_index(_targets(getattr(x, "element_spec", None))):
        x = x.map(_map_function(class_weight))
        return {**arguments, "x": x, CLASS_WEIGHT: None}
    return arguments


def _targets(batch):
    return batch[1] if isinstance(batch, (tuple, list)) else None


def _has_index(targets):
    if not isinstance(targets, dict) or "sample_index" not in targets:
        return False
    labels = targets.get("labels")
    return labels is not None and not keras.tree.is_nested(labels)


def _weighed(targets, class_weight):
    weight = keras_compat.class_weight_to_sample_weights(
        targets["labels"], class_weight
    )
    return {**targets, CLASS_WEIGHT: weight}


def _map_function(class_weight):
    weigh = keras_compat.class_weight_map(class_weight)

    def function(x, targets):
        _, _, weight = weigh(x, targets["labels"])
        return x, {**targets, CLASS_WEIGHT: weight}

    return function


def _weighed_batch(batch, class_weight):
    inputs, targets, *rest = batch
    return inputs, _weighed(targets, class_weight), *rest
