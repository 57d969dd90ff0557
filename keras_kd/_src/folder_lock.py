"""FolderLock: one run at a time in a folder, whichever process it is in."""

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

    It is a POSIX record lock: a process has it, and no child of it, so that
    neither a killed process nor what it has forked holds on to it, and a
    number of a process that is in use again means nothing. In one process the
    last to take it has it: a run that ended by an error is no hindrance (what
    ends with a block of code is better held by `own_folder.held`). What
    the file says of the holder is for the error's text only. Where the file
    system (or Windows) knows no such locks, nothing is locked.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.file = self.holder = None

    def take(self):
        """Locks the folder, which is made where it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = str(inside(self.folder, LOCK).resolve())
        self.holder = uuid.uuid4().hex
        process, file, _ = _held.get(self.file, (None, None, None))
        if process != os.getpid():
            # Through no link.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            file = os.open(self.file, flags, 0o666)
            self._hold(file)
        _held[self.file] = os.getpid(), file, self.holder
        weakref.finalize(self, _release, self.file, self.holder)

    def release(self):
        """Frees the folder, unless another one has taken it since."""
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
                f"Another process is at work in the folder {str(self.folder)!r}"
                f", and two would mix up its files. Received: a folder that "
                f"is held by {holder or 'a process that is about to begin'}. "
                "Wait for it, end it, or give this run a folder of its own."
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
