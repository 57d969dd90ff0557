"""The first block of a run, where something else begins at its input, too."""

from keras_kd._src.students.shrinking.graph import Segment
from keras_kd._src.students.shrinking.signature import signature


def block_before(graph, block):
    """The block of the same form that ends where a block begins, or None.

    A long skip around all blocks begins where the first of them does, so not
    everything from there passes the end of the first. It is found from its
    end: both blocks are walked against the flow, call by call.

    Args:
        graph: a `Graph`.
        block: a `Segment`.

    Returns:
        A `Segment`, or None.

    Example:
    >>> import keras
    >>> from keras_kd._src.students.shrinking.graph import Graph
    >>> first = inputs = keras.Input((4,))
    >>> outputs = [inputs]
    >>> for _ in range(3):
    ...     outputs.append(outputs[-1] + keras.layers.Dense(4)(outputs[-1]))
    >>> graph = Graph(keras.Model(inputs, outputs[-1] + inputs))
    >>> second = graph.segment(*outputs[1:3])
    >>> block_before(graph, second).entry is outputs[0]
    True
    """
    pairs, entry = {id(block.exit): block.entry}, None
    calls, inside = [], {id(call) for call in block.calls}
    for call in reversed(block.calls):
        made = [t for t in call.outputs if id(t) in pairs]
        other = made and graph.maker.get(id(pairs[id(made[0])]))
        if not other or len(other.input_tensors) != len(call.input_tensors):
            return None
        calls.insert(0, other)
        for tensor, same in zip(call.input_tensors, other.input_tensors):
            if pairs.setdefault(id(tensor), same) is not same:
                return None
            maker = graph.maker.get(id(tensor))
            if tensor is block.entry:
                entry = same
            elif id(maker) not in inside and same is not tensor:
                return None
    return _checked(graph, block, Segment(entry, block.entry, calls))


def _checked(graph, block, found):
    if found.entry is None:
        return None
    inside = {id(call) for call in found.calls}
    leaks = [
        user
        for call in found.calls
        for tensor in call.outputs
        if tensor is not found.exit
        for user in graph.users.get(id(tensor), [])
        if id(user) not in inside
    ]
    same = signature(graph, block) == signature(graph, found)
    inner = graph.is_open(found)
    return found if same and not leaks and not inner else None
