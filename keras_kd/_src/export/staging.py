"""Replaces files and folders only when the new ones are complete."""

import contextlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def staged(path):
    """A temporary path of the same name, which moves to `path` on success.

    If anything fails before, an earlier file at `path` remains, and the
    temporary one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    room = pathlib.Path(
        tempfile.mkdtemp(prefix=f"unfinished_{path.name}_", dir=path.parent)
    )
    try:
        unfinished = room / path.name
        yield unfinished
        for file in room.rglob("*"):
            _flush(file)
        # Files that the main file refers to (OpenVINO's weights) move first.
        others = [each for each in room.iterdir() if each != unfinished]
        for each in [*others, unfinished]:
            _move(each, path.with_name(each.name), room)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def clear(folder):
    """Removes all that a failed attempt has left in a folder."""
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _flush(file):
    """Writes a file to disk, so that after a power cut it is complete."""
    if file.is_file():
        with file.open("rb+") as written:
            os.fsync(written.fileno())


def _move(source, target, room):
    if target.is_dir():  # Only an empty folder can be replaced in one step.
        os.replace(target, room / "before")
        try:
            os.replace(source, target)
        except BaseException:
            os.replace(room / "before", target)
            raise
    else:
        os.replace(source, target)


def size_of(path):
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
