"""LossParts: the parts of the loss, as the logs have them."""

import keras
from keras import ops

from keras_kd._src.distillation.steps import unscaled


class LossParts(keras.metrics.Metric):
    """The mean of each part of the loss, over samples.

    One metric for all parts: one for each would cost a small student's step
    a percent or two on PyTorch.

        mean_part = sum_batches(samples * part) / sum_batches(samples)

    Args:
        names: what the parts are called in the logs.

    Example:
    >>> parts = LossParts(["hard_loss", "soft_targets_loss"])
    >>> parts.update_state([ops.array(1.0), ops.array(4.0)], 2)
    >>> parts.update_state([ops.array(4.0), ops.array(1.0)], 1)
    >>> {name: float(mean) for name, mean in parts.result().items()}
    {'hard_loss': 2.0, 'soft_targets_loss': 3.0}
    """

    def __init__(self, names):
        super().__init__(name="loss_parts")
        self.names = list(names)
        # The last is the number of samples.
        self.sums = self.add_variable(
            shape=(len(self.names) + 1,), initializer="zeros", name="sums"
        )

    def update_state(self, parts, batch_size):
        parts = ops.stack([*map(unscaled, parts), 1.0])
        self.sums.assign_add(parts * ops.cast(batch_size, self.dtype))

    def result(self):
        sums = ops.convert_to_tensor(self.sums)
        means = ops.divide_no_nan(sums, sums[-1])
        return {name: means[i] for i, name in enumerate(self.names)}
