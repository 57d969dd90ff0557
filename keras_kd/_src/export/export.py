"""`keras_kd.export`: writes a student for another runtime, and checks it."""

import contextlib
import pathlib

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.arguments import received
from keras_kd._src.backend import BACKEND
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.export.child import write_elsewhere
from keras_kd._src.export.comparison import compare
from keras_kd._src.export.comparison import too_far
from keras_kd._src.export.converter_errors import ConverterError
from keras_kd._src.export.formats import FORMATS
from keras_kd._src.export.formats import backends_for
from keras_kd._src.export.formats import check_packages
from keras_kd._src.export.formats import write_and_run
from keras_kd._src.export.job import Job
from keras_kd._src.export.quantized_student import check_quantized_student
from keras_kd._src.export.quantized_student import for_exporter
from keras_kd._src.export.quantized_student import learned_ranges
from keras_kd._src.export.report import report_of
from keras_kd._src.export.signature import input_names
from keras_kd._src.export.signature import output_names
from keras_kd._src.export.staging import clear
from keras_kd._src.export.staging import size_of
from keras_kd._src.export.staging import staged
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.samples import checked_samples
from keras_kd._src.samples import flat
from keras_kd._src.samples import run_student
from keras_kd._src.specs import unbuilt_layers

QUANTIZE = (None, "int8", "dynamic_int8")


def export(
    student,
    path,
    *,
    format,
    samples,
    quantize=None,
    batch_size=None,
    tolerance=None,
    integer_only=False,
    threads=1,
):
    """Exports a student to another runtime, and checks the file by running it.

    For deployment. Exporters differ by backend, and some files are silently
    wrong. So the samples are run through the file, in the runtime it is for,
    and the outputs are compared with the student's. If they differ by more than
    `tolerance`, an error is raised and no file is left; an earlier file at
    `path` is replaced only by a new one that was found good.

    Keras' own `model.export` writes the file wherever it can. The formats:

        format         path       written by               batch of any size
        "litert"       .tflite    TensorFlow               no
        "onnx"         .onnx      each backend             yes
        "openvino"     .xml       each, through ONNX       yes
        "saved_model"  a folder   TensorFlow, JAX          yes
        "torch"        .pt2       PyTorch                  yes

    On another backend, or if a backend's converter fails, the student is saved,
    and a new process with one of these backends, if it is installed, loads and
    exports it. Your own classes must then be importable from a module. The
    report says which backend was used.

    All sizes except the batch size are fixed to those of the samples. LiteRT
    files have only built-in operations, which phones run without the Flex
    delegate.

    `"int8"` computes in 8-bit integers, with ranges measured on the samples,
    and one scale for each channel of the weights. A student that was trained as
    a `keras_kd.quantization.QuantizationAwareModel` has ranges of its own.
    Operations without an 8-bit version stay in float, and the report names
    them. `"dynamic_int8"` only stores weights in 8 bits, and needs no measured
    ranges; LiteRT leaves weights of fewer than 1024 entries in float.

    Args:
        student: a built Keras model with float32 layers; or a `Distiller`,
            whose student is exported.
        path: the path of the file, with the format's suffix, or of the folder.
        format: `"litert"`, `"onnx"`, `"openvino"`, `"saved_model"` or
            `"torch"`.
        samples: arrays of shape `(samples, ...)`, in the structure of the
            student's inputs; for `"int8"` a few hundred typical ones.
        quantize: None, `"int8"` (LiteRT, ONNX, OpenVINO) or `"dynamic_int8"`
            (LiteRT, ONNX).
        batch_size: integer, the file's fixed batch size. By default any size
            if the format allows it, else 1.
        tolerance: number from 0. For a float file (default 1e-3) the largest
            difference of an entry, relative to the student's largest entry. For
            a quantized file (default 0.1) the share of rows whose largest entry
            may be of another class, while the error (root mean square of the
            differences, relative to that of the student's outputs) may be five
            times the tolerance; if the error is within the tolerance, classes
            are not compared.
        integer_only: whether a LiteRT file with `"int8"` must also have int8
            inputs and outputs, and no operation in float, as microcontrollers
            and the Edge TPU require.
        threads: integer, threads that run the file for the check and the
            latency.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: an argument is wrong; a package is missing; the student
            can't be exported; the file differs from the student.

    Example:
    >>> import tempfile
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x = np.ones((8, 4), "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export(
    ...         student, f"{folder}/student.onnx", format="onnx", samples=x
    ...     )
    >>> report.agreement
    1.0
    """
    student = student.student if isinstance(student, Distiller) else student
    one_of(format, "format", tuple(FORMATS))
    _check_student(student, format)
    path = _checked_path(path, format)
    _check_quantize(format, quantize, integer_only)
    check_quantized_student(student, quantize)
    samples = checked_samples(student, samples)
    expected = run_student(student, samples)
    job = Job(
        format=format,
        samples=samples,
        input_names=input_names(student, samples),
        output_names=output_names(expected),
        batch_size=_batch_size(batch_size, format),
        quantize=quantize,
        integer_only=bool(integer_only),
        threads=integer(threads, "threads"),
        ranges=learned_ranges(student),
    )
    default = 0.1 if quantize else 1e-3
    tolerance = default if tolerance is None else tolerance
    tolerance = number(tolerance, "tolerance", least=0.0)
    check_packages(format)
    backends = backends_for(format)
    exported = for_exporter(student, format)
    outputs = dict(zip(job.output_names, flat(expected)))
    with staged(path) as unfinished:
        written = _write(exported, job, unfinished, backends)
        _check_integers(student, job, written)
        comparisons = _compared(student, job, outputs, written, tolerance)
        size = sum(map(size_of, unfinished.parent.iterdir()))
    return report_of(path, job, outputs, size, written, comparisons)


