"""FolderLock: a lock that allows one run at a time in a folder."""

import contextlib
import json
import os
import pathlib
import socket
import uuid
import weakref

from keras_kd._src.own_folder import LOCK
from keras_kd._src.own_folder import NO_LOCKS
from keras_kd._src.own_folder import inside

_held = {}  # Path of a lock of this process -> process, file, holder.


class FolderLock:
    """A folder for one process at a time; the kernel frees it after a kill.

    It is a POSIX record lock, which belongs to a process and not to its
    children: neither a killed process nor the processes that it forked keep it,
    and reused process numbers don't matter. Within one process the last run to
    take it has it, so that a run that ended with an error blocks no other (to
    hold a folder for a `with` block, use `own_folder.held`). The file's content
    names the holder, for the error only. On file systems without such locks,
    and on Windows, nothing is locked.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.file = self.holder = None

    def take(self):
        """Locks the folder, and makes it if it does not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = str(inside(self.folder, LOCK).resolve())
        self.holder = uuid.uuid4().hex
        process, file, _ = _held.get(self.file, (None, None, None))
        if process != os.getpid():
            # Never through a link.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            file = os.open(self.file, flags, 0o666)
            self._hold(file)
        _held[self.file] = os.getpid(), file, self.holder
        weakref.finalize(self, _release, self.file, self.holder)

    def release(self):
        """Frees the folder, unless another run has taken it since."""
        _release(self.file, self.holder)

    def _hold(self, file):
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(file, 1000).decode(errors="replace")
            os.close(file)
            raise ValueError(
                f"Another process is using the folder {str(self.folder)!r}, "
                "and two would mix up its files. Received: a folder that is "
                f"held by {holder or 'a process that is starting'}. Wait for "
                "that process, stop it, or give this run another folder."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return
        os.truncate(file, 0)
        holder = {"process": os.getpid(), "host": socket.gethostname()}
        os.write(file, json.dumps(holder).encode())


def _release(path, name):
    process, file, holder = _held.get(path, (None, None, None))
    if process == os.getpid() and holder == name:
        del _held[path]
        with contextlib.suppress(OSError):
            os.close(file)
