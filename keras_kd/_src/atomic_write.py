"""Files that are there in whole or not at all."""

import json
import os
import pathlib
import uuid


def atomic_write(path, write, shared=False):
    """Has `write(file)` fill a file, which then gets its name at once.

    Nothing is written through a link, whoever has put it there: the file that
    is filled is a new one, and a link of the final name is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where others may write the same file now, each fills one of its own.
    own = f"{uuid.uuid4().hex}_" if shared else ""
    # Keras chooses the format by the ending, which stays.
    unfinished = path.with_name(f"unfinished_{own}{path.name}")
    _check_no_folder(path)
    _begin(unfinished)
    try:
        write(unfinished)
        # A name that outlives a power cut must not stand for less.
        with unfinished.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(unfinished, path)
    finally:  # On a full disk, half a file is in the way.
        unfinished.unlink(missing_ok=True)


def _begin(path):
    """Makes an empty file in the place of what a kill, or anyone, has left."""
    remove_unfinished(path)
    # Exclusive: it does not follow a link.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def remove_unfinished(path):
    """Removes a file that nobody goes on with; of a link the link alone."""
    _check_no_folder(path)
    path.unlink(missing_ok=True)


def _check_no_folder(path):
    if path.is_dir() and not path.is_symlink():
        raise ValueError(
            "A folder is in the place of a file. Received: a folder "
            f"{str(path)!r}, where a file of this name is written. Remove it."
        )


def write_json(path, value):
    """Writes a value as JSON, in whole or not at all."""
    text = json.dumps(value, indent=1)
    atomic_write(path, lambda file: file.write_text(text))


def save_in_place_of(save, arguments, in_place):
    """Has a model's `save` write a file that replaces an earlier one at once.

    Args:
        save: Keras' method.
        arguments: dict of its arguments.
        in_place: whether it writes more than one file, which can't be.
    """
    path = arguments["filepath"]
    one_file = str(path).endswith((".keras", ".h5", ".hdf5")) and not in_place
    prompts = arguments.get("overwrite", True) is False and os.path.exists(path)
    if prompts or not one_file or "://" in str(path):
        save(**arguments)
    else:
        rest = {**arguments, "overwrite": True}  # Of the empty new file.
        atomic_write(
            pathlib.Path(path), lambda file: save(**{**rest, "filepath": file})
        )
