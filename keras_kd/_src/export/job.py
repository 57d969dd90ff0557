"""Job and Written: what to write and run, and the result."""

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
        samples: arrays in the structure of the student's inputs.
        input_names: the inputs' names in the file, in the order of `flat`.
        output_names: the outputs' names, in the same order.
        batch_size: the file's fixed batch size, or None.
        quantize: None, "int8" or "dynamic_int8".
        integer_only: whether inputs, outputs and all operations are integers.
        threads: how many threads run the file.
        ranges: pairs, the ranges of a quantization-aware student's values.
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
        """The rows of samples of each pass.

        If the batch size is open, the first pass has one sample, to find a size
        that was fixed while tracing.
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
    """What a process wrote, and what it measured.

    Args:
        outputs: the file's outputs by name, for all rows of `Job.parts`.
        operations: counts by name.
        in_float: names of the operations that a quantized file computes in
            float, or empty.
        milliseconds: median time of a pass.
        runtime: the package that ran the file.
        backend: the process's backend.
        versions: versions of the packages used, by name.
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
