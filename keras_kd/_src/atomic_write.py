"""Files that are there in whole or not at all."""

import json
import os


def atomic_write(path, write):
    """Writes a file that is there in whole or not at all.

    Args:
        path: a `pathlib.Path`; its folder is made where it is missing.
        write: function that writes the file that it is given.

    Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "runs" / "note.txt"
    >>> atomic_write(path, lambda file: file.write_text("done"))
    >>> path.read_text()
    'done'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending tells Keras the format, and stays.
    unfinished = path.with_name(f"unfinished_{path.name}")
    write(unfinished)
    # A name that outlives a power cut must not stand for less.
    with unfinished.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(unfinished, path)


def write_json(path, value):
    """Writes a value as JSON, in whole or not at all.

    Example:
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "value.json"
    >>> write_json(path, [1, 2])
    >>> json.loads(path.read_text())
    [1, 2]
    """
    text = json.dumps(value, indent=1)
    atomic_write(path, lambda file: file.write_text(text))
