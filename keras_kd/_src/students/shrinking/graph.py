"""A model as a graph of calls: which part lies between two of its tensors."""

from typing import Any
from typing import NamedTuple

import keras

from keras_kd._src.keras_compat import producer


class Segment(NamedTuple):
    """What a model does between two of its tensors.

    Attributes:
        entry: the tensor that it begins with.
        exit: the tensor that it ends in.
        calls: what is called for it alone, in order.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> graph = Graph(model)
    >>> len(graph.segment(graph.inputs[0], graph.outputs[0]).calls)
    1
    """

    entry: Any
    exit: Any
    calls: Any


class Graph:
    """The calls of layers that a model's outputs depend on, in order.

    A call is a Keras `Node`: `operation`, `arguments`, `input_tensors`,
    `outputs`.

    Args:
        model: a Functional or a built Sequential model.
        left_out: parts that are left out, dict, id of the tensor at a part's
            end -> the tensor that takes its place.

    Example:
    >>> layers = [keras.layers.Dense(4, name=name) for name in "ab"]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> graph = Graph(model)
    >>> [call.operation.name for call in graph.calls]
    ['a', 'b']
    >>> first, second = (call.outputs[0] for call in graph.calls)
    >>> graph = Graph(model, left_out={id(second): first})
    >>> [call.operation.name for call in graph.calls]
    ['a']
    """

    def __init__(self, model, left_out=None):
        self.model, self.left_out = model, left_out or {}
        self.inputs = list(model.inputs)
        self.outputs = [self.found(tensor) for tensor in model.outputs]
        self.calls = self._calls()
        self.maker, self.users = {}, {}
        for call in self.calls:
            for tensor in call.outputs:
                self.maker[id(tensor)] = call
            for tensor in {id(t): t for t in call.input_tensors}.values():
                self.users.setdefault(id(tensor), []).append(call)

    def found(self, tensor):
        """The tensor itself, or what takes its place."""
        while id(tensor) in self.left_out:
            tensor = self.left_out[id(tensor)]
        return tensor

    def arguments(self, call, replace):
        """A call's `(args, kwargs)`, with each tensor replaced."""
        return call.arguments.convert(
            lambda value: (
                replace(self.found(value))
                if isinstance(value, keras.KerasTensor)
                else value
            )
        )

    def _calls(self):
        """What the outputs come from, each after those that it needs."""
        done = {id(tensor) for tensor in self.inputs}
        calls, pending = [], [(tensor, False) for tensor in self.outputs[::-1]]
        while pending:
            tensor, is_ready = pending.pop()
            if id(tensor) in done and not is_ready:
                continue
            _, call = producer(tensor)
            if is_ready:
                calls.append(call)
                continue
            done |= {id(output) for output in call.outputs}
            pending.append((tensor, True))
            for needed in reversed(call.input_tensors):
                pending.append((self.found(needed), False))
        return calls

    def first_call(self, operation):
        """The first call of an operation."""
        return next(c for c in self.calls if c.operation is operation)

    def calls_of(self, operation):
        """How often the model calls an operation."""
        return sum(call.operation is operation for call in self.calls)

    def chains(self):
        """Lists of tensors; whatever depends on one of a list passes the next.

        So the model does one thing between the two. The chains from the inputs
        come first; many end alike.
        """
        tensors = [*self.inputs]
        for call in self.calls:
            tensors += call.outputs
        gates = self._gates(tensors)
        within = {id(gate) for gate in gates.values()}
        chains = [
            [t] for t in tensors if id(t) in gates and id(t) not in within
        ]
        for chain in chains:
            while id(chain[-1]) in gates:
                chain.append(gates[id(chain[-1])])
        return chains

    def _gates(self, tensors):
        # Immediate post-dominators; a set of tensors is an integer's bits.
        place = {id(tensor): n for n, tensor in enumerate(tensors)}
        ends = {id(tensor) for tensor in self.outputs}
        passed, gates = {}, {}
        for tensor in reversed(tensors):
            after = [
                passed[id(output)]
                for call in self.users.get(id(tensor), [])
                for output in call.outputs
                if id(output) in passed
            ]
            if not after and id(tensor) in ends:
                after = [0]
            if not after:
                continue
            common = after[0]
            for other in after[1:]:
                common &= other
            if common:
                first = (common & -common).bit_length() - 1
                gates[id(tensor)] = tensors[first]
            passed[id(tensor)] = common | 1 << place[id(tensor)]
        return gates

    def segment(self, entry, end):
        """The part of the graph between a tensor and one further on its chain.

        Besides what depends on `entry`, it has what is made for that alone,
        such as a block's own projection of a condition.
        """
        reached, inside = {id(entry)}, set()
        for call in self.calls:
            if any(id(tensor) in reached for tensor in call.input_tensors):
                inside.add(id(call))
                reached |= {id(t) for t in call.outputs if t is not end}
        ends = {id(tensor) for tensor in self.outputs}
        for call in reversed(self.calls):
            users = [
                id(user)
                for tensor in call.outputs
                for user in self.users.get(id(tensor), [])
            ]
            is_end = any(id(t) in ends or t is entry for t in call.outputs)
            if users and not is_end and inside.issuperset(users):
                inside.add(id(call))
        calls = [call for call in self.calls if id(call) in inside]
        return Segment(entry, end, calls)

    def is_open(self, segment):
        """Whether a segment has an input or output of the model to itself."""
        ends = {id(tensor) for tensor in self.outputs} - {id(segment.exit)}
        made = [tensor for call in segment.calls for tensor in call.outputs]
        inside = {id(call) for call in segment.calls}
        given = [t for t in self.inputs if t is not segment.entry]
        users = [self.users.get(id(tensor), []) for tensor in given]
        return any(id(tensor) in ends for tensor in made) or any(
            each and inside.issuperset(map(id, each)) for each in users
        )


def is_same(segment):
    """Whether a segment gives what it takes, in shape and type.

    Example:
    >>> entry, end = keras.KerasTensor((None, 2)), keras.KerasTensor((None, 3))
    >>> is_same(Segment(entry, end, []))
    False
    """
    first, last = segment.entry, segment.exit
    return first.shape == last.shape and first.dtype == last.dtype


def is_model(operation):
    """Whether an operation is a model with a graph of its own.

    Example:
    >>> is_model(keras.layers.Dense(2))
    False
    """
    graph = getattr(operation, "outputs", None)
    return isinstance(operation, keras.Model) and bool(graph)
