"""Sealed JSON: text that says whether it was damaged."""

import json
import zlib


def sealed(content):
    """A dict as JSON, in one line, with a checksum of what it says.

    Example:
    >>> sealed({"samples": 4})
    '{"seal": 3955371222, "samples": 4}'
    """
    return json.dumps({"seal": _checksum(content), **content})


def unsealed(data, damaged):
    """What sealed JSON holds.

    Args:
        data: bytes.
        damaged: message of the error.

    Raises:
        ValueError: it does not have its checksum, or is no such text.

    Example:
    >>> unsealed(sealed({"samples": 4}).encode(), "damaged")
    {'samples': 4}
    """
    try:
        content = json.loads(data.decode())
        whole = content.pop("seal") == _checksum(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(damaged) from error
    if not whole:
        raise ValueError(f"{damaged} (Received: another checksum.)")
    return content


def _checksum(content):
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
