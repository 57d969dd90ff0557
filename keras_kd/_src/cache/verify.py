"""verify: checks every file and record of a cache."""

from keras_kd._src.cache.format import check_same
from keras_kd._src.cache.format import damaged
from keras_kd._src.cache.format import part_folders
from keras_kd._src.cache.format import read_part
from keras_kd._src.cache.teacher_cache import open

SHOWN = 10  # Faults in the error; the others are only counted.


def verify(path, *, teacher=None, cache_dir=None):
    """Checks every file and record of a cache, and reports all faults.

    Use it for a cache that was copied, has not been read for a long time, or
    comes from somebody else. `open` checks only a part of a large cache, and
    stops at the first fault. This compares all checksums and file headers, and
    checks of each record that it is where the index says, that its values are
    finite, and that the classes it names exist. In a local cache each part's
    description is also compared with the manifest. It takes as long as reading
    all files.

    Nothing in a cache is ever run or unpickled. It can't be checked whether
    the predictions are any good; the student's accuracy will show that.

    Args:
        path: the cache's folder, or a url, as `open` takes it.
        teacher: the live teacher, to check that the predictions are its own.
        cache_dir: where copies of remote files are kept, as in `open`.

    Returns:
        Dict of what was checked: the number of `"samples"`, `"parts"`,
        `"shards"` and `"bytes"`.

    Raises:
        ValueError: there are faults; the message counts them and lists the
            first ten.

    Example:
    >>> import tempfile, keras, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, keras.ops.ones((8, 4)), folder, verbose=0)
    >>> found = kd.cache.verify(folder)
    >>> found["samples"], found["parts"], found["shards"]
    (8, 1, 1)
    """
    cache = open(path, teacher=teacher, verify="sizes", cache_dir=cache_dir)
    stored, manifest = cache.stored, cache.manifest
    faults = stored.faults()
    if cache.storage.is_local:
        faults += _faults_of_parts(cache.storage.folder, manifest)
    if faults:
        shown = "\n".join(faults[:SHOWN])
        raise ValueError(
            f"The cache {cache.name!r} is damaged. Received: {len(faults)} "
            f"faults, of which the first are:\n{shown}"
        )
    return {
        "samples": len(cache),
        "parts": len(manifest.parts),
        "shards": len(stored.shards),
        "bytes": stored.bytes,
    }


def _faults_of_parts(path, manifest):
    folders = {folder.name: folder for folder in part_folders(path)}
    found = []
    for part in manifest.parts:
        try:
            _check_part(path, folders[part["name"]], part, manifest)
        except ValueError as error:
            found.append(str(error))
    return found


def _check_part(path, folder, part, manifest):
    """Raises a `ValueError` unless a part's own JSON fits the manifest."""
    own = read_part(folder)
    settings = {key: manifest.content[key] for key in own["settings"]}
    check_same(path, settings, own["settings"])
    # A writer may have added more since.
    own["shards"] = own["shards"][: len(part["shards"])]
    for key in ("constants", "shards"):
        if own[key] != part[key]:
            raise ValueError(
                f"{damaged(folder.name)} Received: a part.json with other "
                f"{key} than the manifest has."
            )
