"""BatchNormMatching: samples with the statistics of the training data."""

import keras
from keras import ops

from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.data_free.teacher_layers import paths_of


@keras.saving.register_keras_serializable(package="keras_kd")
class BatchNormMatching(SynthesisLoss):
    """DeepInversion's feature loss: a batch gets the data's statistics.

    A `BatchNormalization` layer keeps the mean and variance of the features it
    was trained on. Samples whose features have the same statistics resemble
    the training data. The statistics are taken over the batch, so use batches
    of 64 samples or more.

        value = sum over layers of |mean - moving_mean|_2
                                 + |variance - moving_variance|_2

    Args:
        weight: non-negative number; 10 in the paper on CIFAR-10, 0.01 on
            ImageNet; 1 in CMI.
        name: the name in the logs.

    Raises:
        ValueError: the teacher has no `BatchNormalization`, or several with
            the same path.

    Example:
    >>> BatchNormMatching(weight=10.0).name
    'batch_norm_matching'

    Reference: Yin et al., 2020, "Dreaming to Distill: Data-free Knowledge
    Transfer via DeepInversion", arXiv 1912.08795.
    """

    def taps(self, teacher):
        found = paths_of(teacher, keras.layers.BatchNormalization)
        self._norms = {f"{path}:input": layer for path, layer in found}
        if not self._norms:
            raise ValueError(
                "BatchNormMatching compares a batch with the statistics that "
                "`BatchNormalization` layers keep. Received: the teacher "
                f"{teacher.name!r}, which has none. Leave this loss out: "
                "`data_free.impressions`, `dafl` or `dfad` need no such layer."
            )
        if len(self._norms) < len(found):
            paths = [path for path, _ in found]
            twice = sorted({path for path in paths if paths.count(path) > 1})
            raise ValueError(
                "BatchNormMatching reads each `BatchNormalization` by its "
                f"path. Received: the teacher {teacher.name!r}, with several "
                f"layers at {twice}. Give them names of their own."
            )
        return list(self._norms)

    def call(self, batch):
        return sum(
            _distance(layer, batch.features[tap])
            for tap, layer in self._norms.items()
        )


def _distance(layer, features):
    """How far a batch's statistics are from a layer's moving statistics."""
    features = ops.cast(features, "float32")
    channels = layer.axis % len(features.shape)
    others = [n for n in range(len(features.shape)) if n != channels]
    mean, variance = ops.moments(features, others)
    kept = layer.moving_mean, layer.moving_variance
    return sum(
        _length(value - ops.cast(known, "float32"))
        for value, known in zip((mean, variance), kept)
    )


def _length(vector):
    # A square root has no finite gradient at 0, where both agree.
    return ops.sqrt(ops.sum(ops.square(vector)) + 1e-12)
