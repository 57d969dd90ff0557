"""Leaves blocks of a model out, also inside of models in it."""

from functools import partial

from keras_kd._src.students.shrinking.blocks import find_runs
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.graph import nested_tap
from keras_kd._src.students.shrinking.graph import tap_of
from keras_kd._src.students.shrinking.rebuild import new_operation
from keras_kd._src.students.shrinking.rebuild import rebuild
from keras_kd._src.students.shrinking.rebuild import transfer_weights


class Depth:
    """A model's runs of blocks, and the models that have some of each."""

    def __init__(self, model):
        self.model, self.graph = model, Graph(model)
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

    def student(self, kept, name, *, copy_weights=True):
        """The student, and pairs of taps, of where its blocks end.

        `kept` are lists of the indices of blocks, one for each of `runs`. A
        pair is a tap of this model and one of the student.
        """
        kept = list(kept)
        own, kept = kept[: len(self.own_runs)], kept[len(self.own_runs) :]
        inner, nested = {}, []
        for key, depth in self.inner.items():
            layer, count = depth.model, len(depth.runs)
            inner[key], pairs = depth.student(
                kept[:count], layer.name, copy_weights=copy_weights
            )
            kept = kept[count:]
            if self.graph.calls_of(layer) == 1:
                nested += [
                    [nested_tap(layer.name, t) for t in p] for p in pairs
                ]
        graph = Graph(self.model, left_out=self._left_out(own))
        student = rebuild(graph, partial(_made, inner), name)
        transfer_weights(graph, student, copy_weights=copy_weights, done=inner)
        return student, self._pairs(own, graph, Graph(student)) + nested

    def _left_out(self, kept):
        return {
            id(block.segment.exit): block.segment.entry
            for run, indices in zip(self.own_runs, kept)
            for index, block in enumerate(run)
            if index not in indices
        }

    def _pairs(self, kept, graph, student):
        places = {
            id(mine): its
            for old, new in zip(graph.calls, student.calls)
            for mine, its in zip(old.outputs, new.outputs)
        }
        pairs = []
        for run, indices in zip(self.own_runs, kept):
            ends = [index - 1 for index in indices[1:]] + [len(run) - 1]
            for index, end in zip(indices, ends):
                mine = places[id(run[index].segment.exit)]
                taps = [
                    tap_of(self.graph, run[end].segment.exit),
                    tap_of(student, mine),
                ]
                pairs += [] if None in taps else [taps]
        return pairs


def _made(inner, operation, _):
    if id(operation) in inner:
        return inner[id(operation)]
    return new_operation(operation)
