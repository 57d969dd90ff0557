"""What is to be written and run, and what came of it."""

import dataclasses
import importlib.metadata

import numpy as np

from keras_kd._src.samples import MANY
from keras_kd._src.samples import flat


@dataclasses.dataclass
class Job:
    """All that a process needs to write a file and to run it.

    Args:
        format: name of the format.
        samples: arrays in the structure that the student takes.
        input_names: those in the file, in the order of `flat`.
        output_names: likewise.
        batch_size: that the file is fixed to, or None.
        quantize: None, "int8" or "dynamic_int8".
        integer_only: whether inputs, outputs and all operations are integers.
        threads: that run the file.
        ranges: of a quantization-aware student's values, pairs.
    """

    format: str
    samples: object
    input_names: list
    output_names: list
    batch_size: int | None
    quantize: str | None
    integer_only: bool
    threads: int
    ranges: tuple = ()

    @property
    def arrays(self):
        """The samples by their names in the file."""
        return dict(zip(self.input_names, flat(self.samples)))

    @property
    def count(self):
        """How many samples there are."""
        return len(flat(self.samples)[0])

    def parts(self):
        """Rows of samples that make up one pass each.

        Where the batch is open, the first is alone: a size that was baked in
        while tracing shows.
        """
        size, count = self.batch_size, self.count
        if size is not None:
            starts = range(0, count, size)
            each = [np.arange(start, start + size) for start in starts]
            return [np.minimum(rows, count - 1) for rows in each]
        rest = np.arange(1, count) if count > 1 else np.zeros(2, int)
        starts = range(0, len(rest), MANY)
        return [np.zeros(1, int), *(rest[i : i + MANY] for i in starts)]


@dataclasses.dataclass
class Written:
    """What a process wrote and saw.

    Args:
        outputs: of the file by name, for the rows of `Job.parts` in a row.
        operations: counts by name.
        in_float: names of the operations that a quantized file computes in
            float, or empty.
        milliseconds: median of a pass.
        runtime: package that ran it, with its version.
        backend: of the process.
        versions: of the packages that took part.
    """

    outputs: dict
    operations: dict
    in_float: list
    milliseconds: float
    runtime: str
    backend: str
    versions: dict


def package_versions(*names):
    """Versions of installed packages by their names."""
    return {name: importlib.metadata.version(name) for name in names}
