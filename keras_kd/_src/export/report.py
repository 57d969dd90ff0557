"""ExportReport: the result of an export."""

import dataclasses
import json
import textwrap


@dataclasses.dataclass
class ExportReport:
    """What `keras_kd.export` wrote, and how close it is to the student.

    Print it for a summary.

    Args:
        path: path of the file or folder.
        format: name of the format.
        quantize: None, `"int8"` or `"dynamic_int8"`.
        size: size in bytes, with all files that belong to it.
        inputs: dict, name -> type and shape; None stands for any batch size.
        outputs: the same for outputs.
        samples: how many samples were run.
        agreement: share of rows with the student's most likely class, from 0
            to 1, the smallest of all outputs with classes; None if no output
            has classes.
        largest_difference: the largest absolute difference of an entry, over
            all outputs.
        relative_difference: the largest difference divided by the student's
            largest entry, over all outputs.
        comparisons: dict, name of an output -> dict of these three and of
            `error`, the root mean square of the differences, divided by that
            of the student's entries.
        operations: dict, name of an operation -> how often the file has it.
        in_float: names of the operations that an int8 file computes in float.
        milliseconds: median time of a pass.
        batch_size: the batch size of that pass.
        threads: how many threads ran it; None if the runtime decides.
        written_by: the backend that wrote the file.
        runtime: the package that ran the file.
        versions: versions of the packages used, by name.

    Example:
    >>> report = ExportReport("student.onnx", "onnx", size=1200)
    >>> report.size
    1200
    >>> '"format": "onnx"' in report.to_json()
    True
    """

    path: str
    format: str
    quantize: str | None = None
    size: int = 0
    inputs: dict = dataclasses.field(default_factory=dict)
    outputs: dict = dataclasses.field(default_factory=dict)
    samples: int = 0
    agreement: float | None = None
    largest_difference: float = 0.0
    relative_difference: float = 0.0
    comparisons: dict = dataclasses.field(default_factory=dict)
    operations: dict = dataclasses.field(default_factory=dict)
    in_float: list = dataclasses.field(default_factory=list)
    milliseconds: float = 0.0
    batch_size: int = 1
    threads: int | None = 1
    written_by: str = ""
    runtime: str = ""
    versions: dict = dataclasses.field(default_factory=dict)

    def to_json(self):
        """All fields as JSON, in a string."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def __str__(self):
        kind = f"{self.format}, {self.quantize or 'float'}"
        lines = [f"{self.path} ({kind})"]
        for title, text in self._rows():
            head, *rest = textwrap.wrap(text, 56) or [""]
            lines += [f"  {title:20}{head}", *(f"{'':22}{r}" for r in rest)]
        return "\n".join(lines)

    def _rows(self):
        yield "size", _bytes(self.size)
        yield "inputs", _specs(self.inputs)
        yield "outputs", _specs(self.outputs)
        for name, each in self.comparisons.items():
            title = "follows the student" if len(self.comparisons) < 2 else name
            yield title, _closeness(each, self.samples)
        threads = f"{self.threads or 'its own number of'} threads"
        threads = "1 thread" if self.threads == 1 else threads
        yield (
            "latency",
            f"{self.milliseconds:.3g} ms for a batch of {self.batch_size} "
            f"(median, {threads})",
        )
        yield "operations", _counts(self.operations)
        if self.in_float:
            yield "left in float", ", ".join(self.in_float)
        yield "written by", self.written_by
        yield "run by", self.runtime
        versions = [f"{name} {v}" for name, v in self.versions.items()]
        yield "versions", ", ".join(versions)


def _bytes(size):
    if size < 10**6:
        return f"{size / 1000:.1f} kB"
    return f"{size / 10**6:.2f} MB"


def _specs(specs):
    return ", ".join(f"{name}: {spec}" for name, spec in specs.items())


def _counts(counts):
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _closeness(compared, samples):
    agreement = ""
    if compared["agreement"] is not None:
        agreement = f"{100 * compared['agreement']:.1f} % agree, "
    largest, relative = (
        compared[name] for name in ("largest_difference", "relative_difference")
    )
    return (
        f"{agreement}largest difference {largest:.2g} ({100 * relative:.2g} % "
        f"of the largest entry), of {samples} samples"
    )


def report_of(path, job, outputs, size, written, comparisons):
    """The report of a file that was written and compared."""
    comparisons = {n: dataclasses.asdict(c) for n, c in comparisons.items()}
    agreements = [each["agreement"] for each in comparisons.values()]
    agreements = [each for each in agreements if each is not None]
    # TensorFlow fixes its threads when it starts.
    threads = None if job.format == "saved_model" else job.threads
    return ExportReport(
        path=str(path),
        format=job.format,
        quantize=job.quantize,
        size=size,
        inputs=_specs_by_name(job.arrays, job),
        outputs=_specs_by_name(outputs, job),
        samples=job.count,
        agreement=min(agreements) if agreements else None,
        largest_difference=_worst(comparisons, "largest_difference"),
        relative_difference=_worst(comparisons, "relative_difference"),
        comparisons=comparisons,
        operations=written.operations,
        in_float=written.in_float,
        milliseconds=written.milliseconds,
        batch_size=job.batch_size or 1,
        threads=threads,
        written_by=written.backend,
        runtime=written.runtime,
        versions=written.versions,
    )


def _worst(comparisons, name):
    return max(each[name] for each in comparisons.values())


def _specs_by_name(arrays, job):
    return {
        name: f"{array.dtype} {(job.batch_size, *array.shape[1:])}"
        for name, array in arrays.items()
    }
