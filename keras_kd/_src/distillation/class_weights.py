"""Class weights beside `y={"labels": ..., "sample_index": ...}`.

Keras takes class weights for labels that are one array only.
"""

import keras

from keras_kd._src import keras_compat

CLASS_WEIGHT = "class_weight"


def with_class_weight(arguments):
    """Arguments of `fit`, with the class weights put beside the labels."""
    class_weight = arguments.get("class_weight")
    if class_weight is None or arguments.get("sample_weight") is not None:
        return arguments  # Keras refuses both at once.
    x, y = arguments.get("x"), arguments.get("y")
    if _has_index(y):
        return {**arguments, "y": _weighed(y, class_weight), CLASS_WEIGHT: None}
    if isinstance(x, keras.utils.PyDataset) and _has_index(_targets(x[0])):
        x = _Weighed(x, class_weight)
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


class _Weighed(keras.utils.PyDataset):
    """A data set with the class weight of each sample in its targets."""

    def __init__(self, dataset, class_weight):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset, self.class_weight = dataset, class_weight

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, index):
        inputs, targets, *rest = self.dataset[index]
        return inputs, _weighed(targets, self.class_weight), *rest

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()
