"""Which blocks of a model are left out, also inside of models in it."""

from functools import partial

from keras_kd._src.students.shrinking.blocks import find_runs
from keras_kd._src.students.shrinking.copying import as_sequential
from keras_kd._src.students.shrinking.copying import copied
from keras_kd._src.students.shrinking.copying import remade
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.same_class import around_the_same
from keras_kd._src.students.shrinking.same_class import hand_over
from keras_kd._src.students.shrinking.same_class import of_the_same_class
from keras_kd._src.students.shrinking.taps import tap_of
from keras_kd._src.students.shrinking.taps import within


class Plan:
    """A model's runs of blocks, and which of each run a student keeps.

    Args:
        model: a Functional or a built Sequential model.

    Example:
    >>> import keras
    >>> layers = [keras.layers.Dense(4, name=name) for name in "abcd"]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> plan = Plan(model)
    >>> plan.keep([[0, 2]])
    >>> student, pairs = plan.student("student")
    >>> [layer.name for layer in student.layers], pairs
    (['a', 'c'], [['b', 'a'], ['d', 'c']])
    """

    def __init__(self, model):
        self.model, self.graph = model, Graph(model)
        self.own_runs = find_runs(self.graph)
        self.kept = [list(range(len(run))) for run in self.own_runs]
        in_blocks = {
            id(call)
            for run in self.own_runs
            for block in run
            for call in block.segment.calls
        }
        self.inner = {
            id(call.operation): Plan(call.operation)
            for call in self.graph.calls
            if is_model(call.operation) and id(call) not in in_blocks
        }

    @property
    def runs(self):
        """All runs: the model's own, then those of the models in it."""
        inner = [run for plan in self.inner.values() for run in plan.runs]
        return [*self.own_runs, *inner]

    def keep(self, kept):
        """Sets which blocks are kept, a list of indices for each run."""
        self.kept = kept[: len(self.own_runs)]
        kept = kept[len(self.own_runs) :]
        for plan in self.inner.values():
            plan.keep(kept[: len(plan.runs)])
            kept = kept[len(plan.runs) :]

    def student(self, name, *, learnt=True):
        """The student, and where its blocks and the teacher's end.

        Args:
            name: the student's name.
            learnt: whether it takes the teacher's weights.

        Returns:
            `(model, pairs)`; `pairs` are taps of the teacher and the student.
        """
        inner = {
            key: plan.student(plan.model.name, learnt=learnt)
            for key, plan in self.inner.items()
        }
        graph = Graph(self.model, self._left_out())
        model, done = self._of_the_same_class(graph, name), ()
        if model is None:
            model, done = copied(graph, partial(_made, inner), name), inner
        hand_over(graph, model, learnt=learnt, done=done)
        model = around_the_same(self.model, model) or model
        pairs = self._pairs(graph, Graph(model))
        for key, (_, below) in inner.items():
            layer = self.inner[key].model
            if self.graph.calls_of(layer) == 1:
                pairs += [[within(layer.name, t) for t in p] for p in below]
        return as_sequential(model, self.model), pairs

    def _of_the_same_class(self, graph, name):
        if not all(plan.is_whole for plan in self.inner.values()):
            return None
        counts = list(zip(map(len, self.own_runs), map(len, self.kept)))
        return of_the_same_class(graph, counts, name)

    @property
    def is_whole(self):
        """Whether nothing is left out."""
        kept = sum(map(len, self.kept)) == sum(map(len, self.own_runs))
        return kept and all(plan.is_whole for plan in self.inner.values())

    def _left_out(self):
        return {
            id(block.segment.exit): block.segment.entry
            for run, kept in zip(self.own_runs, self.kept)
            for index, block in enumerate(run)
            if index not in kept
        }

    def _pairs(self, graph, student):
        places = {
            id(mine): its
            for old, new in zip(graph.calls, student.calls)
            for mine, its in zip(old.outputs, new.outputs)
        }
        pairs = []
        for run, kept in zip(self.own_runs, self.kept):
            ends = [index - 1 for index in kept[1:]] + [len(run) - 1]
            for index, end in zip(kept, ends):
                mine = places[id(run[index].segment.exit)]
                taps = [
                    tap_of(self.graph, run[end].segment.exit),
                    tap_of(student, mine),
                ]
                pairs += [] if None in taps else [taps]
        return pairs


def _made(inner, operation, _):
    if id(operation) in inner:
        return inner[id(operation)][0]
    return remade(operation)
