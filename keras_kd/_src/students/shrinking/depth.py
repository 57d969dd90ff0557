"""Leaves out blocks of a model, also inside models in it."""

from keras_kd._src.students.shrinking.blocks import find_runs
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.graph import nested_tap
from keras_kd._src.students.shrinking.graph import tap_of


class Depth:
    """A model's runs of blocks, and the graph without some of the blocks."""

    def __init__(self, model):
        self.graph = Graph(model)
        self.own_runs = find_runs(self.graph)
        in_blocks = {
            id(call)
            for run in self.own_runs
            for block in run
            for call in block.segment.calls
        }
        self.inner = {
            id(call.operation): Depth(call.operation)
            for call in self.graph.calls
            if is_model(call.operation) and id(call) not in in_blocks
        }

    @property
    def runs(self):
        """All runs: the model's own, then those of the models in it."""
        inner = [run for depth in self.inner.values() for run in depth.runs]
        return [*self.own_runs, *inner]

    def without(self, kept):
        """The graph with some blocks; `kept` are indices for each of `runs`."""
        left_out = {
            id(block.segment.exit): block.segment.entry
            for run, indices in zip(self.runs, kept)
            for index, block in enumerate(run)
            if index not in indices
        }
        return Graph(self.graph.model, left_out=left_out)

    def taps(self, kept, graph, student):
        """Pairs of taps of the model and a student, at the ends of its blocks.

        The student has the form of the graph, which is `without(kept)`.
        """
        kept, student = iter(kept), Graph(student)
        pairs = self._own_taps(kept, graph, student)
        made = {
            id(old.operation): new.operation
            for old, new in zip(graph.calls, student.calls)
        }
        for key, depth in self.inner.items():
            old, new = depth.graph.model, made[key]
            inside = depth.taps(kept, graph.inside(old), new)
            if self.graph.calls_of(old) == 1:
                pairs += [
                    (nested_tap(old.name, source), nested_tap(new.name, target))
                    for source, target in inside
                ]
        return pairs

    def _own_taps(self, kept, graph, student):
        tensors = {
            id(old): new
            for call, new_call in zip(graph.calls, student.calls)
            for old, new in zip(call.outputs, new_call.outputs)
        }
        pairs = []
        for run, indices in zip(self.own_runs, kept):
            ends = [index - 1 for index in indices[1:]] + [len(run) - 1]
            for index, end in zip(indices, ends):
                exit = tensors[id(run[index].segment.exit)]
                source = tap_of(self.graph, run[end].segment.exit)
                pairs.append((source, tap_of(student, exit)))
        return [pair for pair in pairs if None not in pair]
