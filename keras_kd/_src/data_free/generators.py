"""The default generator of images."""

import math

import keras
from keras import layers

from keras_kd._src.arguments import integer
from keras_kd._src.data_free.input_values import check_one_stated
from keras_kd._src.data_free.input_values import checked_range


def image_generator(
    image_shape,
    *,
    value_range=None,
    statistics=None,
    latent_size=100,
    width=128,
    classes=None,
    name="generator",
):
    """A generator of images, as in DAFL, DFAD and ZSKT.

    It has two upsamplings by 2 and three convolutions. Its cost depends on
    `width`: 128 in the papers; 32 is about 16 times as fast. Describe the
    teacher's inputs by either `value_range` or `statistics`. The batch
    normalizations have Keras' epsilon of 1e-3; the authors' code of DAFL and
    DFAD passes 0.8 there, which was meant as the momentum.

    Args:
        image_shape: `(height, width, channels)`, as the teacher takes it
            (channels first if that is Keras' data format).
        value_range: pair of the smallest and the largest value, such as
            `(0.0, 1.0)`: the last activation is a sigmoid, scaled to it.
        statistics: pair of mean and standard deviation of the inputs, each a
            number or one for each channel; `(0.0, 1.0)` for standardized
            images. The last layer is then a `BatchNormalization`, scaled to
            these.
        latent_size: integer, how many random numbers an image is made from.
        width: integer, channels of the first convolution; the second has half.
        classes: integer, the number of classes, for a generator of images of
            given classes, as in KegNet. Its second input is then the class,
            one-hot.
        name: the model's name.

    Returns:
        A `keras.Model` from latents `(batch, latent_size)` to images; with
        `classes`, from `[latents, one_hot]`.

    Raises:
        ValueError: not exactly one of `value_range` and `statistics` is
            given, or a size is not a positive integer.

    Example:
    >>> model = image_generator((28, 28, 1), value_range=(0.0, 1.0), width=8)
    >>> model.output_shape
    (None, 28, 28, 1)

    Reference: Chen et al., 2019, DAFL, arXiv 1904.01186; Fang et al., 2019,
    DFAD, arXiv 1912.11006.
    """
    check_one_stated(value_range, statistics)
    first = keras.config.image_data_format() == "channels_first"
    shape = [integer(size, "image_shape") for size in image_shape]
    channels, *sizes = shape if first else [shape[-1], *shape[:-1]]
    width = integer(width, "width", least=2)
    latents = keras.Input((integer(latent_size, "latent_size"),), name="latent")
    inputs, x = latents, latents
    if classes is not None:
        inputs = [latents, keras.Input((integer(classes, "classes"),))]
        x = layers.Concatenate()(inputs)
    quarter = [math.ceil(size / 4) for size in sizes]
    x = layers.Dense(width * math.prod(quarter))(x)
    x = layers.Reshape([width, *quarter] if first else [*quarter, width])(x)
    x = _normalized(x, first)
    for filters in (width, width // 2):
        x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.LeakyReLU(0.2)(_normalized(x, first))
    x = layers.Conv2D(channels, 3, padding="same")(x)
    cropped = [(0, 4 * part - size) for part, size in zip(quarter, sizes)]
    if any(surplus for _, surplus in cropped):
        x = layers.Cropping2D(cropped)(x)
    return keras.Model(
        inputs, _in_range(x, value_range, statistics, first), name=name
    )


def _normalized(x, first, **settings):
    axis = 1 if first else -1
    return layers.BatchNormalization(axis=axis, momentum=0.9, **settings)(x)


def _in_range(x, value_range, statistics, first):
    """Scales values to the range, or to the mean and standard deviation."""
    if value_range is not None:
        low, high = checked_range(value_range)
        x = layers.Activation("sigmoid")(x)
        return layers.Rescaling(high - low, low)(x)
    mean, deviation = statistics
    x = layers.Activation("tanh")(x)
    x = _normalized(x, first, center=False, scale=False)
    return layers.Rescaling(deviation, mean)(x)
