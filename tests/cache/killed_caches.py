"""Kills many writers and merges, and compares what the next call makes of it.

`python tests/cache/killed_caches.py` (PYTHONPATH has the repository and
`tests`) prints how many of each ended exactly as without a kill. The tests
have fewer of them.
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time

import hostile
import writing_run
from writing_run import SAMPLES
from writing_run import batches
from writing_run import end_of
from writing_run import forked
from writing_run import write

import keras_kd as kd

PARTS = 4
PLACES = ("within", "before", "after")


def files_of(folder):
    """All files but what a kill left unfinished."""
    return {
        name: content
        for name, content in hostile.all_files(folder).items()
        if "unfinished_" not in name
    }


def in_a_process(function, *arguments):
    assert end_of(forked(function, *arguments)) == 0


def killed_at_any_time(function, folder, seconds):
    """Kills a process after some time, if it has not ended before."""
    process = forked(function, folder)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    return end_of(process) == -signal.SIGKILL


def kill_writers(folder, count, seconds):
    """How many were killed, and how many of these ended exactly."""
    in_a_process(write, folder / "whole")
    expected, killed, exact = files_of(folder / "whole"), 0, 0
    generator = random.Random(0)
    while killed < count:
        path = folder / f"{killed}"
        # Half of them where a file is replaced, half of them at any time.
        if killed % 2:
            place = generator.choice(PLACES)
            number = generator.randrange(writing_run.FILES)
            process = forked(writing_run.killed_at, path, place, number)
            assert end_of(process) == -signal.SIGKILL
        elif not killed_at_any_time(write, path, seconds * generator.random()):
            shutil.rmtree(path)
            continue
        killed += 1
        in_a_process(write, path)
        exact += files_of(path) == expected
        shutil.rmtree(path)
    return killed, exact


def merge_killed_at(folder, place, number):
    with writing_run.dying(place, number):
        kd.cache.merge(folder)


def write_parts(folder, parts):
    for part in range(parts):
        keys = range(part, SAMPLES, parts)
        write(folder, batches(keys), part=str(part))


def add_a_part(folder):
    keys = range(SAMPLES, SAMPLES + 8)
    write(folder, batches(keys), part="9")


def kill_merges(folder, count):
    """Merges of a grown cache; readers of the earlier one must not notice."""
    killed = exact = 0
    generator = random.Random(1)
    whole, base = folder / "merged", folder / "base"
    in_a_process(write_parts, base, PARTS)
    kd.cache.merge(base)
    earlier = files_of(base)
    in_a_process(add_a_part, base)
    shutil.copytree(base, whole)
    kd.cache.merge(whole)
    expected = files_of(whole)
    while killed < count:
        path = shutil.copytree(base, folder / f"merge {killed}")
        place, number = generator.choice(PLACES), generator.randrange(2)
        process = forked(merge_killed_at, path, place, number)
        assert end_of(process) == -signal.SIGKILL
        killed += 1
        found = kd.cache.verify(path)["samples"]
        old = place != "after" or number == 0
        right = found == (SAMPLES if old else SAMPLES + 8)
        if old:
            now = files_of(path)
            right &= all(now[name] == earlier[name] for name in earlier)
        kd.cache.merge(path)
        right &= files_of(path) == expected
        exact += right
        shutil.rmtree(path)
    return killed, exact


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        merges = kill_merges(folder / "merges", arguments.kills)
        writers = kill_writers(
            folder / "writers", arguments.kills, arguments.seconds
        )
    for name, (killed, exact) in {"write": writers, "merge": merges}.items():
        print(f"{name}: {killed} killed, {exact} ended exactly")


if __name__ == "__main__":
    main()
