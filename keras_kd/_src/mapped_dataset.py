"""MappedDataset: a `PyDataset` whose batches go through a function."""

import keras


class MappedDataset(keras.utils.PyDataset):
    """Another `PyDataset`, each of its batches as a function returns it.

    The function must be one that can be pickled, for data sets that load in
    several processes.
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
        """Sets the other one's epoch, if it has one."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def epoch_logs(self):
        """What the other one has for the logs of an epoch, if anything."""
        return epoch_logs(self.dataset)

    def on_epoch_begin(self):
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        self.dataset.on_epoch_end()


def epoch_logs(data):
    """What data has for the logs of an epoch: a dict, empty for most."""
    return data.epoch_logs() if hasattr(data, "epoch_logs") else {}
