"""Paths of a cache's files, and what to say of wrong ones."""

import os
import pathlib
import re


def is_remote(path):
    """Whether a path is a url of object storage.

    Example:
    >>> is_remote("s3://bucket/answers"), is_remote("answers")
    (True, False)
    """
    return bool(re.match(r"[A-Za-z][\w+.-]+(::|://)", os.fspath(path)))


def absolute(path):
    """The path from the root on, with the user's folder in the place of `~`.

    So what is opened later, by a reader or its workers, is found from any
    working folder.

    Example:
    >>> absolute("answers").is_absolute(), absolute("~").name != "~"
    (True, True)
    """
    # Unlike `pathlib`, it leaves a `~name` alone where there is no such user.
    return pathlib.Path(os.path.expanduser(path)).absolute()


def local_path(path):
    """The absolute path of a folder that is written to.

    Raises:
        ValueError: it is a url.

    Example:
    >>> local_path("answers").name
    'answers'
    """
    if is_remote(path):
        raise ValueError(
            "A cache is written to a local folder. Received: a url, "
            f"{os.fspath(path)!r}. Write it here, then copy the folder there."
        )
    return absolute(path)


def part_folders(path):
    """The folders of a cache's parts, in the order of their names.

    What a file manager has left beside them, as `.DS_Store`, is none.

    Example:
    >>> part_folders(pathlib.Path("nowhere"))
    []
    """
    return [
        folder
        for folder in sorted(path.glob("parts/*"))
        # A link that leads nowhere is a part that is lost, and stays.
        if not folder.is_file() and not folder.name.startswith(".")
    ]


def inside(folder, relative_path):
    """The path in a folder; refuses one that leads out of it.

    Example:
    >>> inside(pathlib.Path("answers"), "parts/7/rows.npy").as_posix()
    'answers/parts/7/rows.npy'
    """
    path = folder / relative_path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            "A cache's files must be in its folder, which links must not "
            f"leave. Received: {os.fspath(relative_path)!r} in {folder}. Copy "
            "what a link shows into the folder; if the path is no link, the "
            "manifest is not one that this library wrote: don't use it."
        )
    return path


def lacking(name, missing):
    """What to say of a file that is not there.

    Example:
    >>> lacking("answers", "index.npy").startswith("answers has no index.npy.")
    True
    """
    return (
        f"{name} has no {missing}. Expected: a folder that "
        "`keras_kd.cache.write` or `keras_kd.cache.merge` has finished, with "
        f"all its files. Received: path={name!r}. Make the same call of "
        "`write` again, which goes on where it ended, or copy the whole folder."
    )
