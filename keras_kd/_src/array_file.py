"""Arrays in a `.npz` file of anyone: none is larger than it must be."""

import contextlib
import io
import math
import struct
import zipfile
import zlib

import numpy as np

from keras_kd._src.atomic_write import atomic_write

# What `zipfile` raises for a file that is none, damaged or hostile.
UNREADABLE = (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def write_arrays(path, arrays, shared=False):
    """Writes a dict of arrays; nothing is pickled."""
    in_order = {n: np.asarray(a, order="C") for n, a in arrays.items()}
    atomic_write(path, lambda file: np.savez(file, **in_order), shared)


@contextlib.contextmanager
def opened_arrays(path, damaged):
    """Gives `read(name, shape, dtype)`, of what `write_arrays` has written.

    NumPy would allocate what a header says, whatever there is. Here the
    header must be that of the shape and type that are expected.

    Args:
        path: the file.
        damaged: what the error begins with: which file, and what to do.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(zipfile.ZipFile(path))
        except UNREADABLE as error:
            raise ValueError(
                f"{damaged} Received: no whole file of arrays."
            ) from error

        def read(name, shape, dtype):
            found = _read(file, f"{name}.npy", tuple(shape), np.dtype(dtype))
            if found is None:
                raise ValueError(
                    f"{damaged} Received: no whole array {name!r} of shape "
                    f"{tuple(shape)} and type {dtype}."
                )
            return found

        yield read


def _read(file, name, shape, dtype):
    """An array, or None."""
    header, count = _header(shape, dtype), math.prod(shape)
    size = len(header) + count * dtype.itemsize
    try:
        about = file.getinfo(name)
        if not about.file_size == about.compress_size == size:
            return None
        content = file.read(about)
    except UNREADABLE:
        return None
    if len(content) != size or content[: len(header)] != header:
        return None
    if not count:
        return np.zeros(shape, dtype)
    values = np.frombuffer(content, dtype, count, len(header))
    return values.reshape(shape).copy()


def _header(shape, dtype):
    """What the file of such an array begins with."""
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype)}
    about |= {"fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()
