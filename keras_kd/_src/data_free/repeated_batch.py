"""RepeatedBatch: data for steps that make their own samples."""

import keras


class RepeatedBatch(keras.utils.PyDataset):
    """The same batch in each step.

    Args:
        batch: an array, such as the targets of a step's samples, or one that
            only has their number of rows.
        steps: how many steps.
    """

    holds_samples = False  # So no model is built from it.

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return (self.batch,)
