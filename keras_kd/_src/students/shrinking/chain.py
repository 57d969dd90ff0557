"""A chain of segments, in which blocks that repeat are looked for."""

import keras

from keras_kd._src.students.shrinking.graph import Segment
from keras_kd._src.students.shrinking.graph import is_same
from keras_kd._src.students.shrinking.signature import signature


class Chain:
    """The segments between the tensors of a chain, and their forms.

    Args:
        graph: a `Graph`.
        tensors: one of its chains.
        taken: ids of calls that belong to blocks already; it fills.
        forms: dict that numbers forms; it fills.

    Example:
    >>> from keras_kd._src.students.shrinking.graph import Graph
    >>> layers = [keras.layers.Dense(4) for _ in range(3)]
    >>> graph = Graph(keras.Sequential([keras.Input((4,)), *layers]))
    >>> chain = Chain(graph, graph.chains()[0], set(), {})
    >>> len(chain), chain.repeats(0, period=1), chain.layers(0, 2)
    (3, 3, ['Dense', 'Dense'])
    """

    def __init__(self, graph, tensors, taken, forms):
        self.graph, self.tensors, self.taken = graph, tensors, taken
        self.segments = [
            graph.segment(*pair) for pair in zip(tensors, tensors[1:])
        ]
        self.forms = []
        for segment in self.segments:
            form = signature(graph, segment)
            self.forms.append(forms.setdefault(form, len(forms)))
        self.free = [
            taken.isdisjoint(map(id, segment.calls))
            and not graph.is_open(segment)
            for segment in self.segments
        ]

    def __len__(self):
        return len(self.segments)

    def is_free(self, start, length):
        part = self.free[start : start + length]
        return len(part) == length and all(part)

    def take(self, start, length):
        self.free[start : start + length] = [False] * length
        self.taken.update(map(id, self.joined(start, length).calls))

    def joined(self, start, length):
        entry, end = self.tensors[start], self.tensors[start + length]
        parts = self.segments[start : start + length]
        return Segment(entry, end, [c for part in parts for c in part.calls])

    def repeats(self, start, period):
        """How often the segments from a start on come one after another."""
        pattern, count = self.forms[start : start + period], 0
        while (
            self.is_free(start, period)
            and self.forms[start : start + period] == pattern
        ):
            start, count = start + period, count + 1
        return count

    def layers(self, start, length):
        """The names of the classes of layers that have weights."""
        return [
            type(layer).__name__
            for segment in self.segments[start : start + length]
            for layer in _layers(segment)
            if layer.weights
        ]

    def only_reshapes(self, start):
        """Whether a segment changes the shape without weights."""
        return not is_same(self.segments[start]) and not self.layers(start, 1)

    def rank(self, start):
        """How well a block begins here: a branch 2, a kernel 1, others 0."""
        segment = self.segments[start]
        if len(self.graph.users[id(segment.entry)]) > 1:
            return 2
        weights = [w for layer in _layers(segment) for w in layer.weights]
        return int(any(len(weight.shape) > 1 for weight in weights))


def _layers(segment):
    operations = [call.operation for call in segment.calls]
    return [o for o in operations if isinstance(o, keras.layers.Layer)]
