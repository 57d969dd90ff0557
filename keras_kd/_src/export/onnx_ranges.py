"""The trained ranges of a quantization-aware model, in an ONNX file.

Such a model is written with each value clipped to its range. Here the clips are
removed, and their ends become the ranges of the tensors before them.
"""

import numpy as np

from keras_kd._src.export.onnx_folding import MOVES


def take_clips_out(model, ranges):
    """Removes clips in place, and returns their ranges for onnxruntime.

    Args:
        model: an ONNX model in which bounded activations are `Clip` operations.
        ranges: pairs of a minimum and a maximum.

    Returns:
        Dict, name of a tensor -> overrides, for `TensorQuantOverrides`.
    """
    from onnx import numpy_helper

    graph, ranges = model.graph, set(ranges)
    numbers = {
        each.name: float(numpy_helper.to_array(each))
        for each in graph.initializer
        if not each.dims
    }
    found = {}
    for node in [n for n in graph.node if n.op_type == "Clip"]:
        ends = tuple(numbers.get(name) for name in node.input[1:])
        if ends in ranges:
            found[_without(graph, node)] = ends
    for node in graph.node:
        if node.op_type in MOVES and node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    return {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
        for name, (low, high) in found.items()
    }


def _without(graph, clip):
    """Removes a clip from a graph; returns the name of the tensor before."""
    before, after = clip.input[0], clip.output[0]
    graph.node.remove(clip)
    if any(each.name == after for each in graph.output):
        # An output keeps its name.
        before, after = after, before
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [before if name == after else name for name in names]
    return before
