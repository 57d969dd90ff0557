"""The signature of a file: names, sizes and types of inputs and outputs."""

import re

import keras

from keras_kd._src.samples import flat
from keras_kd._src.samples import packed
from keras_kd._src.specs import graph_inputs

# Names that Keras makes up, which differ from process to process.
UNNAMED = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")


def input_names(student, samples):
    """Names of the inputs in a file: keys, names of `keras.Input`s, numbers."""
    taken = graph_inputs(student)
    given = [each.name for each in flat(taken)] if taken is not None else []
    given = [None if UNNAMED.fullmatch(name) else name for name in given]
    return _names(samples, "input", given)


def output_names(outputs):
    """Names of the outputs in a file: the keys of a dict, or numbers."""
    return _names(outputs, "output", [])


def _names(structure, word, given):
    leaves = flat(structure)
    numbered = [f"{word}_{i}" for i in range(len(leaves))]
    if isinstance(structure, dict) and len(structure) == len(leaves):
        names = sorted(structure)
    else:
        names = [a or b for a, b in zip(given or numbered, numbered)]
    names = [re.sub(r"\W", "_", str(name)) for name in names]
    return names if len(set(names)) == len(names) else numbered


def specs_of(job):
    """The student's argument as a structure of `keras.InputSpec`s."""
    specs = [
        keras.InputSpec(
            shape=(job.batch_size, *array.shape[1:]),
            dtype=str(array.dtype),
            name=name,
        )
        for name, array in job.arrays.items()
    ]
    return packed(job.samples, specs)
