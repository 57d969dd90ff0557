"""Checks of a generator, and warnings while it is trained."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_kd._src.losses.probabilities import like_probabilities
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import same_shape

# Below this share of the entropy of equally likely classes, a generator makes
# little more than one class.
LEAST_ENTROPY = 0.1
# Above this share of values at the ends of their range, they are saturated.
MOST_SATURATED = 0.95
FEW = 8  # Samples on which the teacher's outputs are checked.


def check_generator(generator, model):
    """Raises a `ValueError` unless a generator's outputs fit a model."""
    if not isinstance(generator, keras.Model) or not getattr(
        generator, "inputs", None
    ):
        raise ValueError(
            "Argument `generator` must be a Functional or built Sequential "
            "Keras model from latents to samples, such as "
            "`data_free.image_generator`. Received: "
            f"generator={generator!r} (of type {type(generator).__name__})."
        )
    if len(generator.inputs) > 2 or len(generator.outputs) != 1:
        raise ValueError(
            "A generator takes latents, or latents and one-hot classes, and "
            f"has one output. Received: {generator.name!r}, with "
            f"{len(generator.inputs)} inputs and {len(generator.outputs)} "
            "outputs."
        )
    taken = known_inputs(model)
    if taken is None:
        return
    made = generator.output_shape
    taken = [tuple(each.shape) for each in keras.tree.flatten(taken)]
    if len(taken) != 1 or not same_shape(made, taken[0]):
        raise ValueError(
            f"The generator {generator.name!r} does not make what "
            f"{model.name!r} takes. Received: samples of shape {made}, "
            f"expected {taken}. Give it an output of that shape."
        )


def check_classes(generator, classes):
    """Raises a `ValueError` unless a generator takes the teacher's classes."""
    for one_hot in generator.inputs[1:]:
        if one_hot.shape[1:] != (classes,):
            raise ValueError(
                f"The second input of the generator {generator.name!r} is the "
                f"class, one-hot. Received: an input of shape {one_hot.shape}, "
                f"expected (None, {classes}), as the teacher has {classes} "
                "classes."
            )


def check_logits(teacher, logits):
    """Raises a `ValueError` if outputs are probabilities, or not finite."""
    logits = ops.cast(logits, "float32")
    if not np.isfinite(ops.convert_to_numpy(logits)).all():
        raise ValueError(
            f"The teacher {teacher.name!r} predicts values that are not "
            "finite. Received: NaN or infinity, before any training. Check "
            "its weights and the range of the generated samples."
        )
    probable = ops.all(like_probabilities(logits))
    if bool(ops.convert_to_numpy(probable)):
        raise ValueError(
            f"The teacher {teacher.name!r} predicts probabilities, and is not "
            "known to end in a softmax. Received: outputs from 0 to 1 that "
            "sum to 1. Give the teacher without what turns its logits into "
            "probabilities, or with a `keras.layers.Softmax` in its place."
        )


def saturation(samples):
    """The share of values at the ends of the range of a batch."""
    samples = ops.cast(samples, "float32")
    low, high = ops.min(samples), ops.max(samples)
    margin = 0.01 * (high - low)
    at_ends = ops.logical_or(samples <= low + margin, samples >= high - margin)
    return ops.mean(ops.cast(at_ends, "float32"))


def not_finite(model, received):
    """The error of a run whose losses are not finite."""
    return ValueError(
        f"The losses of {model.name!r} are not finite. Received: {received}. "
        "Lower the learning rates, or clip gradients (`clipnorm=`). If any "
        "value in student, generator or optimizers was not finite, they are "
        "restored to the beginning of the epoch."
    )


def _values(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


class GeneratorMonitor(keras.callbacks.Callback):
    """Checks the generator after each epoch, and gives each warning once.

    Args:
        classes: integer, the teacher's number of classes.
    """

    def __init__(self, classes):
        super().__init__()
        self.most_entropy = math.log(classes)
        self.warned, self.kept = set(), []

    def on_epoch_begin(self, epoch, logs=None):
        model = self.model
        optimizers = model.optimizer, model.generator_optimizer
        parts = [model, *optimizers]
        variables = [variable for part in parts for variable in part.variables]
        self.kept = list(zip(variables, _values(variables)))

    def restore(self):
        """Restores the values of the epoch's begin if any is not finite."""
        values = _values(variable for variable, _ in self.kept)
        if not all(np.isfinite(value).all() for value in values):
            for variable, value in self.kept:
                variable.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite([logs["generator_loss"], logs["loss"]]).all():
            raise not_finite(
                self.model,
                f"generator_loss {logs['generator_loss']}, loss "
                f"{logs['loss']} in epoch {epoch + 1}",
            )
        if logs["class_entropy"] < LEAST_ENTROPY * self.most_entropy:
            self._warn(
                "collapsed",
                "The generator has collapsed: the teacher sees little more "
                "than one class in what it makes. Received: class_entropy "
                f"{logs['class_entropy']:.3f} nats, where all classes alike "
                f"have {self.most_entropy:.3f}. Add `data_free.ClassBalance` "
                "or raise its weight, lower the generator's learning rate, "
                "or give larger batches.",
            )
        if logs.pop("saturation") > MOST_SATURATED:
            self._warn(
                "saturated",
                "The generator's values are saturated: nearly all lie at the "
                "ends of their range. Received: more than "
                f"{MOST_SATURATED:.0%} of them. Check that its range is that "
                "of the teacher's inputs (`value_range` or `statistics` of "
                "`data_free.image_generator`), and lower its learning rate.",
            )

    def _warn(self, kind, text):
        if kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(text, UserWarning, stacklevel=2)
