"""Shared by the banks: rows, one for each sample, written in a step."""

from keras import ops


class SampleRows:
    """The rows that a batch writes, one per sample of a weight above 0."""

    # If a sample is in a batch twice, all of its entries write the same row, so
    # that it does not matter which of them is written last.

    def __init__(self, sample_index, sample_weight):
        same = ops.equal(sample_index[:, None], sample_index[None, :])
        same = ops.logical_and(same, (sample_weight > 0)[None, :])
        self.index = sample_index
        self.same = ops.cast(same, "float32")
        self.count = ops.sum(self.same, axis=1)

    def mean(self, values):
        """The mean of each sample's values, of shape `(batch, width)`."""
        count = ops.maximum(self.count, 1.0)
        return ops.matmul(self.same, values) / ops.expand_dims(count, -1)

    def largest(self, numbers):
        """The largest of each sample's numbers, -1 or more."""
        return ops.max(ops.where(self.same > 0, numbers[None, :], -1), axis=1)

    def read(self, variable):
        """The current rows of a variable."""
        return ops.take(ops.convert_to_tensor(variable), self.index, axis=0)

    def write(self, variable, values):
        """Writes rows, without a gradient; not those of samples of weight 0."""
        present = self.count > 0
        if len(values.shape) > 1:
            present = ops.expand_dims(present, -1)
        values = ops.where(present, values, self.read(variable))
        rows = ops.convert_to_tensor(variable)
        rows = ops.scatter_update(rows, self.index[:, None], values)
        variable.assign(ops.stop_gradient(rows))
