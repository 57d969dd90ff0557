"""Random numbers that depend only on seed, sample and augmented view."""

import numpy as np

# The constants of Philox-4x64-10.
MULTIPLIERS = np.array([[[0xD2E7470EE14C6C93]], [[0xCA5A826395121157]]], "u8")
KEY_STEPS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B], "u8")
ROUNDS = 10
WORDS = 4  # 64-bit numbers that one value of the counter gives
HALF, LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


class RandomStreams(np.random.bit_generator.ISeedSequence):
    """A stream of random numbers for each augmented view of each sample."""

    # NumPy's Philox is a counter-based generator: its numbers are a function of
    # its key and counter, without any earlier state (Salmon et al., 2011,
    # "Parallel Random Numbers: As Easy as 1, 2, 3", Supercomputing).
    #
    #     key = (seed, 0)
    #     counter = (0, 0, view, sample)
    #
    # Philox counts up from the first word, so one view's stream would reach
    # the next one's only after 2**128 steps. Neighboring streams are
    # independent: Philox is a cipher with fewer rounds, made for counters that
    # differ in one bit.

    def __init__(self, seed):
        self.key = np.array([seed, 0], "u8")

    def generate_state(self, n_words, dtype=np.uint32):
        # Philox takes this as its key, unchanged. `Philox(key=...)` gives the
        # same but takes five times as long, as it makes a seed that it doesn't
        # use.
        return self.key

    def generator(self, sample, view):
        """A new `numpy.random.Generator` at the start of a view's stream."""
        bits = np.random.Philox(self, counter=[0, 0, view, sample])
        return np.random.Generator(bits)

    def uniforms(self, sample_index, view, draws):
        """Uniform numbers `(batch, draws)`, one row for each view.

        Row i equals those of `generator(sample_index[i], view[i])`, bit by bit.
        """
        blocks = -(-draws // WORDS)
        counter = np.zeros((WORDS, len(sample_index), blocks), "u8")
        counter[0] = np.arange(1, blocks + 1)  # NumPy counts before it draws.
        counter[2] = np.asarray(view)[:, None]
        counter[3] = np.asarray(sample_index)[:, None]
        words = _philox(counter, self.key)
        words = np.moveaxis(words, 0, -1).reshape(len(sample_index), -1)
        return (words[:, :draws] >> np.uint64(11)) * 2.0**-53


def _philox(counter, key):
    """Words `(4, ...)` that Philox-4x64-10 makes from counters `(4, ...)`."""
    even, odd = counter[0::2], counter[1::2]
    for _ in range(ROUNDS):
        high, low = _product(even, MULTIPLIERS)
        even = high[::-1] ^ odd ^ key[:, None, None]
        odd = low[::-1]
        key = key + KEY_STEPS
    return np.stack([even[0], odd[0], even[1], odd[1]])


def _product(a, b):
    """The high and low 64 bits of a product of 128 bits."""
    a_high, a_low, b_high, b_low = a >> HALF, a & LOW, b >> HALF, b & LOW
    first = a_high * b_low + (a_low * b_low >> HALF)
    second = a_low * b_high + (first & LOW)
    return a_high * b_high + (first >> HALF) + (second >> HALF), a * b
