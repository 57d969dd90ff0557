"""A folder of files: what leads out of it, and which process holds it."""

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
# What a file system without locks says.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def inside(folder, relative_path):
    """The path in a folder; refuses one that leads out of it."""
    path = folder / relative_path
    if _is_plain(folder, pathlib.PurePath(relative_path)):
        return path
    # Of links in a circle, unlike `pathlib`'s, it makes no error.
    real = pathlib.Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            "The files of a folder must be in it, which links must not leave. "
            f"Received: {os.fspath(relative_path)!r} in {str(folder)!r}, which "
            f"leads to {str(real)!r}. Copy what a link shows into "
            "the folder; if the path is no link, what names it was not written "
            "by this library: don't use it."
        )
    return path


def _is_plain(folder, relative_path):
    """Whether a path has no link and no `..` below a folder: most have none."""
    parts = relative_path.parts
    if relative_path.is_absolute() or ".." in parts:
        return False
    first = os.path.join(folder, *parts[:1])
    ways = itertools.accumulate(parts[1:], os.path.join, initial=first)
    return not any(map(os.path.islink, ways))


@contextlib.contextmanager
def held(folder, taken):
    """Holds a folder against other processes, by its file `lock`.

    The system frees it when the process ends, also when it is killed. Windows
    and file systems without locks hold nothing.

    Args:
        folder: path; it is made where it is missing.
        taken: the error about a folder that is held, without what was received.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _opened(inside(folder, LOCK))
    try:
        _lock(descriptor, folder, taken)
        yield
    finally:
        os.close(descriptor)


def _opened(path):
    """The lock's descriptor; what is there already is left as it is."""
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
