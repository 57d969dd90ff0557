"""Writes files that exist either complete or not at all."""

import json
import os
import pathlib
import uuid


def atomic_write(path, write, shared=False):
    """Lets `write(file)` write a new file, and then gives it its name.

    Nothing is written through a link, whoever made it: the file is always new,
    and a link with the final name is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # If others may write the same file now, each process writes its own.
    own = f"{uuid.uuid4().hex}_" if shared else ""
    # The suffix is kept, as Keras chooses the format by it.
    unfinished = path.with_name(f"unfinished_{own}{path.name}")
    _check_no_folder(path)
    _begin(unfinished)
    try:
        write(unfinished)
        # So that after a power cut the name never means an incomplete file.
        with unfinished.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(unfinished, path)
    finally:  # An incomplete file takes space on a disk that may be full.
        unfinished.unlink(missing_ok=True)


def _begin(path):
    """Makes an empty file, in place of one that a killed process left."""
    remove_unfinished(path)
    # Exclusive: it does not follow a link.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def remove_unfinished(path):
    """Removes an unfinished file; if it is a link, only the link."""
    _check_no_folder(path)
    path.unlink(missing_ok=True)


def _check_no_folder(path):
    if path.is_dir() and not path.is_symlink():
        raise ValueError(
            "A folder is in place of a file. Received: a folder "
            f"{str(path)!r}, where a file of this name is written. Remove it."
        )


def write_json(path, value):
    """Writes a value as a JSON file, complete or not at all."""
    text = json.dumps(value, indent=1)
    atomic_write(path, lambda file: file.write_text(text))


def save_in_place_of(save, arguments, in_place):
    """Lets a model's `save` write a new file, which then replaces the old one.

    Args:
        save: Keras' method.
        arguments: dict of its arguments.
        in_place: whether it writes several files, which can't be replaced at
            once.
    """
    path = arguments["filepath"]
    one_file = str(path).endswith((".keras", ".h5", ".hdf5")) and not in_place
    prompts = arguments.get("overwrite", True) is False and os.path.exists(path)
    if prompts or not one_file or "://" in str(path):
        save(**arguments)
    else:
        # `overwrite` is for the new file, which exists and is empty.
        rest = {**arguments, "overwrite": True}
        atomic_write(
            pathlib.Path(path), lambda file: save(**{**rest, "filepath": file})
        )
