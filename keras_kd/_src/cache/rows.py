"""The records of a part, mapped into memory and checked."""

import zlib

import numpy as np

from keras_kd._src.cache.part_journal import broken

LARGEST_HEADER = 2**16  # That of many taps is beyond NumPy's own limit.


def checked_rows(path, part, dtype):
    """A part's records, mapped into memory, if they are what it says.

    There may be more of them: a writer goes on, and no merge knows of it yet.

    Args:
        path: of `rows.npy`.
        part: dict with the part's `name` and number of `samples`.
        dtype: type of a record.

    Raises:
        ValueError: they are not.
    """
    rows = mapped(path, broken(part["name"], f"{path.name} can't be read"))
    if rows.dtype != dtype or rows.ndim != 1 or len(rows) < part["samples"]:
        what = (
            f"{rows.shape} records of type {rows.dtype}, expected "
            f"{part['samples']} of {dtype}"
        )
        raise ValueError(broken(part["name"], what))
    return rows[: part["samples"]]


def header_bytes(path):
    """How much of a part's file, which was looked at, is before its records.

    NumPy may give another version's headers another length.
    """
    return np.lib.format.open_memmap(
        path, mode="r", max_header_size=LARGEST_HEADER
    ).offset


def mapped(path, message):
    """An array's file, mapped into memory; an error with a message if not."""
    try:
        rows = np.lib.format.open_memmap(
            path, mode="r", max_header_size=LARGEST_HEADER
        )
    # What NumPy raises of a damaged header is of many kinds.
    except Exception as error:
        raise ValueError(f"{message} ({error})") from error
    # A plain array over the map: its subclass takes longer to index.
    return np.asarray(rows)


def checked_shards(rows, name, shards):
    """Each shard's records, once they have the checksum of their shard.

    Args:
        rows: the part's records.
        name: the part's, for errors.
        shards: list of dicts, with `samples` and `checksum`.

    Yields:
        `(shard, records)`.

    Raises:
        ValueError: a checksum does not fit.
    """
    start = 0
    for number, shard in enumerate(shards):
        records = rows[start : start + shard["samples"]]
        check_shard(records, shard, name, number)
        yield shard, records
        start += shard["samples"]


def check_shards(rows, name, shards):
    """Raises a `ValueError` unless all shards have their checksums."""
    for _ in checked_shards(rows, name, shards):
        pass


def check_shard(records, shard, part, number):
    """Raises a `ValueError` unless a shard has the checksum that it had."""
    if zlib.crc32(np.ascontiguousarray(records)) != shard["checksum"]:
        what = f"shard {number} does not have the checksum it was written with"
        raise ValueError(broken(part, what))
