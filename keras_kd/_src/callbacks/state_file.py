"""A file of JSON and arrays, for the state of a run.

It is a zip archive of `.npy` files and one `state.json`: `numpy.load` reads
the arrays, and the archive's checksums show a damaged file.
"""

import json
import zipfile

import numpy as np

from keras_kd._src.array_file import UNREADABLE
from keras_kd._src.atomic_write import atomic_write

STATE = "state.json"


def write(path, state, arrays):
    """Writes a file completely or not at all.

    Args:
        path: the file's path.
        state: encoded values to write as JSON; they may hold arrays.
        arrays: pairs of a name and a function that returns the array, so that
            only one array at a time is in memory.
    """
    found = []

    def number(array):
        found.append(array)
        return {"number": len(found) - 1, "dtype": array.dtype.name}

    text = json.dumps(state, default=number)

    def fill(file):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(STATE, text)
            for place, array in enumerate(found):
                _write_array(archive, f"array_{place}", array)
            for name, array in arrays:
                _write_array(archive, name, np.asarray(array()))

    atomic_write(path, fill)


def _write_array(archive, name, array):
    if array.dtype.kind == "V":  # `.npy` has no bfloat16 and the like.
        array = array.view(f"u{array.dtype.itemsize}")
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


class StateFile:
    """A file that `write` has written; all its checksums are compared."""

    def __init__(self, path):
        try:
            self._archive = zipfile.ZipFile(path)
            damaged = self._archive.testzip()
            self.state = json.loads(self._archive.read(STATE))
        except UNREADABLE as error:
            damaged = error
        if damaged is not None:
            raise ValueError(
                "The file of a backup can't be read: it was changed or "
                f"damaged after it was written. Received: {str(path)!r} "
                f"({damaged}). Put a good copy in its place, or remove the "
                "folder to begin a new run."
            )

    def array(self, name, dtype):
        """One of its arrays, with the type that was written."""
        with self._archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
        return array.view(dtype) if np.dtype(dtype).kind == "V" else array

    def close(self):
        """Closes the file."""
        self._archive.close()

    def numbered(self, number, dtype):
        """One of its arrays by its number, for `encoding.decode`."""
        return self.array(f"array_{number}", dtype)
