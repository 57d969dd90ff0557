"""Finds the repeated blocks of a model."""

import collections
from typing import NamedTuple

import keras

from keras_kd._src.students.shrinking.graph import Segment
from keras_kd._src.students.shrinking.graph import keeps_shape
from keras_kd._src.students.shrinking.graph import signature


class Block(NamedTuple):
    """One block of a run; `is_fixed` if it changes the shape."""

    segment: Segment
    is_fixed: bool = False


def find_runs(graph):
    """The runs of repeated blocks in a graph: lists of two or more `Block`s.

    Blocks of a run have the same layers, connected in the same way, and their
    outputs have the shape of their inputs, so any of them can be left out. A
    block is one or more layers: all that lies between two tensors that every
    path passes through. A block before them with the same kinds of layers that
    changes the shape (as at the beginning of a stage of a ResNet) is the first
    of its run.
    """
    runs, taken, forms = [], set(), {}
    for tensors in graph.chains():
        if id(graph.maker.get(id(tensors[0]))) in taken:
            continue
        chain = _Chain(graph, tensors, taken, forms)
        runs += _runs_of(chain)
    order = {id(call): n for n, call in enumerate(graph.calls)}
    return sorted(runs, key=lambda run: order[id(run[0].segment.calls[-1])])


def _runs_of(chain):
    runs, start = [], 0
    while start < len(chain):
        found = _best(chain, start)
        if found is None:
            start += 1
            continue
        start, period, count = found
        runs.append(_run(chain, start, period, count))
        start += period * count
    return runs + _pairs_of(chain)


def _pairs_of(chain):
    """Runs of just two blocks, the first of which changes the shape."""
    runs = []
    starts = sorted(range(len(chain)), key=lambda start: -chain.rank(start))
    for period in range(1, len(chain)):
        for start in starts:
            if _is_second(chain, start, period):
                whole = period + _activations(chain, start, period)
                runs.append(_run(chain, start, whole, 1))
    return runs


def _activations(chain, start, period):
    """How many segments without weights after a block belong to it.

    The same ones, such as an activation, are in front of the block.
    """
    before = 0
    while before < start and not chain.layers(start - before - 1, 1):
        before += 1
    end = start + period
    same = (
        chain.forms[start - before : start] == chain.forms[end : end + before]
    )
    return before if same and chain.is_free(end, before) else 0


def _best(chain, start):
    """`(start, period, count)` of the longest run from here on."""
    best = None
    for period in range(1, (len(chain) - start) // 2 + 1):
        count = chain.repeats(start, period)
        covers = best[1] * best[2] if best else 0
        is_best = count > 1 and period * count > covers
        if is_best and chain.layers(start, period):
            best = start, period, count
    return best and _shifted(chain, *best)


def _shifted(chain, start, period, count):
    """The same run, shifted to the best start of its blocks."""
    starts = [
        shifted
        for shifted in range(start, start + period)
        if chain.repeats(shifted, period) >= count
    ]
    return max(starts, key=chain.rank), period, count


def _run(chain, start, period, count):
    blocks = [
        Block(chain.joined(start + n * period, period)) for n in range(count)
    ]
    chain.take(start, count * period)
    length = _changing_length(chain, start, period)
    earlier = _block_before(chain.graph, blocks[0].segment)
    if length:
        chain.take(start - length, length)
        first = chain.joined(start - length, length)
        blocks = [Block(first, is_fixed=True), *blocks]
    elif earlier and chain.taken.isdisjoint(map(id, earlier.calls)):
        chain.taken.update(map(id, earlier.calls))
        blocks = [Block(earlier), *blocks]
    return blocks


def _is_second(chain, start, period):
    if not chain.is_free(start, period) or not chain.layers(start, period):
        return False
    block = chain.joined(start, period)
    return keeps_shape(block) and _changing_length(chain, start, period) > 0


def _changing_length(chain, start, period):
    """The length of the shape-changing block of this kind before a block.

    In segments; 0 if there is none.
    """
    wanted = collections.Counter(chain.layers(start, period))
    found = collections.Counter()
    for length in range(1, start + 1):
        if not chain.is_free(start - length, length):
            return 0
        if not found and chain.only_reshapes(start - length):
            return 0  # Such as the pooling after a stem.
        found += collections.Counter(chain.layers(start - length, 1))
        # A shortcut adds some layers to those of the block, but not many.
        if found.keys() - wanted.keys() or found.total() > 2 * wanted.total():
            return 0
        if not wanted - found:
            block = chain.joined(start - length, length)
            more = found.total() > wanted.total()
            return length if more or not keeps_shape(block) else 0
    return 0


class _Chain:
    """The segments between the tensors of a chain of a graph."""

    def __init__(self, graph, tensors, taken, forms):
        # `taken` are ids of calls that belong to blocks already, `forms` maps
        # signatures to numbers; both are filled here.
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
        """How often the segments from a start on repeat, one after another."""
        pattern, count = self.forms[start : start + period], 0
        while (
            self.is_free(start, period)
            and self.forms[start : start + period] == pattern
        ):
            start, count = start + period, count + 1
        return count

    def layers(self, start, length):
        """The class names of the layers that have weights."""
        return [
            type(layer).__name__
            for segment in self.segments[start : start + length]
            for layer in _layers(segment)
            if layer.weights
        ]

    def only_reshapes(self, start):
        """Whether a segment changes the shape without weights."""
        segment = self.segments[start]
        return not keeps_shape(segment) and not self.layers(start, 1)

    def rank(self, start):
        """How good a block's start is: at a branch 2, a kernel 1, others 0."""
        segment = self.segments[start]
        if len(self.graph.users[id(segment.entry)]) > 1:
            return 2
        weights = [w for layer in _layers(segment) for w in layer.weights]
        return int(any(len(weight.shape) > 1 for weight in weights))


def _layers(segment):
    operations = [call.operation for call in segment.calls]
    return [o for o in operations if isinstance(o, keras.layers.Layer)]


def _block_before(graph, block):
    """The block of the same form that ends where a block begins, or None."""
    # A long skip around all blocks starts where the first block does, so that
    # not every path from there passes through the first block's end. That
    # block is found from its end: both blocks are walked backwards in parallel,
    # call by call.
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
    return _checked_before(graph, block, Segment(entry, block.entry, calls))


def _checked_before(graph, block, found):
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


def evenly_spaced(blocks, depth):
    """The indices of the blocks to keep for a share: at least the first."""
    kept = max(1, int(blocks * depth + 0.5))
    return [index * blocks // kept for index in range(kept)]


def described(runs):
    """The runs as text for errors: the last layers of their blocks."""
    return str(
        [
            [block.segment.calls[-1].operation.name for block in run]
            for run in runs
        ]
    )
