"""PredictionBank: what a model last answered about each sample."""

import keras
from keras import ops

from keras_kd._src.layers.memory_bank import put_rows
from keras_kd._src.layers.memory_bank import whole_number


@keras.saving.register_keras_serializable(package="keras_kd")
class PredictionBank(keras.layers.Layer):
    """A row of class probabilities for each sample of the data.

    It lets a model learn from what it said an epoch ago. The rows are no
    trained weights: they are written in the steps, and saved and resumed with
    the distiller. It takes `4 * num_samples * num_classes` bytes, and as much
    again while a step writes. With several replicas (TensorFlow) only the
    first one's samples are written.

    Args:
        num_samples: how many samples the data has.
        num_classes: how many classes there are.
        kwargs: as in `keras.layers.Layer`.

    Raises:
        ValueError: a number is not in its range.

    Example:
    >>> bank = PredictionBank(num_samples=5, num_classes=2)
    >>> bank.write(ops.array([[0.25, 0.75]]), ops.array([3]), ops.ones(1))
    >>> rows, known = bank.read(ops.array([3, 4]))
    >>> [float(entry) for entry in rows[0]], [bool(each) for each in known]
    ([0.25, 0.75], [True, False])
    """

    def __init__(self, num_samples, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_samples = whole_number(num_samples, "num_samples", least=1)
        self.num_classes = whole_number(num_classes, "num_classes", least=2)
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
        """The rows of some samples, and which of them have one.

        Args:
            sample_index: places in the data, int32 of shape `(batch,)`.

        Returns:
            `(rows, known)`, of shapes `(batch, num_classes)` and `(batch,)`.
        """
        rows = ops.take(ops.convert_to_tensor(self.rows), sample_index, axis=0)
        return rows, ops.any(rows > 0, axis=-1)

    def write(self, probabilities, sample_index, sample_weight):
        """Puts the answers in their samples' rows.

        Args:
            probabilities: shape `(batch, num_classes)`. Of a sample that
                comes more than once, the mean is written.
            sample_index: places in the data, int32 of shape `(batch,)`.
            sample_weight: shape `(batch,)`; of weight 0 nothing is written.
        """
        # Where a place comes twice, all of its entries write the same row:
        # which of them is written last is then of no importance.
        same = ops.equal(sample_index[:, None], sample_index[None, :])
        same = ops.logical_and(same, (sample_weight > 0)[None, :])
        same = ops.cast(same, "float32")
        number = ops.sum(same, axis=1, keepdims=True)
        mean = ops.matmul(same, probabilities) / ops.maximum(number, 1.0)
        old, _ = self.read(sample_index)
        put_rows(self.rows, sample_index, ops.where(number > 0, mean, old))

    def get_config(self):
        return {
            **super().get_config(),
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
        }
