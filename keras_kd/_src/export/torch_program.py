"""PyTorch's exported programs (.pt2), which ExecuTorch also takes."""

import collections

import keras
import numpy as np

from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import package_versions
from keras_kd._src.export.signature import specs_of
from keras_kd._src.samples import flat
from keras_kd._src.samples import packed

NAME = "PyTorch"
SUFFIX = ".pt2"
BACKENDS = ("torch",)
PACKAGES = {}
RUNTIME = "torch"
DYNAMIC = True
QUANTIZED = ()


def write(student, job, path):
    """Writes the student as a `.pt2` file."""
    with converter_errors(student, job):
        student.export(
            path,
            format="torch",
            input_signature=[specs_of(job)],
            verbose=False,
            dynamic_shapes=dynamic_shapes(job),
        )


def dynamic_shapes(job, one_by_one=False):
    """The open sizes, as `torch.export` takes them for `forward(*args)`."""
    if job.batch_size is not None:
        return None
    import torch

    batch = torch.export.Dim("batch", min=1)
    shapes = [{0: batch} for _ in job.arrays]
    return [tuple(shapes) if one_by_one else (packed(job.samples, shapes),)]


def example(job):
    """Inputs to trace with; two samples if the batch size is open."""
    rows = np.arange(job.batch_size or 2) % job.count
    return keras.tree.map_structure(
        lambda array: keras.ops.convert_to_tensor(array[rows]), job.samples
    )


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    import torch

    program = torch.export.load(path).module()

    def run(arrays):
        inputs = [keras.ops.convert_to_tensor(each) for each in arrays.values()]
        before = torch.get_num_threads()
        torch.set_num_threads(job.threads)
        try:
            with torch.no_grad():
                outputs = flat(program(packed(job.samples, inputs)))
        finally:
            torch.set_num_threads(before)
        arrays = map(keras.ops.convert_to_numpy, outputs)
        return dict(zip(job.output_names, arrays))

    return run


def operations(path, job):
    """Counts of operations; none is quantized."""
    import torch

    nodes = torch.export.load(path).graph.nodes
    called = [node for node in nodes if node.op == "call_function"]
    return dict(collections.Counter(str(n.target) for n in called)), []


def versions():
    """Versions of the packages that wrote and ran the file."""
    return package_versions("torch")
