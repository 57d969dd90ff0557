"""OpenVINO (.xml with its .bin), made of the student's ONNX file.

Keras exports to it as well, but from JAX with no current version of JAX, from
PyTorch with no dict of outputs, and from TensorFlow with no recurrent layer.
"""

import collections

from keras_kd._src.export import onnx
from keras_kd._src.export.explained import explained
from keras_kd._src.export.job import package_versions

NAME = "OpenVINO"
SUFFIX = ".xml"
BACKENDS = onnx.BACKENDS
PACKAGES = {"openvino": "keras-kd[openvino]", **onnx.PACKAGES}
RUNTIME = "openvino"
DYNAMIC = True
QUANTIZED = ("int8",)


def write(student, job, path):
    """Writes the student as an `.xml` file and a `.bin` file."""
    import openvino

    source = path.with_suffix(onnx.SUFFIX)
    onnx.write(student, job, source)
    with explained(student, job):
        model = openvino.convert_model(source)
        openvino.save_model(model, path, compress_to_fp16=False)
    source.unlink()


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": job.threads,
        # Else a CPU with bfloat16 computes in it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Core().compile_model(path, "CPU", settings)

    def run(arrays):
        outputs = model(arrays)
        return {name: outputs[name] for name in job.output_names}

    return run


def operations(path, job):
    """Counts of operations, and those of an int8 file left in float."""
    import openvino

    model = openvino.Core().read_model(path)
    operations = model.get_ordered_ops()
    counts = collections.Counter(each.get_type_name() for each in operations)
    return dict(counts), _in_float(operations) if job.quantize else []


def _in_float(operations):
    """Names of the operations on floats that no 8-bit value reaches."""
    constant, names = set(), set()
    for each in operations:
        kind = each.get_type_name()
        read = [x.get_source_output().get_node() for x in each.inputs()]
        if kind == "Constant" or (
            read and {node.get_name() for node in read} <= constant
        ):
            constant.add(each.get_name())  # Weights, on their way.
        elif kind not in ("Parameter", "Result", "FakeQuantize"):
            quantized = "FakeQuantize" in {x.get_type_name() for x in read}
            if each.get_output_element_type(0).is_real() and not quantized:
                names.add(kind)
    return sorted(names)


def versions():
    """What wrote and ran the file."""
    return onnx.versions() | package_versions("openvino")
