"""Max pooling in the form that ONNX runtimes support."""


def fix_max_pooling(model):
    """Rewrites max pooling to run over spatial axes only, in place.

    jax2onnx writes it over all axes, after adding two axes in front. That is
    valid ONNX, but no runtime supports it.
    """
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    read = {name: node for node in graph.node for name in node.input}
    for node in [n for n in graph.node if n.op_type == "MaxPool"]:
        after, around = read.get(node.output[0]), []
        source = node.input[0]
        while source in made and made[source].op_type == "Unsqueeze":
            around.append(made[source])
            source = made[source].input[0]
        if (
            len(around) == 2
            and after is not None
            and after.op_type == "Squeeze"
        ):
            pooled = _pooled(source, node, after.output[0])
            _replace(graph, [*around, node, after], pooled)


def _pooled(source, node, output):
    """Nodes that pool a tensor with its channels moved to the second axis."""
    from onnx import helper

    kernel = _integers(node, "kernel_shape", None)
    rank = len(kernel)
    strides = _integers(node, "strides", [1] * rank)
    pads = _integers(node, "pads", [0] * 2 * rank)
    dilations = _integers(node, "dilations", [1] * rank)
    channel = [n for n in range(1, rank) if kernel[n] == strides[n] == 1][-1]
    spatial = [axis for axis in range(1, rank) if axis != channel]
    order = [0, channel, *spatial]
    first, last = (f"{node.output[0]}_{end}" for end in ("first", "last"))
    return [
        helper.make_node("Transpose", [source], [first], perm=order),
        helper.make_node(
            "MaxPool",
            [first],
            [last],
            name=node.name,
            kernel_shape=[kernel[axis] for axis in spatial],
            strides=[strides[axis] for axis in spatial],
            dilations=[dilations[axis] for axis in spatial],
            pads=[pads[end + axis] for end in (0, rank) for axis in spatial],
        ),
        helper.make_node(
            "Transpose",
            [last],
            [output],
            perm=[order.index(axis) for axis in range(rank)],
        ),
    ]


def _integers(node, name, default):
    found = [each.ints for each in node.attribute if each.name == name]
    return list(found[0]) if found else default


def _replace(graph, old, new):
    names = {node.output[0] for node in old}
    nodes = list(graph.node)
    last = [node.output[0] for node in nodes].index(old[-1].output[0])
    nodes[last : last + 1] = new
    kept = [n for n in nodes if n in new or n.output[0] not in names]
    del graph.node[:]
    graph.node.extend(kept)
