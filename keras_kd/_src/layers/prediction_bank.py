"""PredictionBank: a model's last prediction for each sample."""

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.backend import of_all_replicas
from keras_kd._src.layers.sample_rows import SampleRows


@keras.saving.register_keras_serializable(package="keras_kd")
class PredictionBank(keras.layers.Layer):
    """The last class probabilities of each sample, for self-distillation.

    It lets a model learn from its previous-epoch predictions. The rows are not
    trained: they are written in training steps, and saved and restored with the
    distiller. It takes `4 * num_samples * num_classes` bytes, and twice that
    during a step; with several replicas (TensorFlow) each takes that much, as
    each writes the samples of all.

    Args:
        num_samples: how many samples the data has.
        num_classes: how many classes there are.
        kwargs: as in `keras.layers.Layer`.

    Raises:
        ValueError: an argument is not a positive integer, or `num_classes` is
            below 2.

    Example:
    >>> bank = PredictionBank(num_samples=5, num_classes=2)
    >>> bank.write(ops.array([[0.25, 0.75]]), ops.array([3]), ops.ones(1))
    >>> rows, known = bank.read(ops.array([3, 4]))
    >>> [float(entry) for entry in rows[0]], [bool(each) for each in known]
    ([0.25, 0.75], [True, False])
    """

    def __init__(self, num_samples, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_samples = integer(num_samples, "num_samples")
        self.num_classes = integer(num_classes, "num_classes", least=2)
        self.rows = self.add_weight(
            name="rows",
            shape=(self.num_samples, self.num_classes),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def read(self, sample_index):
        """The rows of some samples, and whether they have been written.

        Args:
            sample_index: sample indices, int32 of shape `(batch,)`.

        Returns:
            `(rows, known)`, of shapes `(batch, num_classes)` and `(batch,)`.
        """
        rows = ops.take(ops.convert_to_tensor(self.rows), sample_index, axis=0)
        return rows, ops.any(rows > 0, axis=-1)

    def write(self, probabilities, sample_index, sample_weight):
        """Writes predictions to their samples' rows.

        Args:
            probabilities: shape `(batch, num_classes)`. For a sample that comes
                more than once, the mean is written.
            sample_index: sample indices, int32 of shape `(batch,)`.
            sample_weight: shape `(batch,)`; samples of weight 0 are not
                written.
        """
        probabilities, *of_samples = of_all_replicas(
            probabilities, sample_index, sample_weight
        )
        batch = SampleRows(*of_samples)
        batch.write(self.rows, batch.mean(probabilities))

    def get_config(self):
        return {
            **super().get_config(),
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
        }
