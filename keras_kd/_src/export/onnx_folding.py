"""Fuses operations that int8 would otherwise round one by one.

Some exporters write batch normalization and bounded activations as plain
arithmetic.
"""

import collections

import numpy as np

# Their outputs are values of their first input.
MOVES = "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "MaxPool"
# The scale and the shift that each applies, by its constant.
ARITHMETIC = {
    "Add": lambda constant: (np.ones_like(constant), constant),
    "Sub": lambda constant: (np.ones_like(constant), -constant),
    "Mul": lambda constant: (constant, 0.0),
    "Div": lambda constant: (1.0 / constant, 0.0),
}


def fold_into_convolutions(model):
    """Folds arithmetic into the convolutions before it, in place."""
    from onnx import numpy_helper

    graph = model.graph
    given = {each.name: each for each in graph.initializer}
    values = {n: numpy_helper.to_array(each) for n, each in given.items()}
    pair = next(_pairs(graph, values), None)
    while pair is not None:
        _fold(graph, values, *pair)
        pair = next(_pairs(graph, values), None)
    for name in values.keys() - given.keys():
        graph.initializer.append(numpy_helper.from_array(values[name], name))


def fuse_clips(model):
    """Replaces a minimum and a maximum with constants by a clip, in place."""
    graph = model.graph
    numbers = _numbers(graph)
    made = {name: node for node in graph.node for name in node.output}
    read = collections.Counter(n for node in graph.node for n in node.input)
    for node in list(graph.node):
        inner = made.get(node.input[0]) if _is(node, "Min", "Max") else None
        pair = {each.op_type: each for each in (node, inner) if each}
        if (
            pair.keys() == {"Min", "Max"}
            and read[inner.output[0]] == 1
            and {node.input[1], inner.input[1]} <= numbers.keys()
        ):
            low, high = pair["Max"].input[1], pair["Min"].input[1]
            node.op_type = "Clip"
            node.input[:] = [inner.input[0], numbers[low], numbers[high]]
            graph.node.remove(inner)


def drop_unused(model):
    """Removes constants that nothing reads, in place."""
    used = _used(model.graph)
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _numbers(graph):
    """Constants of one entry: `name -> name of it as a scalar`."""
    from onnx import numpy_helper

    scalars = {}
    for each in list(graph.initializer):
        value = numpy_helper.to_array(each)
        if value.size != 1:
            continue
        name = f"{each.name}_scalar" if value.ndim else each.name
        scalars[each.name] = name
        if value.ndim:
            scalar = numpy_helper.from_array(value.reshape(()), name)
            graph.initializer.append(scalar)
    return scalars


def move_activations_up(model):
    """Moves activations before operations that only move values, in place.

    Otherwise onnxruntime's quantizer fuses the activation into the convolution
    before them, but with the range before the activation.
    """
    graph = model.graph
    outputs = {each.name for each in graph.output}
    read = collections.Counter(n for node in graph.node for n in node.input)
    moved = True
    while moved:
        moved = False
        made = {
            n: at for at, node in enumerate(graph.node) for n in node.output
        }
        for at, node in enumerate(graph.node):
            before = (
                made.get(node.input[0]) if _is(node, "Relu", "Clip") else None
            )
            if before is None or not _is(graph.node[before], *MOVES):
                continue
            name = node.input[0]
            if read[name] == 1 and name not in outputs:
                _swap(graph.node, before, at)
                moved = True
                break


def _swap(nodes, first, second):
    """Swaps two successive nodes."""
    before, after = (type(nodes[0])() for _ in range(2))
    before.CopyFrom(nodes[second])
    after.CopyFrom(nodes[first])
    given, between, made = after.input[0], before.input[0], before.output[0]
    before.input[0], before.output[0] = given, between
    after.input[0], after.output[0] = between, made
    nodes[first].CopyFrom(before)
    nodes[second].CopyFrom(after)


def _used(graph):
    """Names of all tensors that a graph and its subgraphs read."""
    names = {each.name for each in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                names |= _used(inner)
    return names


def _pairs(graph, values):
    """Yields a convolution, the node of its result, and arithmetic after it.

    Some exporters put a `Transpose` between, to move channels last.
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
    """The constant for each channel that a node applies, else None."""
    first, second = node.input
    # In a division or subtraction, the constant must come second.
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
