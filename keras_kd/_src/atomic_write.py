"""Files that are there in whole or not at all."""

import json
import os
import uuid


def atomic_write(path, write, shared=False):
    """Has `write(file)` fill a file, which then gets its name at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where others may write the same file now, each fills one of its own.
    own = f"{uuid.uuid4().hex}_" if shared else ""
    # Keras chooses the format by the ending, which stays.
    unfinished = path.with_name(f"unfinished_{own}{path.name}")
    try:
        write(unfinished)
        # A name that outlives a power cut must not stand for less.
        with unfinished.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(unfinished, path)
    finally:  # On a full disk, half a file is in the way.
        unfinished.unlink(missing_ok=True)


def write_json(path, value):
    """Writes a value as JSON, in whole or not at all."""
    text = json.dumps(value, indent=1)
    atomic_write(path, lambda file: file.write_text(text))
