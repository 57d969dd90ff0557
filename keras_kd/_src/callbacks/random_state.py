"""The global random generators of a process."""

import random
import sys

import numpy as np

from keras_kd._src.callbacks import encoding
from keras_kd._src.keras_compat import global_seed_generator


def global_generators():
    """Dict, name -> global generator: Python's, NumPy's, Keras', PyTorch's."""
    found = {
        "python": random,
        "numpy": np.random,
        "keras": global_seed_generator(),
    }
    # A `DataLoader` draws from PyTorch's generator with any backend.
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.default_generator
        if torch.cuda.is_available():
            torch.cuda.init()
            for number, each in enumerate(torch.cuda.default_generators):
                found[f"cuda_{number}"] = each
    return found


def states_of(generators):
    """Dict, name -> state of a generator, encoded."""
    return {
        name: encoding.encode(encoding.generator_state(each))
        for name, each in generators.items()
    }


def set_states(generators, saved, array):
    """Restores the states of generators."""
    for name, generator in generators.items():
        if name in saved:
            state = encoding.decode(saved[name], array)
            encoding.set_state(generator, state)


def checked(generators):
    """Random generators by number; anything else raises a `ValueError`."""
    generators = list(generators)
    for each in generators:
        if not encoding.is_generator(each):
            raise ValueError(
                "Argument `generators` is a list of random generators: "
                "`random.Random`, `numpy.random.Generator`, `torch.Generator`, "
                "`tf.random.Generator` or `keras.random.SeedGenerator`. "
                f"Received: {each!r}."
            )
    return {str(number): each for number, each in enumerate(generators)}
