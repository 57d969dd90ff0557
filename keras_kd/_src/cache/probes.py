"""Probes: checksums of some inputs, by which other data is noticed."""

import zlib

import keras
import numpy as np

from keras_kd._src.cache.to_numpy import to_numpy

MOST = 16  # Of a batch, and of a shard.
BYTES = 2**20  # Of a batch, looked at in a millisecond.
AT_ONCE = 256  # Of arrays, which may lie on a disk.


def checksum_of_input(inputs, place):
    """A checksum of one sample of a batch of inputs.

    Example:
    >>> same = np.ones((2, 4), "float32")
    >>> checksum_of_input(same, 0) == checksum_of_input(same, 1)
    True
    """
    checksum = 0
    for array in keras.tree.flatten(inputs):
        sample = np.ascontiguousarray(to_numpy(array[place]))
        about = f"{sample.shape}{sample.dtype.str}".encode()
        checksum = zlib.crc32(sample.tobytes(), zlib.crc32(about, checksum))
    return checksum


def probes_of(inputs, keys):
    """Keys and checksums of some samples of a batch, from first to last.

    Example:
    >>> x, keys = np.arange(3.0), np.array([4, 7, 9])
    >>> [key for key, checksum in probes_of(x, keys)]
    [4, 7, 9]
    """
    size = sum(array.nbytes for array in keras.tree.flatten(inputs))
    affordable = BYTES * len(keys) // max(1, size)
    steps = min(max(2, affordable), MOST) - 1
    last = len(keys) - 1
    places = {step * last // steps for step in range(steps + 1)}
    return [
        (int(keys[place]), checksum_of_input(inputs, place))
        for place in sorted(places)
    ]


def of_a_shard(probes):
    """As many of the probes of its batches as a shard keeps.

    Example:
    >>> len(of_a_shard([(key, 0) for key in range(1000)]))
    16
    """
    return probes[:: max(1, -(-len(probes) // MOST))]


class Probes:
    """The inputs that were looked at when some shards were written.

    Args:
        shards: list of dicts, with `probes`.

    Example:
    >>> x, keys = np.arange(8.0).reshape(2, 4), np.array([4, 7])
    >>> probes = Probes([{"probes": probes_of(x, keys)}])
    >>> probes.differing(x, keys), probes.differing(-x, keys)
    (None, 4)
    """

    def __init__(self, shards):
        probes = [p for shard in shards for p in shard.get("probes", [])]
        pairs = np.array(sorted(probes), "int64").reshape(-1, 2)
        self.keys, self.checksums = pairs.T

    def places(self, keys):
        """Where some keys are that have a probe, spread over all of them."""
        places = np.flatnonzero(np.isin(keys, self.keys))
        return places[:: max(1, -(-len(places) // AT_ONCE))]

    def differing(self, inputs, keys):
        """The first key whose input isn't the one of then; None if all are.

        Args:
            inputs: a batch of arrays.
            keys: int64 of shape `(batch,)`.
        """
        if not len(self.keys):
            return None
        probe = np.searchsorted(self.keys, keys)
        probe = np.minimum(probe, len(self.keys) - 1)
        for place in np.flatnonzero(self.keys[probe] == keys):
            expected = self.checksums[probe[place]]
            if checksum_of_input(inputs, place) != expected:
                return int(keys[place])
        return None
