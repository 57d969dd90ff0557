"""MappedDataset: a `PyDataset` with a function applied to its batches."""

import keras


class MappedDataset(keras.utils.PyDataset):
    """A `PyDataset` with a function applied to each of its batches.

    For data sets that load in several processes, it must be possible to pickle
    the function.
    """

    def __init__(self, dataset, function):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset, self.function = dataset, function

    def __len__(self):
        return len(self.dataset)

    @property
    def num_batches(self):
        return self.dataset.num_batches

    def __getitem__(self, index):
        return self.function(self.dataset[index])

    def set_epoch(self, epoch, logs=None):
        """Sets the epoch of the original data set, if it has one."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def epoch_logs(self):
        """The original data set's entries for the logs of an epoch."""
        return epoch_logs(self.dataset)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def epoch_logs(data):
    """The data's entries for the logs of an epoch: a dict, often empty."""
    return data.epoch_logs() if hasattr(data, "epoch_logs") else {}
