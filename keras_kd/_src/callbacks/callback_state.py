"""The state of callbacks (their attributes): how it is saved and restored."""

import contextlib
import json
import zlib

from keras_kd._src.callbacks import encoding


def attributes(callback):
    """Dict, name -> encoded attribute, of those that can be encoded."""
    found, skipped = {}, {"params"}
    if hasattr(callback, "monitor_op"):
        # Its sign is set once the monitor's direction is known, which a new
        # callback finds out by itself.
        skipped.add("min_delta")
    for name, value in vars(callback).items():
        if name not in skipped:
            with contextlib.suppress(encoding.NotEncodable):
                found[name] = encoding.encode(value)
    return found


def checksums(callbacks):
    """Checksums of callbacks' attributes before a run, for `states_of`."""
    return [
        {name: _checksum(value) for name, value in attributes(each).items()}
        for each in callbacks
    ]


def _checksum(encoded):
    return json.dumps(
        encoded, default=lambda array: zlib.crc32(array.tobytes())
    )


def states_of(callbacks, before):
    """What has changed since: a list of `[class name, attributes]`."""
    states = []
    for callback, first in zip(callbacks, before):
        changed = {
            name: value
            for name, value in attributes(callback).items()
            if first.get(name) != _checksum(value)
        }
        states.append([type(callback).__name__, changed])
    return states


def set_states(callbacks, states, array):
    """Restores callbacks; those of one class in the order they had."""
    left = list(states)
    for callback in callbacks:
        kind = type(callback).__name__
        state = next((each for each in left if each[0] == kind), None)
        if state is None:
            continue  # The earlier run did not have this callback.
        left.remove(state)
        for name, saved in state[1].items():
            now = getattr(callback, name, None)
            setattr(callback, name, encoding.decode(saved, array, now))
