"""Makes one operation of several that 8 bits would round one by one.

Some exporters write batch normalization and bounded activations as plain
arithmetic.
"""

import collections

import numpy as np

# What each makes of a constant: a scale and a shift.
ARITHMETIC = {
    "Add": lambda constant: (np.ones_like(constant), constant),
    "Sub": lambda constant: (np.ones_like(constant), -constant),
    "Mul": lambda constant: (constant, 0.0),
    "Div": lambda constant: (1.0 / constant, 0.0),
}


def fold_into_convolutions(model):
    """Changes the model: fewer operations, the same values."""
    from onnx import numpy_helper

    graph = model.graph
    given = {each.name: each for each in graph.initializer}
    values = {n: numpy_helper.to_array(each) for n, each in given.items()}
    pair = next(_pairs(graph, values), None)
    while pair is not None:
        _fold(graph, values, *pair)
        pair = next(_pairs(graph, values), None)
    used = _used(graph) & values.keys()
    made = [numpy_helper.from_array(values[n], n) for n in used - given.keys()]
    kept = [each for name, each in given.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept + made)


def fuse_clips(model):
    """Changes the model: a minimum of a maximum with numbers is a clip."""
    graph = model.graph
    numbers = {each.name for each in graph.initializer if not each.dims}
    made = {name: node for node in graph.node for name in node.output}
    read = collections.Counter(n for node in graph.node for n in node.input)
    for node in graph.node:
        inner = made.get(node.input[0]) if node.op_type == "Min" else None
        if (
            _is(inner, "Max")
            and read[inner.output[0]] == 1
            and {node.input[1], inner.input[1]} <= numbers
        ):
            node.op_type = "Clip"
            node.input[:] = [*inner.input, node.input[1]]
            inner.output[0] = f"{inner.output[0]}_unused"
    unused = [n for n in graph.node if n.output[0].endswith("_unused")]
    for node in unused:
        graph.node.remove(node)


def _used(graph):
    """Names of all that a graph's operations read, those inside included."""
    names = {each.name for each in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                names |= _used(inner)
    return names


def _pairs(graph, values):
    """Convolutions, what gives their result, and the arithmetic after it.

    Some exporters have a `Transpose` between, to channels that come last.
    """
    outputs = {each.name for each in graph.output}
    readers = {name: [None] for name in outputs}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        weights = node.input[1:]
        if node.op_type != "Conv" or not all(
            name in values for name in weights
        ):
            continue
        axis, last = 1, node
        following = readers.get(last.output[0], [])
        if len(following) == 1 and _is(following[0], "Transpose"):
            last = following[0]
            axis = list(last.attribute[0].ints).index(1)
            following = readers.get(last.output[0], [])
        if len(following) == 1 and _is(following[0], *ARITHMETIC):
            constant = _constant(node, last, axis, following[0], values)
            if constant is not None:
                yield node, last, following[0], constant


def _is(node, *kinds):
    return node is not None and node.op_type in kinds


def _constant(convolution, last, axis, node, values):
    """The constant of each channel that a node computes with, else None."""
    first, second = node.input
    # A constant that is divided, or subtracted from, is another matter.
    if second not in values and node.op_type in ("Add", "Mul"):
        first, second = second, first
    if first != last.output[0] or second not in values:
        return None
    weights, constant = values[convolution.input[1]], values[second]
    if constant.size == 1:
        return np.broadcast_to(constant.reshape(()), len(weights))
    shape = [1] * weights.ndim
    shape[axis] = len(weights)
    full = (1,) * (weights.ndim - constant.ndim) + constant.shape
    return constant.reshape(-1) if full == tuple(shape) else None


def _fold(graph, values, convolution, last, node, constant):
    weights = values[convolution.input[1]]
    bias = np.zeros(len(weights), weights.dtype)
    if len(convolution.input) > 2:
        bias = values[convolution.input[2]]
    scale, shift = ARITHMETIC[node.op_type](constant)
    column = np.reshape(scale, (-1, *[1] * (weights.ndim - 1)))
    names = [f"{node.output[0]}_{part}" for part in ("weights", "bias")]
    for name, value in zip(names, (weights * column, bias * scale + shift)):
        values[name] = value.astype(weights.dtype)
    convolution.input[1:] = names
    graph.node.remove(node)
    last.output[0] = node.output[0]
