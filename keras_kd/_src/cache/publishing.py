"""What merge leaves for readers: an index, then the manifest that names it."""

import contextlib
import zlib

import numpy as np

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.cache.manifest import Manifest


def published(path):
    """The manifest that is in a folder; None where there is none to read.

    Example:
    >>> import pathlib
    >>> published(pathlib.Path("nowhere")) is None
    True
    """
    try:
        data = (path / "manifest.json").read_bytes()
        return Manifest.parse(data, str(path))
    except (OSError, ValueError, KeyError):  # None yet, or it is damaged.
        return None


def publish(path, content, index, earlier=None):
    """Makes readers see a new cache; a kill on the way leaves the earlier one.

    Args:
        path: the cache's folder.
        content: of its `Manifest`, but for the index.
        index: int64 of shape `(2, runs)`, as `merging.index_of` returns it.
        earlier: the `Manifest` that is replaced, or None.

    Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp())
    >>> about = {"samples": 2, "outputs": [], "parts": [], "views": None}
    >>> publish(path, about, np.array([[0, 2], [0, -1]]))
    >>> published(path).index_file == sorted(path.glob("index-*"))[0].name
    True
    """
    manifest = Manifest({**content, "index": _write_index(path, index)})
    text = manifest.text()
    atomic_write(path / "manifest.json", lambda file: file.write_text(text))
    if earlier:
        _remove_earlier(path, earlier.index_file, manifest.index_file)


def _write_index(path, index):
    """Writes the index; returns what the manifest says of it."""
    checksum = zlib.crc32(index)
    # A name of its own leaves the earlier cache as it is until the manifest
    # is replaced, and after that to those who have read the earlier one.
    name = f"index-{checksum:08x}.npy"
    atomic_write(path / name, lambda file: np.save(file, index))
    return {"runs": index.shape[1], "checksum": checksum, "name": name}


def _remove_earlier(path, replaced, name):
    """Removes each index but the new one and the one that it replaces.

    Workers of a reader that was opened before open the replaced one again.
    Not all are kept: that of scattered samples may be as large as answers.
    """
    if replaced == name:
        return
    for file in [path / "index.npy", *path.glob("index-????????.npy")]:
        if file.name not in (replaced, name):
            # Windows keeps what a reader has mapped, until the next merge.
            with contextlib.suppress(OSError):
                file.unlink()
