"""OpenVINO (.xml with its .bin), converted from the student's ONNX file.

Keras exports to it directly, too, but from JAX not with current versions, from
PyTorch not with a dict of outputs, from TensorFlow not with recurrent layers.
"""

import collections

from keras_kd._src.export import onnx
from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import package_versions

NAME = "OpenVINO"
SUFFIX = ".xml"
BACKENDS = onnx.BACKENDS
PACKAGES = {"openvino": "openvino", **onnx.PACKAGES}
RUNTIME = "openvino"
DYNAMIC = True
QUANTIZED = ("int8",)
ENDS = {"Const", "FakeQuantize", "Input", "Output", "Reorder"}


def write(student, job, path):
    """Writes the student as an `.xml` file and a `.bin` file."""
    import openvino

    source = path.with_suffix(onnx.SUFFIX)
    onnx.write(student, job, source)
    with converter_errors(student, job):
        model = openvino.convert_model(source)
        openvino.save_model(model, path, compress_to_fp16=False)
    source.unlink()


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    model = _compiled(path, job.threads)

    def run(arrays):
        outputs = model(arrays)
        return {name: outputs[name] for name in job.output_names}

    return run


def _compiled(path, threads):
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        # Else a CPU that has bfloat16 uses it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return openvino.Core().compile_model(path, "CPU", settings)


def operations(path, job):
    """Counts of operations, and those of an int8 file that run in float."""
    import openvino

    model = openvino.Core().read_model(path)
    counts = collections.Counter(op.get_type_name() for op in model.get_ops())
    return dict(counts), _in_float(path) if job.quantize else []


def _in_float(path):
    """Layers that this CPU runs in float, as OpenVINO decides on loading."""
    names = set()
    for each in _compiled(path, 1).get_runtime_model().get_ops():
        about = each.get_rt_info()
        kind = about["layerType"].astype(str)
        if about["runtimePrecision"].astype(str) == "f32":
            names.add(kind)
    return sorted(names - ENDS)


def versions():
    """Versions of the packages that wrote and ran the file."""
    return onnx.versions() | package_versions("openvino")