def _write(student, job, path, backends):
    """Writes with the first backend whose converter succeeds."""
    first, *others = backends
    try:
        return _write_by(first, student, job, path)
    except ConverterError as error:
        for backend in others:
            clear(path.parent)
            with contextlib.suppress(ValueError):
                return _write_by(backend, student, job, path)
        raise error


def _write_by(backend, student, job, path):
    if backend == BACKEND:
        return write_and_run(student, job, path)
    return write_elsewhere(student, job, path, backend)


def _check_student(student, format):
    if not isinstance(student, keras.Model):
        raise ValueError(
            "Argument `student` must be a Keras model or a `Distiller`. "
            f"{received('student', student)}"
        )
    unbuilt = unbuilt_layers(student)
    if unbuilt:
        raise ValueError(
            f"The student {student.name!r} is not built. Received: a student "
            f"whose layers {unbuilt[:5]} have no weights yet. Train it, load "
            "its weights, or call it on a batch first."
        )
    for layer in all_layers(student):
        if layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise ValueError(
                f"The student {student.name!r} must compute in float32 to be "
                f"exported. Received: {layer.name!r}, which computes in "
                f"{layer.compute_dtype}. Build the same model under "
                "`keras.config.set_dtype_policy('float32')`, and give it the "
                "weights: `model.set_weights(student.get_weights())`."
            )
        if format == "litert" and layer.quantization_mode is not None:
            raise ValueError(
                "LiteRT can't store layers that Keras' `model.quantize` has "
                f"changed. Received: {layer.name!r} of {student.name!r}, "
                f"quantized to {layer.quantization_mode!r}. Export the student "
                "as it was before, with quantize='int8' or 'dynamic_int8'."
            )


def _checked_path(path, format):
    path, suffix = pathlib.Path(path), FORMATS[format].SUFFIX
    if path.suffix != suffix and suffix:
        raise ValueError(
            f"A file of {FORMATS[format].NAME} ends with {suffix!r}. "
            f"{received('path', str(path))}"
        )
    is_folder = path.is_dir()
    if path.exists() and is_folder != (not suffix):
        raise ValueError(
            f"{FORMATS[format].NAME} is a {'file' if suffix else 'folder'}. "
            f"Received: path={str(path)!r}, where there is a "
            f"{'folder' if is_folder else 'file'}."
        )
    return path.absolute()


def _check_quantize(format, quantize, integer_only):
    one_of(quantize, "quantize", QUANTIZE)
    able = [
        name for name, each in FORMATS.items() if quantize in each.QUANTIZED
    ]
    if quantize and format not in able:
        raise ValueError(
            f"{quantize!r} is for the formats {', '.join(map(repr, able))}. "
            f"Received: format={format!r}, quantize={quantize!r}."
        )
    if integer_only and (format, quantize) != ("litert", "int8"):
        raise ValueError(
            "Argument `integer_only` is for format='litert' with "
            f"quantize='int8'. Received: format={format!r}, "
            f"quantize={quantize!r}."
        )


def _batch_size(batch_size, format):
    if batch_size is None:
        return None if FORMATS[format].DYNAMIC else 1
    return integer(batch_size, "batch_size")


def _check_integers(student, job, written):
    if job.integer_only and written.in_float:
        raise ValueError(
            f"The student {student.name!r} can't compute in integers only. "
            f"Received: a student whose operations {written.in_float} have no "
            "8-bit version in LiteRT. Use other operations, or leave "
            "`integer_only=False`."
        )


def _compared(student, job, expected, written, tolerance):
    """Comparisons by output; a `ValueError` if one differs too much."""
    rows = np.concatenate(job.parts())
    comparisons = {}
    for name, values in expected.items():
        compared = compare(name, values[rows], written.outputs[name])
        comparisons[name] = compared
        if too_far(compared, job.quantize is not None, tolerance):
            raise ValueError(
                f"The {FORMATS[job.format].NAME} file differs from the "
                f"student {student.name!r}, and was not kept. Received: "
                f"for the output {name!r} {compared.description()}; "
                f"tolerance={tolerance:g}. {_remedy(job)}"
            )
    return comparisons


def _remedy(job):
    if job.quantize:
        return (
            "Give more samples that are typical; train the student with "
            "`keras_kd.quantization.QuantizationAwareModel`; or raise "
            "`tolerance`."
        )
    if job.batch_size is None:
        return (
            "Try `batch_size=1`, as exporters may fix a size while tracing; "
            "and check whether the student itself gives the same output twice."
        )
    return "Check whether the student itself gives the same output twice."
