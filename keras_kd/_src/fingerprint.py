"""fingerprint: a hash that is the same only for the same teacher."""

import functools
import hashlib
import math

import keras
import numpy as np

from keras_kd._src.keras_compat import all_layers

CHUNK = 2**16  # The number of entries at a time, which fit into a CPU's cache.


def fingerprint(model):
    """SHA-256 over a model's weights: the same for the same teacher.

    It is stored with a cache of predictions, and in a training state in place
    of the weights of a teacher that never changes. It depends on the shapes,
    types and values of the weights, and on `fingerprint_bytes()` of layers that
    have this method, as their weights are not all that matters. It does not
    depend on names, which differ from one process to the next.

    Args:
        model: a built Keras model, or a `keras_kd.teachers.Teacher`, which
            defines its own.

    Returns:
        A uint8 array of shape `(32,)`.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> before = fingerprint(model)
    >>> _ = model.layers[0].bias.assign([1.0, 0.0])
    >>> bool((before == fingerprint(model)).all())
    False
    """
    if not isinstance(model, keras.layers.Layer):
        return model.fingerprint()
    texts = [
        layer.fingerprint_bytes()
        for layer in all_layers(model)
        if hasattr(layer, "fingerprint_bytes")
    ]
    return digest(texts, (weight.value for weight in model.weights))


def digest(texts, arrays):
    """SHA-256 over texts (bytes), and the shapes, types, values of arrays.

    Each array counts by two sums over its entries, each mixed with its
    position. So each device can sum its own part, in any order: an array that
    is sharded over devices or hosts is neither gathered nor copied, and has the
    same digest as one that is not.

    Args:
        texts: iterable of bytes.
        arrays: iterable of NumPy arrays, or tensors of the backend.

    Returns:
        A uint8 array of shape `(32,)`.
    """
    found = hashlib.sha256()
    for text in texts:
        found.update(text)
    for array in arrays:
        sums = _sums_on_devices if _is_elsewhere(array) else _sums_on_host
        if hasattr(array, "to_local"):
            sums = _sums_of_processes
        dtype = getattr(array.dtype, "name", str(array.dtype))
        dtype = dtype.removeprefix("torch.")
        found.update(f"{tuple(array.shape)} {dtype}".encode())
        found.update(sums(array).tobytes())
    return np.frombuffer(found.digest(), dtype="uint8")


def _is_elsewhere(array):
    """Whether JAX holds an array on an accelerator, or on several devices."""
    if not hasattr(array, "addressable_shards"):
        return False
    devices = array.sharding.device_set
    return len(devices) > 1 or next(iter(devices)).platform != "cpu"


def _sums_of_processes(array):
    """The sums of PyTorch's `DTensor`, of which each process has some rows."""
    import torch
    import torch.distributed as dist

    (placement,), mesh = array.placements, array.device_mesh
    local = array.to_local()
    if placement.is_replicate():
        return _sums_on_host(local)
    rows = -(-array.shape[0] // mesh.size()) * mesh.get_local_rank()
    row_words = _words_of_entry(array) * math.prod(array.shape[1:])
    own = _sums_on_host(local, begin=rows * row_words)
    sums = torch.tensor(own.astype("int64"), device=local.device)
    dist.all_reduce(sums, group=mesh.get_group())
    return (sums.cpu().numpy() % 2**32).astype("uint32")


def _words_of_entry(tensor):
    return max(tensor.element_size() // 4, 1)


def is_sharded(tensors):
    """Whether some tensors are sharded over processes of PyTorch."""
    return any(hasattr(each, "to_local") for each in tensors)


def _sums_on_host(array, begin=0):
    words = _words(array)
    sums = np.zeros(2, "uint32")
    for start in range(0, len(words), CHUNK):
        part = words[start : start + CHUNK].astype("uint32")
        places = np.arange(start, start + len(part)) + begin
        places = places.astype("uint32")
        sums += [each.sum(dtype="uint32") for each in _mixed(part, places)]
    return sums


def _words(array):
    """The entries of an array as unsigned integers of at most 32 bits."""
    if hasattr(array, "detach"):  # PyTorch has types that NumPy lacks.
        import torch

        flat = array.detach().cpu().contiguous().reshape(-1)
        data, size = flat.view(torch.uint8).numpy(), flat.element_size()
    else:
        if hasattr(array, "read_value"):  # Without a copy on TensorFlow.
            array = array.read_value()
        array = np.ascontiguousarray(array)
        data, size = array.reshape(-1).view("uint8"), array.itemsize
    return data.view({1: "uint8", 2: "uint16"}.get(size, "uint32"))


@functools.cache
def _compiled_sums():
    """The sums for JAX, by shard: devices exchange only the sums."""
    import jax
    from jax import numpy as jnp

    @jax.jit
    def sums(array):
        if array.dtype == bool:
            array = array.astype("uint8")
        bits = {1: "uint8", 2: "uint16"}.get(array.dtype.itemsize, "uint32")
        words = jax.lax.bitcast_convert_type(array, bits).astype("uint32")
        places = jnp.zeros((), "uint32")
        for axis in range(words.ndim):
            step = math.prod(words.shape[axis + 1 :]) % 2**32
            index = jax.lax.broadcasted_iota("uint32", words.shape, axis)
            places = places + index * np.uint32(step)
        each = [each.sum(dtype="uint32") for each in _mixed(words, places)]
        return jnp.stack(each)

    return sums


def _sums_on_devices(array):
    return np.asarray(_compiled_sums()(array))


def _mixed(words, places):
    """Yields two pseudo-random numbers for each word and its place.

    A multiplication spreads each bit to higher ones, a shift to lower ones
    (Appleby, 2011: the last step of MurmurHash3).
    """
    words = words ^ (places * np.uint32(0x9E3779B9))
    words = (words ^ (words >> 16)) * np.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * np.uint32(0xC2B2AE35)
    words = words ^ (words >> 16)
    yield words
    words = words * np.uint32(0x27D4EB2F)
    yield words ^ (words >> 15)


def hexadecimal(fingerprint):
    """A fingerprint as hexadecimal text."""
    return bytes(fingerprint).hex()
