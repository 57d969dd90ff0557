"""PartJournal: what is in a part, as far as it was committed."""

import io

from keras_kd._src.cache.sealed import sealed
from keras_kd._src.cache.sealed import unsealed


class PartJournal:
    """The journal of a part: a line for each shard that is on the disk.

    Args:
        folder: the part's folder.

    Raises:
        ValueError: a line is damaged.

    Example:
    >>> import pathlib
    >>> PartJournal(pathlib.Path("nowhere")).samples
    0
    """

    def __init__(self, folder):
        self.shards, self.samples, self.bytes = [], 0, 0
        self.finished = False
        path = folder / "shards.jsonl"
        data = path.read_bytes() if path.exists() else b""
        # Not `splitlines`, to which a damaged byte may be an end, too.
        for line in io.BytesIO(data):
            # A writer that was killed may have left half a line.
            if not line.endswith(b"\n"):
                break
            message = broken(folder.name, "a line of its journal is damaged")
            self._take(unsealed(line, message), len(line))

    def line(self, entry):
        """The line of an entry, which is taken in."""
        line = (sealed(entry) + "\n").encode()
        self._take(entry, len(line))
        return line

    def _take(self, entry, length):
        self.bytes += length
        self.finished = entry.get("finished", False)
        if not self.finished:
            self.shards.append(entry)
            self.samples += entry["samples"]


def broken(part, what):
    """What to say of a part that is damaged.

    Example:
    >>> broken("7", "nothing is left").startswith("The part '7' is damaged.")
    True
    """
    return (
        f"The part {part!r} is damaged. Received: {what}. Copy its folder "
        f"parts/{part} again, or delete it and run its writer again, then "
        "`keras_kd.cache.merge`."
    )
