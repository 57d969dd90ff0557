"""Paraphraser and Translator: the two sides of factor transfer."""

import itertools

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.layers.positions import channels_last
from keras_kd._src.layers.positions import check_same_rank
from keras_kd._src.layers.positions import check_target
from keras_kd._src.layers.positions import match_positions


@keras.saving.register_keras_serializable(package="keras_kd")
class Paraphraser(keras.layers.Layer):
    """Encodes the teacher's map as factors, for factor transfer (FT).

    A convolutional auto-encoder. Train it before the student, without labels,
    to reconstruct the teacher's map, then freeze it. A transfer trains its
    adapters, and factors that were trained to match the student would no longer
    represent the teacher.

        maps = keras.Model(teacher.input, teacher.get_layer("stage3").output)
        maps = maps.predict(x)
        features = keras.Input(maps.shape[1:])
        paraphraser = kd.layers.Paraphraser()
        restored = paraphraser(features, reconstruct=True)
        autoencoder = keras.Model(features, restored)
        autoencoder.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mae")
        autoencoder.fit(maps, maps, batch_size=128, epochs=6)
        paraphraser.trainable = False
        kd.Transfer(
            kd.losses.FactorTransfer(),
            teacher="stage3",
            student="stage3",
            teacher_adapter=paraphraser,
            adapter=kd.layers.Translator(),
            weight=500.0,
        )

    Each convolution is 3x3, with a bias and a leaky ReLU of slope 0.1:

        factors = encoder(map), channels c, rate * c, rate * c
        reconstruction = decoder(factors), channels rate * c, c, c

    Optimizer, loss, epochs and weight above are the authors' for CIFAR-10; the
    paper has the squared error. The authors' code has no batch normalization;
    other published code does. With several taps, pass a list of paraphrasers,
    each trained on its map.

    Args:
        rate: number of channels of the factors, relative to the teacher's map;
            it may be above 1.
        data_format: format of maps, `"channels_last"` or `"channels_first"`;
            Keras' setting by default.
        kwargs: as in `keras.layers.Layer`.

    Call arguments:
        inputs: the teacher's map, shape `(batch, height, width, channels)`.
        reconstruct: whether to return the map reconstructed from its factors
            instead of the factors; for training the paraphraser.
        training: whether this is a training step.

    Returns:
        Shape `(batch, height, width, rate * channels)`, the factors, or that
        of the inputs.

    Raises:
        ValueError: `rate` is not positive; the input is not a map (when built);
            a student is trained on the factors before the paraphraser is
            frozen.

    Example:
    >>> paraphraser = Paraphraser(rate=0.5)
    >>> maps = keras.ops.ones((2, 4, 4, 6))
    >>> paraphraser(maps).shape == (2, 4, 4, 3)
    True
    >>> paraphraser(maps, reconstruct=True).shape == (2, 4, 4, 6)
    True

    Reference: Kim, Park and Kwak, 2018, "Paraphrasing Complex Network: Network
    Compression via Factor Transfer", arXiv 1802.04977.
    """

    def __init__(self, rate=0.5, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = number(rate, "rate", above=0.0)
        self.data_format = data_format or keras.config.image_data_format()
        self.encoder = self.decoder = ()

    def build(self, input_shape):
        c = _map_shape(self, input_shape)[-1]
        f = self._factors(c)
        self.encoder = _convolutions(self, "encoder", [c, c, f, f])
        # The authors' transposed convolutions have stride 1, which makes them
        # ordinary convolutions.
        self.decoder = _convolutions(self, "decoder", [f, f, c, c])

    def call(self, inputs, reconstruct=False, training=False):
        if training and self.trainable and not reconstruct:
            raise ValueError(
                "A Paraphraser is trained before the student, and frozen when "
                "the student learns its factors. Received: a training step "
                f"with {self.name!r}, trainable=True. Train it to reconstruct "
                "the teacher's maps (see its documentation), then set "
                "`trainable = False`."
            )
        axis = _channels_axis(self)
        maps = ops.moveaxis(inputs, axis, -1)
        chain = [*self.encoder, *(self.decoder if reconstruct else ())]
        for convolution in chain:
            maps = convolution(maps)
        return ops.moveaxis(maps, -1, axis)

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        shape[_channels_axis(self)] = self._factors(_map_shape(self, shape)[-1])
        return tuple(shape)

    def compute_output_spec(self, inputs, reconstruct=False, training=False):
        shape = inputs.shape
        if not reconstruct:
            shape = self.compute_output_shape(shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "data_format": self.data_format,
        }

    def _factors(self, channels):
        return max(round(self.rate * channels), 1)


@keras.saving.register_keras_serializable(package="keras_kd")
class Translator(keras.layers.Layer):
    """Brings the student's map to the teacher's factors (FT).

    The counterpart of a `Paraphraser`'s encoder. It is trained with the
    student, and is not part of it. The map is first averaged down or
    interpolated up to the size of the factors; the authors' maps have the same
    size.

        factors = encoder(resize(map)), with c, f and f channels: c of the map,
            f of the factors

    Args:
        target_shape: the factors' shape without the batch; a `Transfer`
            fills it in.
        data_format: format of maps, `"channels_last"` or `"channels_first"`;
            Keras' setting by default.
        kwargs: as in `keras.layers.Layer`.

    Call arguments:
        inputs: the student's map, shape `(batch, height, width, channels)`.

    Returns:
        Shape `(batch, *target_shape)`.

    Raises:
        ValueError: the input or the target is not a map, or its size is unknown
            (when built).

    Example:
    >>> translator = Translator(target_shape=(4, 4, 3))
    >>> translator(keras.ops.ones((2, 8, 8, 5))).shape == (2, 4, 4, 3)
    True

    Reference: Kim, Park and Kwak, 2018, arXiv 1802.04977.
    """

    def __init__(self, target_shape=None, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = target_shape and tuple(target_shape)
        self.data_format = data_format or keras.config.image_data_format()
        self.encoder = ()

    def build(self, input_shape):
        check_target(self)
        source, target = _map_shape(self, input_shape), self._target()
        check_same_rank(self, source, target)
        c, f = source[-1], target[-1]
        self.encoder = _convolutions(self, "encoder", [c, c, f, f])

    def call(self, inputs):
        axis = _channels_axis(self)
        maps = ops.moveaxis(inputs, axis, -1)
        maps = match_positions(maps, self._target()[1:-1])
        for convolution in self.encoder:
            maps = convolution(maps)
        return ops.moveaxis(maps, -1, axis)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.target_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "target_shape": self.target_shape,
            "data_format": self.data_format,
        }

    def _target(self):
        return _map_shape(self, (None, *self.target_shape))


def _convolutions(layer, name, channels):
    """3x3 convolutions from each number of channels to the next."""
    convolutions = []
    for place, (before, filters) in enumerate(itertools.pairwise(channels)):
        convolution = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            data_format="channels_last",  # TensorFlow's CPU has no other.
            activation=_leaky_relu,
            name=f"{name}_{place}",
            # Frozen before it is built, as on loading, it stays frozen.
            trainable=layer.trainable,
            dtype=layer.dtype_policy,
        )
        convolution.build((None, None, None, before))
        convolutions.append(convolution)
    return convolutions


def _leaky_relu(maps):
    return ops.leaky_relu(maps, 0.1)


def _channels_axis(layer):
    return -1 if layer.data_format == "channels_last" else 1


def _map_shape(layer, shape):
    """The shape of a batch of maps, channels last."""
    axis = _channels_axis(layer)
    if len(shape) != 4 or shape[axis] is None:
        raise ValueError(
            f"{type(layer).__name__} works on maps (height, width, channels). "
            f"Received: the shape {tuple(shape[1:])} (without the batch), "
            f"data_format={layer.data_format!r}. Tap a layer whose output is "
            "a map."
        )
    return channels_last(shape, axis)
