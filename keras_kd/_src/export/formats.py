"""The formats, and how each is written.

A format is a module with: its NAME; the SUFFIX of its path; the BACKENDS that
can write it; the PACKAGES that it needs, with what installs them; the RUNTIME
that runs it; whether the batch size can be DYNAMIC; how it can be QUANTIZED;
and the functions `write`, `reader`, `operations` and `versions`.
"""

import contextlib
import importlib.util
import logging
import warnings

import numpy as np

from keras_kd._src.backend import BACKEND
from keras_kd._src.export import litert
from keras_kd._src.export import onnx
from keras_kd._src.export import openvino
from keras_kd._src.export import saved_model
from keras_kd._src.export import torch_program
from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import Written
from keras_kd._src.latency import median_seconds

FORMATS = {
    "litert": litert,
    "onnx": onnx,
    "openvino": openvino,
    "saved_model": saved_model,
    "torch": torch_program,
}


def backends_for(name):
    """The installed backends that write a format; the current one first."""
    able = FORMATS[name].BACKENDS
    there = [each for each in able if importlib.util.find_spec(each)]
    if not there:
        raise ValueError(
            f"From {BACKEND}, a student is exported to {FORMATS[name].NAME} "
            f"by {' or '.join(able)}, in a process of its own. Received: an "
            f"environment without it. Install it: `pip install {able[0]}`."
        )
    return sorted(there, key=lambda backend: backend != BACKEND)


def check_packages(name):
    """Raises a `ValueError` if a package that a format needs is missing."""
    for package, install in FORMATS[name].PACKAGES.items():
        if not importlib.util.find_spec(package):
            raise ValueError(
                f"Export to {FORMATS[name].NAME} needs {package}. Received: "
                f"an environment without it. Install it: `pip install "
                f"{install}`."
            )


def write_and_run(student, job, path):
    """Writes a student's file in this process, and runs the samples."""
    check_packages(job.format)
    kind = FORMATS[job.format]
    with _quiet():
        kind.write(student, job, path)
        passes = [_take(job, rows) for rows in job.parts()]
        with converter_errors(student, job):
            run = kind.reader(path, job)
            outputs = [run(arrays) for arrays in passes]
        operations, in_float = kind.operations(path, job)
        milliseconds = 1000 * median_seconds(lambda: run(passes[0]))
    return Written(
        _joined(outputs),
        operations,
        in_float,
        milliseconds,
        kind.RUNTIME,
        BACKEND,
        kind.versions(),
    )


@contextlib.contextmanager
def _quiet():
    """Silences converters' warnings, as running the file shows any fault."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _take(job, rows):
    return {name: array[rows] for name, array in job.arrays.items()}


def _joined(outputs):
    names = outputs[0]
    return {n: np.concatenate([each[n] for each in outputs]) for n in names}
