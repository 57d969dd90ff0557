"""Member: one model of an ensemble, with its preprocessing and classes."""

import json
import numbers

import keras
import numpy as np
from keras import ops

from keras_kd._src.keras_compat import all_layers
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import output_spec
from keras_kd._src.specs import unbuilt_layers
from keras_kd._src.teachers.function_teacher import checked_version
from keras_kd._src.teachers.function_teacher import warn_of_function

# The smallest float32 that is not denormal.
TINY = 1.2e-38
# The logit of a class that a member does not know: its probability is 0.
UNKNOWN = -1e9
# Entries of a config that don't change what a layer computes. The function of
# a Lambda is identified by a version, as its code differs between versions of
# Python.
_INCIDENTAL = {
    "build_config",
    "compile_config",
    "function",
    "module",
    "registered_name",
    "seed",
    "trainable",
}


@keras.saving.register_keras_serializable(package="keras_kd")
class Member(keras.layers.Layer):
    """A member of an ensemble, with other inputs or outputs than the ensemble.

    For an `Ensemble` of models that were trained differently: on other image
    sizes or pixel ranges, on other classes, or with a softmax at the end.

        Member(
            model,
            preprocess=keras.layers.Resizing(224, 224),
            classes=[0, 1, 5, None],
        )

    The model always runs in inference mode. Its weights and its `trainable`
    flags are not changed. In the teacher's fingerprint, a `preprocess` that is
    a layer counts with its configuration and weights. A function counts only
    with its `version`: without one there is a `UserWarning` when a cache is
    written or a state is saved, as a changed function could not be noticed.

    Args:
        model: a built Keras model, from one input to one output of shape
            `(batch, outputs)`.
        preprocess: a Keras layer, or a function of `keras.ops`, from the
            ensemble's input to the model's. Only layers and registered
            functions can be saved. None for the input as it is.
        classes: list with an entry for each of the model's outputs: a class
            number of the ensemble, or None (or -1) for an output that is left
            out of the softmax. None if the outputs are the ensemble's classes.
        from_logits: whether the model predicts logits; False for
            probabilities.
        version: text that identifies the function `preprocess`, and changes
            with it, such as `"2024-05"`.
        name: the layer's name.

    Call arguments:
        inputs: the ensemble's inputs.

    Returns:
        Logits in float32, shape `(batch, outputs that are not left out)`.

    Raises:
        ValueError: the model is not a built Keras model; `preprocess` can't be
            called; `classes` are not class numbers, or one occurs twice;
            `version` is not a text.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> member = Member(model, classes=[5, None, 0])
    >>> member.class_numbers
    [5, 0]
    >>> member(ops.ones((2, 4))).shape == (2, 2)
    True
    """

    def __init__(
        self,
        model,
        preprocess=None,
        classes=None,
        from_logits=True,
        *,
        version=None,
        name=None,
    ):
        # Each model casts its inputs itself; the logits are float32.
        super().__init__(name=name, dtype="float32", autocast=False)
        _check_model(model)
        if preprocess is not None and not callable(preprocess):
            raise ValueError(
                "Argument `preprocess` must be a Keras layer or a function. "
                f"Received: preprocess={preprocess!r}."
            )
        self.model = model
        self.preprocess = preprocess
        self.classes = _checked_classes(classes, model)
        self.from_logits = bool(from_logits)
        self.version = checked_version(version)
        self._warned = False

    @property
    def class_numbers(self):
        """The class of each logit that it returns; None if 0, 1, 2, ...."""
        if self.classes is None:
            return None
        return [number for number in self.classes if number is not None]

    def build(self, input_shape):
        layer = self.preprocess
        if isinstance(layer, keras.layers.Layer) and not layer.built:
            layer.build(input_shape)
            layer.built = True

    def call(self, inputs, training=None):
        outputs = self.model(self._preprocessed(inputs), training=False)
        shape = getattr(outputs, "shape", None)
        if shape is None or len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                f"A member of an ensemble must return one tensor of shape "
                f"(batch, outputs). Received: member {self.model.name!r}, "
                f"which returns {outputs!r}."
            )
        outputs = self._known(ops.cast(outputs, "float32"))
        if self.from_logits:
            return outputs
        return ops.log(ops.maximum(outputs, TINY))

    def _preprocessed(self, inputs):
        if isinstance(self.preprocess, keras.layers.Layer):
            return self.preprocess(inputs, training=False)
        return inputs if self.preprocess is None else self.preprocess(inputs)

    def _known(self, outputs):
        if self.classes is None:
            return outputs
        if len(self.classes) != outputs.shape[-1]:
            raise ValueError(
                "Argument `classes` must have one entry per output. Received: "
                f"{len(self.classes)} classes for member {self.model.name!r}, "
                f"which has {outputs.shape[-1]} outputs. Write None for an "
                "output that should be left out."
            )
        kept = [i for i, c in enumerate(self.classes) if c is not None]
        return ops.take(outputs, kept, axis=-1)

    def fingerprint_bytes(self):
        """Settings that distinguish members of the same model, as bytes."""
        parts = [self.classes and list(self.classes), self.from_logits]
        if self.preprocess is not None:
            description = _description(self.preprocess)
            parts += [description, self.version]
            self._warn_unless_identified(description)
        return repr(parts).encode()

    def _warn_unless_identified(self, description):
        has_lambda = description and '"Lambda"' in description
        if self.version is None and (not description or has_lambda):
            if not self._warned:
                warn_of_function(
                    f"The preprocess of member {self.model.name!r} is a "
                    "function",
                    "Member(..., version='2024-05')",
                )
            self._warned = True

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "model": serialize(self.model),
            "preprocess": serialize(self.preprocess),
            "classes": self.classes and list(self.classes),
            "from_logits": self.from_logits,
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in ("model", "preprocess"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def _description(preprocess):
    """A layer's configuration as text, without names; None for a function."""
    if not isinstance(preprocess, keras.layers.Layer):
        return None
    try:
        config = keras.saving.serialize_keras_object(preprocess)
        parts = [*all_layers(preprocess)]
        parts += getattr(preprocess, "operations", ())
        places = {part.name: f"#{place}" for place, part in enumerate(parts)}
        return json.dumps(_essential(config, places), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):
        return None  # Keras can't save its arguments, either.


def _essential(config, places):
    """A configuration without incidental entries, names replaced by places."""
    if isinstance(config, dict):
        kept = {
            key: _essential(value, places)
            for key, value in config.items()
            if key not in _INCIDENTAL
        }
        if "name" in kept:
            kept["name"] = places.get(kept["name"], kept["name"])
        return kept
    if isinstance(config, (list, tuple)):
        # A graph refers to a layer by a list that begins with its name.
        return [
            places.get(value, value)
            if isinstance(value, str)
            else _essential(value, places)
            for value in config
        ]
    return config


def _check_model(model):
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            "A member of an ensemble must be a Keras model. Received: "
            f"{model!r} (of type {type(model).__name__})."
        )
    unbuilt = unbuilt_layers(model)
    if unbuilt:
        raise ValueError(
            f"The member {model.name!r} is not built, so it can't have been "
            f"trained. Received: a model whose layers {unbuilt[:5]} have no "
            "weights yet. Train it, load its weights, or call it on a batch "
            "first."
        )


