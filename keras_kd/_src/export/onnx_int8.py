"""int8 for ONNX: the settings of onnxruntime's quantizers."""

import numpy as np

from keras_kd._src.export.onnx_folding import drop_unused
from keras_kd._src.export.onnx_folding import fold_into_convolutions
from keras_kd._src.export.onnx_folding import fuse_clips
from keras_kd._src.export.onnx_folding import move_activations_up
from keras_kd._src.export.onnx_ranges import take_clips_out
from keras_kd._src.quantization.fake_quant import UNBOUNDED

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def quantize(source, target, job):
    """Quantizes the weights of a float file, or all of its values."""
    from onnxruntime import quantization

    if job.quantize == "dynamic_int8":
        quantization.quantize_dynamic(
            source, target, weight_type=quantization.QuantType.QInt8
        )
        return
    ready = source.with_name(f"ready_{source.name}")
    overrides = _prepare(source, ready, job)
    quantization.quantize_static(
        ready,
        target,
        _Representative(job),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        extra_options={"TensorQuantOverrides": overrides},
        **_left_in_float(ready, job),
    )
    ready.unlink()


def _prepare(source, target, job):
    """Fuses operations, and infers shapes.

    Returns the ranges of tensors that are known beforehand.
    """
    import onnx
    from onnxruntime import quantization

    quantization.quant_pre_process(source, target, skip_symbolic_shape=True)
    model = onnx.load(target)
    fold_into_convolutions(model)
    fuse_clips(model)
    move_activations_up(model)
    overrides = take_clips_out(model, job.ranges)
    drop_unused(model)
    del model.graph.value_info[:]  # It still has tensors that were folded.
    onnx.save(onnx.shape_inference.infer_shapes(model), target)
    return overrides


def _left_in_float(path, job):
    """Arguments of `quantize_static` that exclude very large values.

    A mask adds such values to attention scores, for example. In a range that
    includes them, all other values would fall into one step of int8. If a value
    is infinite, the quantizer fails for its type of operation, so that all
    operations of the type are excluded.
    """
    import onnx
    from onnxruntime.quantization import registry

    model = onnx.load(path)
    largest = _largest_values(model, job)
    nodes = []
    types = {*registry.QDQRegistry, *registry.QLinearOpsRegistry}
    for node in model.graph.node:
        values = [largest.get(n, 0.0) for n in [*node.input, *node.output]]
        if not np.all(np.isfinite(values)):
            types.discard(node.op_type)
        if not np.all(np.less(values, UNBOUNDED)):
            nodes.append(node.name)
    return {"op_types_to_quantize": sorted(types), "nodes_to_exclude": nodes}


def _largest_values(model, job):
    """The largest magnitude in each tensor of floats; NaN if it has NaN."""
    import onnx
    import onnxruntime

    found = {
        each.name: _magnitude(onnx.numpy_helper.to_array(each))
        for each in model.graph.initializer
    }
    floats = [
        each
        for each in model.graph.value_info
        if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    model.graph.output.extend(floats)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in floats]
    for arrays in iter(_Representative(job).get_next, None):
        for name, values in zip(names, session.run(names, arrays)):
            largest = np.maximum(found.get(name, 0.0), _magnitude(values))
            found[name] = float(largest)
    return found


def _magnitude(values):
    if values.dtype.kind != "f":
        return 0.0
    return float(np.abs(values).max(initial=0.0))


class _Representative:
    """The samples of each pass, in the form of onnxruntime's calibration."""

    def __init__(self, job):
        self.arrays, self.parts = job.arrays, iter(job.parts())

    def get_next(self):
        rows = next(self.parts, None)
        if rows is None:
            return None
        return {name: array[rows] for name, array in self.arrays.items()}


def in_float(model):
    """Names of the operations on floats without any quantized input."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    floats, quantized = set(), set()
    for each in [*graph.input, *graph.output, *graph.value_info]:
        if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            floats.add(each.name)
    for node in graph.node:
        if node.op_type in QUANTIZERS:
            quantized.update(node.output)
    return sorted(
        {
            node.op_type
            for node in graph.node
            if node.op_type not in QUANTIZERS
            and floats & {*node.input, *node.output}
            and not quantized & {*node.input}
        }
    )
