"""The cost of a model: size, operations, and latency on this machine."""

import functools
import os
import pathlib
import platform
import tempfile

import keras
import numpy as np

from keras_kd._src.backend import BACKEND
from keras_kd._src.compare.flops import count_flops
from keras_kd._src.latency import median_seconds
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import inputs_for


def cost_of(model, inputs):
    """Measures the cost of a model.

    Args:
        model: a built Keras model; other teachers are not measured.
        inputs: a batch of its inputs, NumPy arrays.

    Returns:
        Dict: `"parameters"`; `"memory_bytes"` of the weights, and
        `"disk_bytes"` of a file with them; `"flops"` of one sample, and
        `"not_counted"`, types of layers; median seconds of `predict_on_batch`,
        `"latency"` for one sample and `"batch_latency"` for a batch of size
        `"batch"`. Empty if the model is not measured.
    """
    if not isinstance(model, keras.Model):
        return {}
    inputs = inputs_for("model", model, inputs)
    flops, not_counted = count_flops(model, data_spec(inputs))
    batch = len(keras.tree.flatten(inputs)[0])
    one = keras.tree.map_structure(lambda array: array[:1], inputs)
    return {
        "parameters": model.count_params(),
        "memory_bytes": sum(array.nbytes for array in model.get_weights()),
        "disk_bytes": _disk_bytes(model),
        "flops": flops,
        "not_counted": not_counted,
        "latency": _latency(model, one),
        "batch_latency": _latency(model, inputs),
        "batch": batch,
    }


def _latency(model, inputs):
    run = functools.partial(model.predict_on_batch, inputs)
    return median_seconds(run, seconds=0.1, least=5)


def _disk_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "weights.npz")
        np.savez(path, *model.get_weights())
        return path.stat().st_size


def machine():
    """What it is measured on: processor, threads and versions."""
    return {
        "backend": BACKEND,
        "keras": keras.__version__,
        "processor": _processor(),
        "threads": _threads(),
    }


def _threads():
    """How many threads a pass may use."""
    if BACKEND == "torch":
        import torch

        return torch.get_num_threads()
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
