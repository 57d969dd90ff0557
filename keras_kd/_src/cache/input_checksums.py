"""Checksums of some inputs, to notice when the data has changed."""

import zlib

import keras
import numpy as np

from keras_kd._src.cache.to_numpy import to_numpy

MOST = 16  # Samples of a batch, and of a shard.
BYTES = 2**20  # Of a batch: they are read in a millisecond.
AT_ONCE = 256  # Samples of arrays, which may be on a disk.


def input_checksum(inputs, place):
    """The checksum of one sample of a batch of inputs."""
    checksum = 0
    for array in keras.tree.flatten(inputs):
        sample = array[place]
        if isinstance(sample, str):  # TensorFlow has texts as bytes.
            sample = sample.encode()
        sample = np.ascontiguousarray(to_numpy(sample))
        about = f"{sample.shape}{sample.dtype.str}".encode()
        checksum = zlib.crc32(sample.tobytes(), zlib.crc32(about, checksum))
    return checksum


def checksums_of_batch(inputs, keys):
    """`(key, checksum)` of some samples of a batch, evenly spread."""
    size = sum(array.nbytes for array in keras.tree.flatten(inputs))
    affordable = BYTES * len(keys) // max(1, size)
    steps = min(max(2, affordable), MOST) - 1
    last = len(keys) - 1
    places = {step * last // steps for step in range(steps + 1)}
    return [
        (int(keys[place]), input_checksum(inputs, place))
        for place in sorted(places)
    ]


def checksums_of_shard(checksums):
    """The checksums that a shard keeps, out of those of its batches."""
    return checksums[:: max(1, -(-len(checksums) // MOST))]


class InputChecksums:
    """The checksums that were kept when some shards were written."""

    def __init__(self, shards):
        pairs = [pair for shard in shards for pair in shard["input_checksums"]]
        pairs = np.array(sorted(pairs), "int64").reshape(-1, 2)
        self.keys, self.checksums = pairs.T

    def places(self, keys):
        """Positions of some keys that have a checksum, evenly spread."""
        places = np.flatnonzero(np.isin(keys, self.keys))
        return places[:: max(1, -(-len(places) // AT_ONCE))]

    def differing(self, inputs, keys):
        """The first key whose input has changed since writing, or None."""
        if not len(self.keys):
            return None
        found = np.searchsorted(self.keys, keys)
        found = np.minimum(found, len(self.keys) - 1)
        for place in np.flatnonzero(self.keys[found] == keys):
            expected = self.checksums[found[place]]
            if input_checksum(inputs, place) != expected:
                return int(keys[place])
        return None
