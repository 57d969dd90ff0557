"""Finds the blocks that a model repeats."""

import collections
from typing import NamedTuple

import keras

from keras_kd._src.students.shrinking.graph import Segment
from keras_kd._src.students.shrinking.graph import is_same
from keras_kd._src.students.shrinking.graph import signature


class Block(NamedTuple):
    """One block of a run; fixed is one that changes the shape."""

    segment: Segment
    is_fixed: bool = False


def find_runs(graph):
    """The blocks that a graph repeats: lists of two `Block`s or more.

    Blocks of a run have the same layers, connected in the same way, and give
    what they take in shape; so any of them can be left out. A block is one
    layer or many: what lies between two tensors that everything passes. The
    block before them, of the same kinds of layers, that changes the shape
    (as at the begin of a stage of a ResNet), is the first of its run.
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
    """Runs of a block that changes the shape and one more."""
    runs = []
    starts = sorted(range(len(chain)), key=lambda start: -chain.rank(start))
    for period in range(1, len(chain)):
        for start in starts:
            if _is_second(chain, start, period):
                whole = period + _activations(chain, start, period)
                runs.append(_run(chain, start, whole, 1))
    return runs


def _activations(chain, start, period):
    """How many segments after a block are as those that it begins with."""
    before = 0
    while before < start and not chain.layers(start - before - 1, 1):
        before += 1
    end = start + period
    same = (
        chain.forms[start - before : start] == chain.forms[end : end + before]
    )
    return before if same and chain.is_free(end, before) else 0


def _best(chain, start):
    """`(start, period, count)` of the run that covers most from here on."""
    best = None
    for period in range(1, (len(chain) - start) // 2 + 1):
        count = chain.repeats(start, period)
        covers = best[1] * best[2] if best else 0
        is_best = count > 1 and period * count > covers
        if is_best and chain.layers(start, period):
            best = start, period, count
    return best and _turned(chain, *best)


def _turned(chain, start, period, count):
    """The same run, begun where its blocks begin best."""
    turns = [
        turn
        for turn in range(start, start + period)
        if chain.repeats(turn, period) >= count
    ]
    return max(turns, key=chain.rank), period, count


def _run(chain, start, period, count):
    blocks = [
        Block(chain.joined(start + n * period, period)) for n in range(count)
    ]
    chain.take(start, count * period)
    changer = _changer(chain, start, period)
    earlier = _block_before(chain.graph, blocks[0].segment)
    if changer:
        chain.take(start - changer, changer)
        first = chain.joined(start - changer, changer)
        blocks = [Block(first, is_fixed=True), *blocks]
    elif earlier and chain.taken.isdisjoint(map(id, earlier.calls)):
        chain.taken.update(map(id, earlier.calls))
        blocks = [Block(earlier), *blocks]
    return blocks


def _is_second(chain, start, period):
    if not chain.is_free(start, period) or not chain.layers(start, period):
        return False
    block = chain.joined(start, period)
    return is_same(block) and _changer(chain, start, period) > 0


def _changer(chain, start, period):
    """How many segments before are a block of the kind that changes shape."""
    wanted = collections.Counter(chain.layers(start, period))
    found = collections.Counter()
    for length in range(1, start + 1):
        if not chain.is_free(start - length, length):
            return 0
        if not found and chain.only_reshapes(start - length):
            return 0  # Such as the pooling behind a stem.
        found += collections.Counter(chain.layers(start - length, 1))
        # A shortcut's layers come to those of the block, but not much more.
        if found.keys() - wanted.keys() or found.total() > 2 * wanted.total():
            return 0
        if not wanted - found:
            block = chain.joined(start - length, length)
            more = found.total() > wanted.total()
            return length if more or not is_same(block) else 0
    return 0


class _Chain:
    """The segments between the tensors of a chain of a graph."""

    def __init__(self, graph, tensors, taken, forms):
        # `taken` are ids of calls that belong to blocks already, `forms`
        # numbers the forms; both fill.
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


def _block_before(graph, block):
    """The block of the same form that ends where a block begins, or None."""
    # A long skip around all blocks begins where the first of them does, so not
    # everything from there passes the end of the first. It is found from its
    # end: both blocks are walked against the flow, call by call.
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
    """Which blocks of a run a share keeps: one at least, the first one."""
    kept = max(1, int(blocks * depth + 0.5))
    return [index * blocks // kept for index in range(kept)]


def described(runs):
    """How an error names the runs: by the last layers of their blocks."""
    return str(
        [
            [block.segment.calls[-1].operation.name for block in run]
            for run in runs
        ]
    )
