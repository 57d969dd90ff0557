"""Reads a few batches of any data that `fit` takes, without changing it."""

import contextlib
import random
import sys

import keras
import numpy as np

from keras_kd._src.arguments import received
from keras_kd._src.backend import tensorflow_copy
from keras_kd._src.cache.data.batches import rows_at
from keras_kd._src.cache.data.batches import texts_as_array
from keras_kd._src.cache.to_numpy import to_numpy


def few_batches(x, y, sample_weight, batch_size, batches, preprocessing):
    """A list of batches `(x, y, sample_weight)` of NumPy arrays.

    From arrays they are random rows, always the same ones; from other data
    they are the first batches.

    Args:
        x: as in `fit`: arrays, or batches in any form.
        y: labels, if `x` is arrays.
        sample_weight: weights, if `x` is arrays.
        batch_size: batch size for arrays; 32 if None.
        batches: the largest number of batches.
        preprocessing: a `Preprocessing`.
    """
    if _gives_batches(x):
        _check_alone(x, y, sample_weight, batch_size)
        if preprocessing.needed:
            x = preprocessing.data(x)
        found = _first(x, batches)
    else:
        found = _of_arrays((x, y, sample_weight), batch_size or 32, batches)
        if preprocessing.needed:
            found = [preprocessing.batch(*batch) for batch in found]
    if not found:
        raise ValueError(
            "A diagnosis needs at least one batch. Received: data without "
            "samples. Give data with samples."
        )
    unpacked = map(keras.utils.unpack_x_y_sample_weight, found)
    found = [keras.tree.map_structure(_array, batch) for batch in unpacked]
    _check_weights([weight for *_, weight in found])
    return found


def _check_weights(weights):
    given = [each for each in keras.tree.flatten(weights) if each is not None]
    if given and not any(each.any() for each in given):
        raise ValueError(
            "No sample counts in these batches. Received: `sample_weight` of "
            "0 throughout. Give data with positive weights; for "
            "`keras_kd.text.GeneratedTexts` call `set_epoch(0)` first, which "
            "writes the texts."
        )


def _gives_batches(x):
    if hasattr(x, "__next__"):
        raise ValueError(
            "A generator gives each batch once, and `fit` would miss those "
            f"that are read here. Received: x of type {type(x).__name__}. "
            "Give some of its batches as arrays, or data that can be read "
            "again."
        )
    arrays = isinstance(x, (dict, list, tuple)) or hasattr(x, "shape")
    if (
        not arrays
        and not hasattr(x, "__getitem__")
        and not hasattr(x, "__iter__")
    ):
        raise ValueError(
            "Argument `x` must be what `fit` takes: arrays, a "
            "`tf.data.Dataset`, a `keras.utils.PyDataset` or a "
            f"`torch.utils.data.DataLoader`. {received('x', x)}"
        )
    return not arrays


def _check_alone(x, y, sample_weight, batch_size):
    given = dict(y=y, sample_weight=sample_weight, batch_size=batch_size)
    given = [name for name, value in given.items() if value is not None]
    if given:
        raise ValueError(
            "Data that comes in batches must contain its labels and weights. "
            f"Received: x of type {type(x).__name__}, and {given}. Leave "
            "them out."
        )


def _first(data, batches):
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        count = batches if count is None else min(count, batches)
        return [data[index] for index in range(count)]
    found = []
    for batch in tensorflow_copy(data):
        found.append(batch)
        if len(found) == batches:
            break
    return found


def _of_arrays(data, batch_size, batches):
    """Batches of random rows of the arrays."""
    data = tuple(map(_columns, data))
    columns = keras.tree.flatten(data)
    lengths = {len(each) for each in columns if each is not None}
    if len(lengths) != 1:
        raise ValueError(
            "All arrays must have one row per sample. Received: arrays of "
            f"{sorted(lengths)} rows. Give arrays of the same length."
        )
    count = lengths.pop()
    size = min(batch_size, count)
    wanted = min(batches * size, count) // size * size if size else 0
    # Random, not evenly spaced, as the order of the data may be periodic.
    rows = np.random.default_rng(0).choice(count, wanted, replace=False)
    return [rows_at(data, part) for part in rows.reshape(-1, max(size, 1))]


def _columns(data):
    if isinstance(data, dict):
        return {key: _columns(value) for key, value in data.items()}
    return texts_as_array(data)


def _array(value):
    """An array of the type that `fit` would convert it to."""
    if value is None:
        return None
    value = to_numpy(value)
    if value.dtype.kind == "f":
        return value.astype(keras.backend.floatx())
    return value


@contextlib.contextmanager
def unchanged_random_states(data=None):
    """A context that restores the states of all random generators.

    Args:
        data: the data that is read; the state of its own generator, if it has
            one, is restored, too.
    """
    states = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    generators = _torch_generators(data) if torch else []
    of_torch = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for generator, state in zip(generators, of_torch):
            generator.set_state(state)


def _torch_generators(data):
    import torch

    own = [getattr(data, "generator", None)]
    own.append(getattr(getattr(data, "sampler", None), "generator", None))
    found = [each for each in own if isinstance(each, torch.Generator)]
    if torch.cuda.is_available():
        found += list(torch.cuda.default_generators)
    return [torch.default_generator, *found]
