"""Reads arrays from `.npz` files that are not trusted, at a bounded cost."""

import contextlib
import io
import math
import struct
import zipfile
import zlib

import numpy as np

from keras_kd._src.atomic_write import atomic_write

# Errors that `zipfile` raises for a file that is no zip, damaged or hostile.
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
    """Yields `read(name, shape, dtype)`, for a file of `write_arrays`.

    NumPy would allocate as much memory as a header claims. Here the header
    must be that of the expected shape and type.

    Args:
        path: the file.
        damaged: the beginning of the error: which file, and what to do.
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
    """An array; None if it is not whole and of this shape and type."""
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
    """The header of the file of such an array."""
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype)}
    about |= {"fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()
