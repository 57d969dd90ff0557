"""ONNX (.onnx), written by the converter of each backend."""

import collections
import contextlib

import keras
import numpy as np

from keras_kd._src.backend import BACKEND
from keras_kd._src.distillation.taps import replaced
from keras_kd._src.export import onnx_int8
from keras_kd._src.export import torch_program
from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import package_versions
from keras_kd._src.export.onnx_folding import drop_unused
from keras_kd._src.export.onnx_pooling import fix_max_pooling
from keras_kd._src.export.signature import specs_of
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.samples import flat
from keras_kd._src.samples import packed

NAME = "ONNX"
SUFFIX = ".onnx"
BACKENDS = ("tensorflow", "jax", "torch")
CONVERTERS = {
    "tensorflow": "tf2onnx",
    "jax": "jax2onnx",
    "torch": "onnxscript",
}
PACKAGES = {
    "onnx": "onnx onnxruntime onnxscript",
    "onnxruntime": "onnx onnxruntime onnxscript",
    CONVERTERS.get(BACKEND): CONVERTERS.get(BACKEND),
}
RUNTIME = "onnxruntime"
DYNAMIC = True
QUANTIZED = ("int8", "dynamic_int8")


def write(student, job, path):
    """Writes the student as an `.onnx` file."""
    plain = path.with_name(f"float_{path.name}") if job.quantize else path
    with converter_errors(student, job):
        WRITE[BACKEND](student, job, plain)
        _rename(plain, job)
        if job.quantize:
            onnx_int8.quantize(plain, path, job)
            plain.unlink()


def _write_by_keras(student, job, path):
    student.export(
        path,
        format="onnx",
        input_signature=[specs_of(job)],
        verbose=False,
    )


def _write_from_jax(student, job, path):
    import onnx

    _write_by_keras(student, job, path)
    model = onnx.load(path)
    fix_max_pooling(model)
    onnx.save(model, path)


def _write_from_tensorflow(student, job, path):
    _add_erfc()
    with contextlib.ExitStack() as stack:
        # Tensors that are a layer's attributes, such as the mean of
        # `Normalization`, would become inputs of the file.
        for layer in all_layers(student):
            for name, value in list(vars(layer).items()):
                if keras.ops.is_tensor(value):
                    array = keras.ops.convert_to_numpy(value)
                    stack.enter_context(replaced(layer, name, array))
        _write_by_keras(student, job, path)


def _add_erfc():
    """Adds an operation of Keras' exact GELU to tf2onnx."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **options):
            one = ctx.make_const(f"{node.name}_one", np.float32(1.0))
            shape, dtype = (
                [getter(node.output[0])]
                for getter in (ctx.get_shape, ctx.get_dtype)
            )
            ctx.remove_node(node.name)
            erf = ctx.make_node("Erf", node.input, shapes=shape, dtypes=dtype)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                shapes=shape,
                dtypes=dtype,
            )


def _write_from_torch(student, job, path):
    """Calls PyTorch's exporter directly.

    For a batch of any size Keras uses the older exporter, which fixes sizes
    while tracing, and fails for some models with several outputs.
    """
    import torch

    class Flat(torch.nn.Module):
        """Inputs and outputs one by one, in the order of `flat`."""

        def __init__(self):
            super().__init__()
            self.student = student

        def forward(self, *inputs):
            return tuple(flat(self.student(packed(job.samples, inputs))))

    program = torch.export.export(
        Flat(),
        tuple(flat(torch_program.example(job))),
        dynamic_shapes=torch_program.dynamic_shapes(job, one_by_one=True),
        strict=False,
    )
    program = program.run_decompositions(_aliases())
    torch.onnx.export(program, dynamo=True, verbose=False).save(path)


def _aliases():
    """Aliases of operations, by names for which the exporter casts integers.

    With other names, `2 * x` multiplies an integer and a float, which ONNX
    doesn't allow.
    """
    import torch

    names = dict(
        multiply="mul",
        divide="div",
        subtract="sub",
        greater="gt",
        greater_equal="ge",
        less="lt",
        less_equal="le",
        not_equal="ne",
    )
    aten = torch.ops.aten
    return {getattr(aten, a).Tensor: getattr(aten, b) for a, b in names.items()}


WRITE = {
    "tensorflow": _write_from_tensorflow,
    "jax": _write_from_jax,
    "torch": _write_from_torch,
}


def _rename(path, job):
    """Renames inputs and outputs, which are in the order of `flat`."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    constants = {each.name for each in graph.initializer}
    taken = [each.name for each in graph.input if each.name not in constants]
    given = [each.name for each in graph.output]
    names = dict(zip(taken + given, job.input_names + job.output_names))
    # Inner tensors that have one of these names are renamed, too.
    inner = set(names.values()) - set(names)
    names |= {name: f"{name}_inner" for name in inner}
    _rename_in(graph, names)
    drop_unused(model)  # Else onnxruntime warns about each.
    onnx.save(model, path)


def _rename_in(graph, names):
    for each in [
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ]:
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _rename_in(inner, names)


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_outputs()]
    return lambda arrays: dict(zip(names, session.run(names, arrays)))


def operations(path, job):
    """Counts of operations, and those that an int8 file leaves in float."""
    import onnx

    model = onnx.load(path)
    counts = collections.Counter(node.op_type for node in model.graph.node)
    in_float = onnx_int8.in_float(model) if job.quantize == "int8" else []
    return dict(counts), in_float


def versions():
    """Versions of the packages that wrote and ran the file."""
    return package_versions(BACKEND, CONVERTERS[BACKEND], "onnx", "onnxruntime")
