"""What the tests share: gradients, small models, small data."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

BACKEND = keras.backend.backend()


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def functional_model(width, *, name, dropout=0.0, regularizer=None, classes=3):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(width, 3, strides=2, padding="same", name="stage1")(
        inputs
    )
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu", name="relu")(x)
    x = layers.Conv2D(2 * width, 3, strides=2, padding="same", name="stage2")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(
        classes, kernel_regularizer=regularizer, name="head"
    )(x)
    return keras.Model(inputs, outputs, name=name)


def sequential_model(width, *, name, **kwargs):
    source = functional_model(width, name=name, **kwargs)
    return keras.Sequential(
        [keras.Input((8, 8, 2)), *source.layers[1:]], name=name
    )


def nested_model(width, *, name, **kwargs):
    """The stages one model down: taps are "backbone/stage1" ..."""
    source = functional_model(width, name=name, **kwargs)
    backbone = keras.Model(
        source.input, source.get_layer("stage2").output, name="backbone"
    )
    inputs = keras.Input((8, 8, 2))
    x = backbone(inputs)
    for layer_name in ("pool", "dropout", "head"):
        x = source.get_layer(layer_name)(x)
    return keras.Model(inputs, x, name=name)


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class SubclassedModel(keras.Model):
    """The same layers in a `call` of its own."""

    def __init__(
        self,
        width,
        *,
        name,
        dropout=0.0,
        regularizer=None,
        classes=3,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.config = {
            "width": width,
            "name": name,
            "dropout": dropout,
            "regularizer": regularizer,
            "classes": classes,
        }
        self.stage1 = layers.Conv2D(width, 3, strides=2, padding="same")
        self.norm = layers.BatchNormalization()
        self.stage2 = layers.Conv2D(2 * width, 3, strides=2, padding="same")
        self.pool = layers.GlobalAveragePooling2D()
        self.dropout = layers.Dropout(dropout)
        self.head = layers.Dense(classes, kernel_regularizer=regularizer)

    def call(self, inputs, training=None):
        x = keras.ops.relu(self.norm(self.stage1(inputs), training=training))
        x = self.dropout(self.pool(self.stage2(x)), training=training)
        return self.head(x)

    def get_config(self):
        return dict(self.config)


def subclassed_model(width, *, name, **kwargs):
    model = SubclassedModel(width, name=name, **kwargs)
    model(np.zeros((1, 8, 8, 2), "float32"))
    return model


MODELS = {
    "functional": functional_model,
    "sequential": sequential_model,
    "nested": nested_model,
    "subclassed": subclassed_model,
}

# The kinds that Keras runs and saves in ways of their own; the others are made
# of these, and are tried where nothing has to be compiled.
KINDS = [
    "functional",
    "subclassed",
    pytest.param("sequential", marks=pytest.mark.one_backend),
    pytest.param("nested", marks=pytest.mark.one_backend),
]


def stage(kind, name):
    """The tap of a stage in a model of this kind."""
    return f"backbone/{name}" if kind == "nested" else name


def data(samples=24, classes=3, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, 8, 8, 2)).astype("float32")
    y = random.integers(0, classes, size=(samples,)).astype("int32")
    return x, y


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weights_of(model):
    return [numpy(variable.value) for variable in model.variables]


def assert_none(offenders):
    """Fails with a line for each, which a comparison of lists would cut."""
    assert not offenders, "\n".join(map(str, offenders))


class _Mask(keras.layers.Layer):
    """Gives what it passes on a mask, and keeps the one that it is given."""

    def __init__(self, mask=None):
        super().__init__()
        self.given, self.found = mask, []

    def call(self, inputs, mask=None):
        self.found.append(mask)
        return ops.copy(inputs)

    def compute_mask(self, inputs, previous_mask=None):
        return None if self.given is None else ops.convert_to_tensor(self.given)


def with_mask(tensor, mask):
    """The tensor, with a Keras mask as layers give one to their outputs."""
    return _Mask(mask)(ops.convert_to_tensor(tensor))


def mask_of(tensor):
    """The Keras mask that the next layer would be given, or None."""
    layer = _Mask()
    layer(tensor)
    return layer.found[0]


def every_layer(model):
    """A model and all layers inside of it, by their public names."""
    inner = [each for layer in model.layers for each in _and_inside(layer)]
    return [model, *inner]


def _and_inside(layer):
    return every_layer(layer) if hasattr(layer, "layers") else [layer]
