"""What ties samples to the numbers that a generator makes them from."""

import keras
from keras import ops

from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.specs import same_shape


@keras.saving.register_keras_serializable(package="keras_kd")
class LatentDiversity(SynthesisLoss):
    """Diversity loss of KegNet: unlike latents give unlike samples.

    Against a generator that makes few images of each class.

        value = exp(-mean over pairs of mean (z_i - z_j)^2 * mean |x_i - x_j|)

    The mean is over pairs of neighbours in the batch, whose order is random:
    the same mean in expectation, at a batch's cost instead of its square.

    Args:
        weight: 1 in KegNet on MNIST, 10 on Fashion-MNIST.
        name: the name in the logs.

    Example:
    >>> LatentDiversity().name
    'latent_diversity'

    Reference: Yoo et al., 2019, "Knowledge Extraction with No Observable
    Data" (KegNet), NeurIPS 2019.
    """

    needs_latents = True

    def call(self, batch):
        samples, latents = map(_rows, (batch.samples, batch.latents))
        apart = ops.mean(ops.square(latents - _shifted(latents)), axis=-1)
        unlike = ops.mean(ops.abs(samples - _shifted(samples)), axis=-1)
        return ops.exp(-ops.mean(apart * unlike))


def _rows(tensor):
    tensor = ops.cast(tensor, "float32")
    return ops.reshape(tensor, (ops.shape(tensor)[0], -1))


def _shifted(rows):
    return ops.concatenate([rows[1:], rows[:1]])


@keras.saving.register_keras_serializable(package="keras_kd")
class LatentReconstruction(SynthesisLoss):
    """Decoder loss of KegNet: the latents can be read from a sample.

        value = mean (decoder(samples) - latents)^2

    Args:
        decoder: a Keras model, from samples to latents; it is trained with
            the generator.
        weight: usual value 1.
        name: the name in the logs.

    Raises:
        ValueError: `decoder` is no built Keras model, or in a batch makes
            what is not of the latents' shape.

    Example:
    >>> decoder = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(16),
    ... ])
    >>> LatentReconstruction(decoder).name
    'latent_reconstruction'

    Reference: Yoo et al., 2019, KegNet, NeurIPS 2019.
    """

    needs_latents = True

    def __init__(self, decoder, weight=1.0, *, name=None):
        if not (isinstance(decoder, keras.Model) and decoder.built):
            raise ValueError(
                "Argument `decoder` must be a built Keras model. Received: "
                f"decoder={decoder!r}."
            )
        super().__init__(weight, name=name)
        self.decoder = decoder

    @property
    def layers(self):
        return [self.decoder]

    def call(self, batch):
        found = self.decoder(batch.samples, training=True)
        if not same_shape(found.shape, batch.latents.shape):
            raise ValueError(
                f"The decoder {self.decoder.name!r} must make latents again. "
                f"Received: values of shape {tuple(found.shape)}, expected "
                f"{tuple(batch.latents.shape)}. Give it an output of that "
                "shape."
            )
        return ops.mean(ops.square(found - batch.latents))

    def get_config(self):
        return {**super().get_config(), "decoder": self.decoder}

    @classmethod
    def from_config(cls, config):
        decoder = keras.saving.deserialize_keras_object(config["decoder"])
        return cls(**{**config, "decoder": decoder})
