"""SampleMemory: samples that a generator made earlier."""

import keras
from keras import ops

from keras_kd._src.backend import of_all_replicas
from keras_kd._src.backend import part_of_replica


class SampleMemory(keras.layers.Layer):
    """A ring buffer of earlier samples, from which steps draw at random.

    Args:
        shape: the shape of one sample.
        size: how many samples it holds.
        replay: how many samples a step writes, and how many it draws.
        seed: a `keras.random.SeedGenerator`.
    """

    def __init__(self, shape, size, replay, seed):
        super().__init__(name="sample_memory")
        self.size, self.replay, self.seed = size, replay, seed
        settings = {
            "trainable": False,
            "initializer": "zeros",
            "aggregation": "only_first_replica",
        }
        self.samples = self.add_weight(
            shape=(size, *shape), name="samples", **settings
        )
        self.written = self.add_weight(
            shape=(), dtype="int32", name="written", **settings
        )
        self.built = True

    def exchange(self, samples):
        """Writes the first of these samples, and returns as many stored ones.

        With several replicas (TensorFlow), all write the same first samples of
        all, and each gets its part of those that are drawn.
        """
        (samples,) = of_all_replicas(samples)
        written = ops.convert_to_tensor(self.written)
        places = (written + ops.arange(self.replay, dtype="int32")) % self.size
        self.samples.assign(
            ops.scatter_update(
                ops.convert_to_tensor(self.samples),
                places[:, None],
                ops.cast(samples[: self.replay], self.samples.dtype),
            )
        )
        # Computed before the variable changes, as on PyTorch `written` shares
        # its memory.
        known = ops.minimum(written + self.replay, self.size)
        self.written.assign_add(self.replay)
        drawn = keras.random.uniform((self.replay,), seed=self.seed)
        drawn = ops.cast(drawn * ops.cast(known, "float32"), "int32")
        return ops.take(
            ops.convert_to_tensor(self.samples),
            part_of_replica(ops.minimum(drawn, known - 1)),
            axis=0,
        )
