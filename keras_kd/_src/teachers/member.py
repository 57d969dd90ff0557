"""One model of an ensemble: what it takes, and what its outputs mean."""

import keras
from keras import ops

from keras_kd._src.keras_compat import all_layers
from keras_kd._src.teachers.preprocess_probe import probed

# The least number of float32 that is not denormal.
TINY = 1.2e-38


@keras.saving.register_keras_serializable(package="keras_kd")
class Member(keras.layers.Layer):
    """A model that takes or answers something else than the ensemble does.

    For an `Ensemble` of models that were not trained alike: on other sizes of
    image or scales of pixel, on other classes, or with a softmax at the end.

        Member(
            model,
            preprocess=keras.layers.Resizing(224, 224),
            classes=[0, 1, 5, None],
        )

    The model runs in inference mode always. Its weights and its `trainable`
    flags are left as they are.

    Args:
        model: a built Keras model, from one input to one answer of shape
            `(batch, outputs)`.
        preprocess: from the ensemble's input to the model's: a Keras layer,
            or a function of `keras.ops`. Only layers and registered functions
            can be saved. Asked about random samples to tell it from others,
            where a cache is written or a state saved. None for the input as
            it is.
        classes: what each of the model's outputs stands for: a class number
            of the ensemble, or None (or -1) for an output that is left out
            of the softmax. None if the outputs are the ensemble's classes.
        from_logits: whether the model answers logits; False for
            probabilities.
        name: the layer's name.

    Call arguments:
        inputs: what the ensemble takes.

    Returns:
        Logits in float32, shape `(batch, outputs that are not left out)`.

    Raises:
        ValueError: the model is no built Keras model; `preprocess` can't be
            called; `classes` are no class numbers, or one is there twice.

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
        name=None,
    ):
        # Each model casts its inputs itself; the answers are float32.
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

    @property
    def class_numbers(self):
        """The classes of the logits that it returns; None: as they come."""
        if self.classes is None:
            return None
        return [number for number in self.classes if number is not None]

    def build(self, input_shape):
        self._inputs = keras.KerasTensor(input_shape)
        layer = self.preprocess
        if isinstance(layer, keras.layers.Layer) and not layer.built:
            layer.build(input_shape)
            layer.built = True

    def build_for(self, inputs):
        """Builds it for what an ensemble takes, a `KerasTensor`."""
        self.build(inputs.shape)
        self._inputs = inputs  # of its type, too

    def call(self, inputs, training=None):
        answer = self.model(self._prepared(inputs), training=False)
        shape = getattr(answer, "shape", None)
        if shape is None or len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                f"A member of an ensemble must answer one tensor of shape "
                f"(batch, outputs). Received: member {self.model.name!r}, "
                f"which answers {answer!r}."
            )
        answer = self._known(ops.cast(answer, "float32"))
        if self.from_logits:
            return answer
        return ops.log(ops.maximum(answer, TINY))

    def _prepared(self, inputs):
        if isinstance(self.preprocess, keras.layers.Layer):
            return self.preprocess(inputs, training=False)
        return inputs if self.preprocess is None else self.preprocess(inputs)

    def _known(self, answer):
        if self.classes is None:
            return answer
        if len(self.classes) != answer.shape[-1]:
            raise ValueError(
                "Argument `classes` must have one entry an output. Received: "
                f"{len(self.classes)} classes for member {self.model.name!r}, "
                f"which has {answer.shape[-1]} outputs. Write None for an "
                "output that is to be left out."
            )
        kept = [i for i, c in enumerate(self.classes) if c is not None]
        return ops.take(answer, kept, axis=-1)

    def fingerprint_bytes(self):
        """What tells this member from others of the same model."""
        told = [self.classes and list(self.classes), self.from_logits]
        if self.preprocess is not None:
            told.append(probed(self._prepared, self._inputs))
        return repr(told).encode()

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "model": serialize(self.model),
            "preprocess": serialize(self.preprocess),
            "classes": self.classes and list(self.classes),
            "from_logits": self.from_logits,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for key in ("model", "preprocess"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


def _check_model(model):
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            "A member of an ensemble must be a Keras model. Received: "
            f"{model!r} (of type {type(model).__name__})."
        )
    unbuilt = [each.name for each in all_layers(model) if not each.built]
    if unbuilt:
        raise ValueError(
            f"The member {model.name!r} is not built, so it can't have been "
            f"trained. Received a model whose layers {unbuilt[:5]} have no "
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
            "Argument `classes` must be a list of class numbers, 0 or more, "
            "none twice, with None for outputs that are left out. Received: "
            f"classes={classes!r} for member {model.name!r}."
        )
    return [None if number == -1 else int(number) for number in given]
