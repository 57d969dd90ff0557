"""What the machine has to offer: free memory, and free disk space."""

import os
import shutil
from pathlib import Path

from keras_kd._src.cache.remote import absolute

# A container's limit, and what is used of it: in cgroup version 2, and in 1.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
    ),
)


def free_memory(root="/"):
    """Bytes of memory that may still be taken, or 0 where it isn't known.

        min(the machine's, a container's limit - what is used of it)

    Args:
        root: where the system's files are.

    Returns:
        Bytes. What can be dropped (read files) counts as free.

    Example:
    >>> isinstance(free_memory(), int)
    True
    """
    root = Path(root)
    readings = [_of_machine(root), *_of_containers(root)]
    return max(0, min(readings))


def free_disk(path):
    """Bytes that may still be written to a folder, which need not exist.

    Args:
        path: the folder; where there is none, its nearest parent counts.

    Returns:
        Bytes.

    Example:
    >>> free_disk("a/folder/to/come") > 0
    True
    """
    folder = absolute(path)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _of_machine(root):
    available = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        return available * 1024
    names = getattr(os, "sysconf_names", {})
    if "SC_PAGE_SIZE" in names and "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 0


def _of_containers(root):
    for names in _CONTAINERS:
        limit, used, parts = (root / "sys/fs/cgroup" / name for name in names)
        limit, used = _text(limit).strip(), _text(used).strip()
        # Version 2 says "max" where there is no limit.
        if limit.isdigit() and used.isdigit():
            # Files that were read stay in memory until it is wanted.
            dropped = _numbers(parts).get("inactive_file", 0)
            yield int(limit) - int(used) + dropped


def _numbers(path):
    """What a file says in lines of a name and a number."""
    lines = [line.split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}


def _text(path):
    try:
        return path.read_text()
    except OSError:
        return ""
