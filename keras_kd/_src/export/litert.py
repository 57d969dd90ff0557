"""LiteRT (.tflite), written by TensorFlow's converter."""

import collections
import re

import numpy as np

from keras_kd._src.export import litert_int8
from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import package_versions
from keras_kd._src.export.signature import specs_of

NAME = "LiteRT"
SUFFIX = ".tflite"
# Keras exports from PyTorch as well, by litert-torch, which can't be installed
# with current versions of TensorFlow's and JAX's dependencies.
BACKENDS = ("tensorflow",)
PACKAGES = {"ai_edge_litert": "ai-edge-litert"}
RUNTIME = "ai-edge-litert"
DYNAMIC = False
QUANTIZED = ("int8", "dynamic_int8")
FLOAT = 0  # The schema's `TensorType.FLOAT32`.


def write(student, job, path):
    """Writes the student as a `.tflite` file of built-in operations."""
    if job.quantize == "int8":
        _check_no_loops(student, job, path)
    _convert(student, job, path, litert_int8.converter_options(job))


def _check_no_loops(student, job, path):
    """Raises a `ValueError` for loops, at which the converter crashes."""
    plain = path.with_name(f"float_{path.name}")
    _convert(student, job, plain, {})
    if any(name == "WHILE" for name, types in _operators(plain)):
        raise ValueError(
            "LiteRT's converter can't quantize loops to int8. Received: the "
            f"student {student.name!r}, which has some. Build its recurrent "
            "layers with `unroll=True` (and copy the weights by "
            "`set_weights`), or use quantize='dynamic_int8'."
        )
    plain.unlink()


def _convert(student, job, path, options):
    import tensorflow as tf

    operations = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    try:
        with converter_errors(student, job):
            student.export(
                path,
                format="litert",
                input_signature=[specs_of(job)],
                verbose=False,
                target_spec=operations,
                **options,
            )
    except ValueError as error:
        missing = _missing_operations(str(error))
        if not missing:
            raise
        raise ValueError(
            f"The student {student.name!r} needs operations that are not "
            "built into LiteRT, and that phones lack without the Flex "
            f"delegate. Received: a student that computes "
            f"{', '.join(missing)}. Use other layers or operations instead."
        ) from error


def _missing_operations(text):
    """Names of the operations in the converter's error message, or empty."""
    if "Flex" not in text and "neither a custom op" not in text:
        return []
    return sorted(set(re.findall(r"\btf\.([A-Z]\w+)", text)))


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=job.threads)
    runner = interpreter.get_signature_runner("serving_default")
    takes, gives = runner.get_input_details(), runner.get_output_details()

    def run(arrays):
        inputs = {
            name: _quantized(array, takes[name])
            for name, array in arrays.items()
        }
        outputs = runner(**inputs)
        return {n: _real(value, gives[n]) for n, value in outputs.items()}

    return run


def _quantized(array, detail):
    scale, zero = detail["quantization"]
    if not scale or detail["dtype"] is np.float32:
        return array
    limits = np.iinfo(detail["dtype"])
    steps = np.round(array / scale) + zero
    return np.clip(steps, limits.min, limits.max).astype(detail["dtype"])


def _real(values, detail):
    scale, zero = detail["quantization"]
    if not scale or detail["dtype"] is np.float32:
        return values
    return ((values.astype("int32") - zero) * scale).astype("float32")


def operations(path, job):
    """Counts of operations, and those that an int8 file leaves in float."""
    counts, in_float = collections.Counter(), set()
    for name, types in _operators(path):
        counts[name] += 1
        if FLOAT in types and name not in ("QUANTIZE", "DEQUANTIZE"):
            in_float.add(name)
    return dict(counts), sorted(in_float) if job.quantize == "int8" else []


def _operators(path):
    """Pairs of an operation's name and the types of its tensors."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for at in range(graph.OperatorsLength()):
            used = graph.Operators(at)
            code = model.OperatorCodes(used.OpcodeIndex())
            code = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            tensors = [*used.InputsAsNumpy(), *used.OutputsAsNumpy()]
            types = {graph.Tensors(t).Type() for t in tensors if t >= 0}
            yield names[code], types


def versions():
    """Versions of the packages that wrote and ran the file."""
    return package_versions("tensorflow", "ai-edge-litert")
