"""Synthesis losses that relate samples to the generator's latents."""

import keras
from keras import ops

from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.specs import same_shape


@keras.saving.register_keras_serializable(package="keras_kd")
class LatentDiversity(SynthesisLoss):
    """Diversity loss of KegNet: different latents give different samples.

    It prevents a generator that makes only a few images of each class.

        value = exp(-mean over pairs of mean (z_i - z_j)^2 * mean |x_i - x_j|)

    The mean is over neighboring pairs in the batch, whose order is random. In
    expectation it equals the mean over all pairs, but its cost grows only
    linearly with the batch size.

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
    """Decoder loss of KegNet: a decoder finds the latents of a sample.

        value = mean (decoder(samples) - latents)^2

    Args:
        decoder: a built Keras model from samples to latents; it is trained
            with the generator.
        weight: usual value 1.
        name: the name in the logs.

    Raises:
        ValueError: `decoder` is not a built Keras model, or its output doesn't
            have the latents' shape.

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
                f"The decoder {self.decoder.name!r} must output latents. "
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
