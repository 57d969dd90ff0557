"""RepeatedBatch: data for steps that make their samples themselves."""

import keras


class RepeatedBatch(keras.utils.PyDataset):
    """The same batch in each step.

    Args:
        batch: an array, such as the targets of what a step makes, or of its
            size alone.
        steps: how many.
    """

    holds_samples = False  # Nothing is to be built from it.

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return (self.batch,)
