"""Paths inside a folder, and a lock on the folder."""

import contextlib
import errno
import itertools
import os
import pathlib

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None

LOCK = "lock"
# The errors of a file system without locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def inside(folder, relative_path):
    """The path in a folder; a `ValueError` if it leads out of it."""
    path = folder / relative_path
    if _is_plain(folder, pathlib.PurePath(relative_path)):
        return path
    # Unlike `pathlib`'s, it raises no error about circular links.
    real = pathlib.Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            "The files of a folder must be inside it, without links that lead "
            f"out. Received: {os.fspath(relative_path)!r} in {str(folder)!r}, "
            f"which leads to {str(real)!r}. Replace a link by a copy of its "
            "target; if the path is not a link, the file that names it was not "
            "written by this library: don't use it."
        )
    return path


def _is_plain(folder, relative_path):
    """Whether a path below a folder has no link and no `..`, as usual."""
    parts = relative_path.parts
    if relative_path.is_absolute() or ".." in parts:
        return False
    first = os.path.join(folder, *parts[:1])
    ways = itertools.accumulate(parts[1:], os.path.join, initial=first)
    return not any(map(os.path.islink, ways))


@contextlib.contextmanager
def held(folder, taken):
    """Locks a folder against other processes, with its file `lock`.

    The system frees it when the process ends, also if it is killed. On Windows
    and on file systems without locks, nothing is locked.

    Args:
        folder: path of the folder, which is made if it does not exist.
        taken: the beginning of the error about a folder that is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _opened(inside(folder, LOCK))
    try:
        _lock(descriptor, folder, taken)
        yield
    finally:
        os.close(descriptor)


def _opened(path):
    """The descriptor of the lock's file, whose content is not changed."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(
            "A lock must be a plain file. Received: a link or a folder "
            f"{str(path)!r}. Remove it."
        )
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o666)


def _lock(descriptor, folder, taken):
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"{taken} Received: the folder {str(folder)!r}, which another "
            "process holds."
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
