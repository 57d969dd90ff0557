"""Image priors: losses that keep images smooth, and values small."""

import keras
from keras import ops

from keras_kd._src.data_free.synthesis_loss import SynthesisLoss


@keras.saving.register_keras_serializable(package="keras_kd")
class TotalVariation(SynthesisLoss):
    """Total variation (TV): makes neighboring pixels similar.

        value = mean |x[i + 1, j] - x[i, j]| + mean |x[i, j + 1] - x[i, j]|

    It is a mean over pixels, so that a weight means the same for other image
    and batch sizes. Published weights are for sums or norms.

    Args:
        weight: 0 to 1; a larger one makes images flat.
        name: the name in the logs.

    Raises:
        ValueError: the samples of a batch are not images.

    Example:
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> image = ops.reshape(ops.array([0.0, 1.0, 0.0, 1.0]), (1, 2, 2, 1))
    >>> float(TotalVariation()(SyntheticBatch(image, None)))
    1.0

    Reference: Mahendran and Vedaldi, 2015, "Understanding Deep Image
    Representations by Inverting Them", arXiv 1412.0035.
    """

    def call(self, batch):
        images = ops.cast(batch.samples, "float32")
        if len(images.shape) != 4:
            raise ValueError(
                "TotalVariation compares neighboring pixels of images, of "
                "shape (batch, height, width, channels). Received: samples of "
                f"shape {tuple(images.shape)}. Leave it out."
            )
        if keras.config.image_data_format() == "channels_first":
            images = ops.transpose(images, (0, 2, 3, 1))
        down = ops.abs(images[:, 1:] - images[:, :-1])
        right = ops.abs(images[:, :, 1:] - images[:, :, :-1])
        return ops.mean(down) + ops.mean(right)


@keras.saving.register_keras_serializable(package="keras_kd")
class SquaredNorm(SynthesisLoss):
    """Squared L2 norm: keeps values near 0, for inputs with a mean of 0.

        value = mean x^2

    Args:
        weight: usual values 0 to 0.1.
        name: the name in the logs.

    Example:
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> float(SquaredNorm()(SyntheticBatch(ops.array([[2.0, 0.0]]), None)))
    2.0

    Reference: Mahendran and Vedaldi, 2015, arXiv 1412.0035.
    """

    def call(self, batch):
        return ops.mean(ops.square(ops.cast(batch.samples, "float32")))
