"""The rows of a batch that each process computes on."""

import zlib

import keras
from keras import ops

from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.chunked_logits import ChunkedLogits


class Rows:
    """Divides the rows of a batch among processes.

    Args:
        processes: the `Processes`.
        batch: a structure of tensors, each with one row for each sample.
    """

    def __init__(self, processes, batch):
        self.processes = processes
        self.total = row_count(batch)
        least, more = divmod(self.total, processes.count)
        ranks = range(processes.count)
        self.counts = [least + (rank < more) for rank in ranks]
        # A process without rows computes on another's; that isn't counted.
        self.begin = min(sum(self.counts[: processes.rank]), self.total - 1)
        self.computed = max(self.counts[processes.rank], 1)

    @property
    def share(self):
        """This process's share of the rows; 1 where all have equally many."""
        processes = self.processes
        return self.counts[processes.rank] * processes.count / self.total

    def own(self, batch):
        """This process's rows of a batch."""
        end = self.begin + self.computed
        return keras.tree.map_structure(
            lambda each: each[self.begin : end] if _has_rows(each) else each,
            batch,
        )

    def all(self, values):
        """The values of all processes, from this process's own."""
        return keras.tree.map_structure(self._all, values)

    def _all(self, value):
        if value is None:
            return None
        if isinstance(value, ChunkedLogits):
            found = ChunkedLogits(
                self._all(value.hidden),
                value.head,
                arguments=value.arguments,
                chunk_size=value.chunk_size,
            )
            found.rows = self
        else:
            found = self._all_rows(ops.convert_to_tensor(value))
        mask = get_keras_mask(value)
        if mask is not None:
            set_keras_mask(found, self._all_rows(mask))
        return found

    def _all_rows(self, tensor):
        from keras_kd._src.distribution.collectives import AllRows

        if len(tensor.shape) < 1 or tensor.shape[0] != self.computed:
            raise ValueError(
                "Several processes gather what each computes for its samples, "
                "one row for each. Received: an output or a feature "
                f"of shape {tuple(tensor.shape)} for {self.computed} samples. "
                "Tap layers whose values have the batch as first axis, or "
                "train in one process."
            )
        return AllRows.apply(tensor, self.processes, self.counts)


def _has_rows(value):
    return value is not None and len(getattr(value, "shape", ())) > 0


def row_count(batch):
    """How many samples a batch has."""
    given = [each for each in keras.tree.flatten(batch) if _has_rows(each)]
    return int(given[0].shape[0])


def shapes_checksum(batch):
    """A checksum of a batch's shapes without the number of rows."""
    shapes = [
        [*each.shape[1:]] if _has_rows(each) else None
        for each in keras.tree.flatten(batch)
    ]
    return zlib.crc32(repr(shapes).encode())


def values_checksum(batch, count=64):
    """A checksum of a batch's samples, in their order."""
    checksum = 0
    for each in keras.tree.flatten(batch):
        if _has_rows(each):
            rows = ops.convert_to_tensor(each[:, None])
            rows = ops.reshape(rows, (len(each), -1))[:, :count]
            rows = ops.convert_to_numpy(ops.cast(rows, "float32"))
            checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum
