"""Which tensors of a model must stay of one width."""

import keras

from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.widths import makes_width


class Ties:
    """Groups of a graph's tensors whose channels correspond.

    What a layer with a width of its own makes is free of what it is given;
    anything else ties the two.

    Args:
        graph: a `Graph`.

    Example:
    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(8)(inputs)
    >>> outputs = keras.layers.ReLU()(keras.layers.Dense(8)(hidden) + hidden)
    >>> graph = Graph(keras.Model(inputs, outputs))
    >>> ties = Ties(graph)
    >>> ties.group(hidden) == ties.group(outputs), ties.group(inputs)
    (True, 0)
    """

    def __init__(self, graph):
        self.graph, self.groups = graph, {}
        for tensor in graph.inputs:
            self.group(tensor)
        first = {}
        for call in graph.calls:
            for tensors in _tied(call):
                for tensor in tensors:
                    self._join(tensors[0], tensor)
            # One layer has one width, wherever it is called.
            before = first.setdefault(id(call.operation), call)
            for one, other in zip(before.outputs, call.outputs):
                self._join(one, other)

    def group(self, tensor):
        """The number of a tensor's group."""
        return self.groups.setdefault(id(tensor), len(self.groups))

    def _join(self, one, other):
        kept, gone = self.group(one), self.group(other)
        if kept != gone:
            self.groups = {
                key: kept if value == gone else value
                for key, value in self.groups.items()
            }

    def bound(self, tensors):
        """The groups of some tensors."""
        return {self.group(tensor) for tensor in tensors}


def _tied(call):
    """Lists of a call's tensors that are tied to each other."""
    operation, outputs = call.operation, list(call.outputs)
    if is_model(operation):
        return _tied_by_model(call)
    if makes_width(operation):
        return []
    if isinstance(operation, keras.layers.Layer):
        # Not masks and contexts, which come as further arguments.
        given = call.arguments.args[:1] or call.input_tensors[:1]
        given = keras.tree.flatten(given)
        tensors = [t for t in given if isinstance(t, keras.KerasTensor)]
    else:
        tensors = call.input_tensors
    return [[*tensors, *outputs]]


def _tied_by_model(call):
    graph = Graph(call.operation)
    ties, groups = Ties(graph), {}
    pairs = zip(
        [*graph.inputs, *graph.outputs], [*call.input_tensors, *call.outputs]
    )
    for inner, outer in pairs:
        groups.setdefault(ties.group(inner), []).append(outer)
    return list(groups.values())
