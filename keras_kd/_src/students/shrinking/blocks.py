"""Finds the blocks that a model repeats."""

import collections
from typing import NamedTuple

from keras_kd._src.students.shrinking.chain import Chain
from keras_kd._src.students.shrinking.first import block_before
from keras_kd._src.students.shrinking.graph import Segment
from keras_kd._src.students.shrinking.graph import is_same


class Block(NamedTuple):
    """One block of a run.

    Attributes:
        segment: the part of the graph that it is.
        is_fixed: whether it can't be left out, as it changes the shape.

    Example:
    >>> Block(Segment(None, None, []), is_fixed=True).is_fixed
    True
    """

    segment: Segment
    is_fixed: bool = False


def find_runs(graph):
    """The blocks that a graph repeats, one behind the other.

    Blocks of a run have the same layers, connected in the same way, and give
    what they take in shape; so any of them can be left out. A block is one
    layer or many: what lies between two tensors that everything passes. The
    block before them, of the same kinds of layers, that changes the shape
    (as at the begin of a stage of a ResNet), is the first of its run.

    Args:
        graph: a `Graph`.

    Returns:
        A list of runs, each a list of two `Block`s or more.

    Example:
    >>> import keras
    >>> from keras_kd._src.students.shrinking.graph import Graph
    >>> layers = [keras.layers.Dense(4) for _ in range(3)]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> [[block.is_fixed for block in run] for run in find_runs(Graph(model))]
    [[True, False, False]]
    """
    runs, taken, forms = [], set(), {}
    for tensors in graph.chains():
        if id(graph.maker.get(id(tensors[0]))) in taken:
            continue
        chain = Chain(graph, tensors, taken, forms)
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
    earlier = block_before(chain.graph, blocks[0].segment)
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


def spread(blocks, depth):
    """Which blocks of a run are kept: evenly spread, the first among them.

    Args:
        blocks: how many the run has.
        depth: the share to keep.

    Returns:
        List of indices, of one at least.

    Example:
    >>> spread(12, 0.5), spread(3, 0.5), spread(5, 0.1)
    ([0, 2, 4, 6, 8, 10], [0, 1], [0])
    """
    kept = max(1, int(blocks * depth + 0.5))
    return [index * blocks // kept for index in range(kept)]


def described(runs):
    """How an error names the runs: by the last layers of their blocks.

    Example:
    >>> import keras
    >>> from keras_kd._src.students.shrinking.graph import Graph
    >>> layers = [keras.layers.Dense(4, name=name) for name in "ab"]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> described(find_runs(Graph(model)))
    "[['a', 'b']]"
    """
    return str(
        [
            [block.segment.calls[-1].operation.name for block in run]
            for run in runs
        ]
    )