def _checked_classes(classes, model):
    if classes is None:
        return None
    try:
        given = [-1 if number is None else number for number in classes]
        fine = all(int(number) == number for number in given)
    except (TypeError, ValueError):
        given, fine = [], False
    known = [int(number) for number in given if number != -1]
    if not fine or not known or min(known) < 0 or len(set(known)) < len(known):
        raise ValueError(
            "Argument `classes` must be a list of different class numbers, 0 "
            "or larger, with None for outputs that are left out. Received: "
            f"classes={classes!r} for member {model.name!r}."
        )
    return [None if number == -1 else int(number) for number in given]


def checked_members(members):
    """The argument `members` of an ensemble, as a list of `Member`s."""
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
                "The members of an ensemble must be different models. "
                f"Received: {model.name!r} twice. To give it more weight, use "
                "`weights`."
            )
    return parts


def inputs_of(parts, input_shape):
    """The input of an ensemble of these `Member`s, as a `KerasTensor`."""
    for part in parts:
        spec = input_spec(part.model) if part.preprocess is None else None
        if isinstance(spec, keras.KerasTensor) and (
            input_shape is None or spec.shape[1:] == tuple(input_shape)
        ):
            return spec  # It has the type, too.
    if input_shape is not None:
        return keras.KerasTensor((None, *input_shape))
    raise ValueError(
        "The shape of the ensemble's inputs is not known. Received: members "
        f"{[part.model.name for part in parts]}, none of which has one input "
        "of known shape and no `preprocess`. Give the shape of a sample, such "
        "as `input_shape=(32, 32, 3)`."
    )


def class_table(parts, inputs, num_classes):
    """Table of the logit of each `Member` for each class, or -1; builds them.

    The shape is `(members, classes)`.
    """
    classes = [_classes_of(part, inputs) for part in parts]
    found = 1 + max(max(each) for each in classes)
    num_classes = found if num_classes is None else num_classes
    for part, own in zip(parts, classes):
        _check_classes(part, own, num_classes)
    table = np.full((len(parts), num_classes), -1)
    for row, own in zip(table, classes):
        row[own] = np.arange(len(own))
    return table


def _classes_of(part, inputs):
    part.build(inputs.shape)
    # Also if its classes are known, as this checks its output.
    logits = output_spec(lambda x: part(x, training=False), inputs)
    known = part.class_numbers
    return list(range(logits.shape[-1])) if known is None else known


def _check_classes(part, own, num_classes):
    wrong = part.classes is None and len(own) != num_classes
    wrong = wrong or not isinstance(num_classes, numbers.Integral)
    if wrong or max(own) >= num_classes:
        raise ValueError(
            "The members' classes must agree. Received: member "
            f"{part.model.name!r} with {len(own)} classes, up to number "
            f"{max(own)}, in an ensemble of {num_classes!r} classes. Give the "
            "classes of its outputs: `Member(model, classes=[...])`"
            ", with one class number or None for each output."
        )


def in_order(logits, places):
    """A member's logits in the ensemble's order of classes."""
    if places.tolist() == list(range(logits.shape[-1])):
        return logits
    ordered = ops.take(logits, np.maximum(places, 0), axis=-1)
    return ops.where(places >= 0, ordered, UNKNOWN)
