"""Writers that are killed, or two at once: `writing_run.py FOLDER`.

Each is a process of its own, forked before the backend has begun, which is
faster than to start anew. Writes to FOLDER, and how they ended to
FOLDER/ended.json.
"""

import json
import os
import pathlib
import signal
import sys
import traceback

import numpy as np

import keras_kd as kd
from keras_kd._src.cache import part

SAMPLES, BATCH, SHARD = 40, 4, 8

# Calls of `write` are: records, records, line, records, records, line...; what
# is given is the call's number, and which share of it reaches the disk.
IN_A_PART = {
    "after a commit": (6, 0.0),
    "within records": (6, 0.5),
    "between records": (7, 0.0),
    "between records and line": (8, 0.0),
    "within a line": (8, 0.5),
    "before the last line": (15, 0.0),
}
BEFORE_A_FILE = {
    "before the part": "part.json",
    "before the index": "index-*.npy",
    "before the manifest": "manifest.json",
}
HALVES = {"evens": range(0, SAMPLES, 2), "odds": range(1, SAMPLES, 2)}


def data(samples=SAMPLES):
    """Each sample's first number is its own."""
    return np.arange(samples * 4, dtype="float32").reshape(samples, 4)


def truth(samples=SAMPLES):
    return 2 * data(samples)[:, 1:]


def teacher(asked=None, name="teacher"):
    def answer(x):
        if asked is not None:
            asked.extend(x[:, 0].astype(int) // 4)
        return 2 * x[:, 1:]

    return kd.teachers.FunctionTeacher(answer, (4,), 3, probe=False, name=name)


def batches(keys, x=None, batch=BATCH):
    x = data(max(keys) + 1) if x is None else x
    for start in range(0, len(keys), batch):
        index = np.array(keys[start : start + batch])
        yield x[index], {"sample_index": index}


def write(folder, dataset=None, asker=None, **arguments):
    dataset = data() if dataset is None else dataset
    settings = dict(batch_size=BATCH, shard_samples=SHARD, verbose=0)
    asker = teacher() if asker is None else asker
    kd.cache.write(asker, dataset, folder, **{**settings, **arguments})


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_a_part(folder, number, share):
    calls, original = [], part.write

    def write_some(file, content):
        if len(calls) == number:
            original(file, content[: int(share * len(content))])
            kill()
        calls.append(content)
        original(file, content)

    part.write = write_some
    write(folder)


def killed_before_a_file(folder, name):
    original = os.replace

    def replace(source, target):
        if pathlib.Path(target).match(name):
            kill()
        original(source, target)

    os.replace = replace
    write(folder)


def paused(begun, go_on):
    """All batches, with a pause in the middle."""
    for number, batch in enumerate(batches(range(SAMPLES))):
        if number == 6:
            os.write(begun, b"x")
            os.read(go_on, 1)
        yield batch


def slow_writer(folder, begun, go_on):
    # Few batches tell the shapes, so that the pause is in the writing.
    write(folder, paused(begun, go_on), batch_size=512)


def forked(function, *arguments):
    process = os.fork()
    if process:
        return process
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def write_a_part(folder, name, keys):
    write(folder, batches(keys), part=name)


def end_of(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def write_or_say(folder, said):
    try:
        write(folder)
    except ValueError as error:
        said.write_text(str(error))


def main(folder):
    ended = {}
    for name, moment in IN_A_PART.items():
        ended[name] = end_of(forked(killed_in_a_part, folder / name, *moment))
    for name, file in BEFORE_A_FILE.items():
        ended[name] = end_of(forked(killed_before_a_file, folder / name, file))

    (begun, begin), (wait, go_on) = os.pipe(), os.pipe()
    first = forked(slow_writer, folder / "one part", begin, wait)
    os.close(begin)  # Or the next line would wait for a writer that died.
    os.read(begun, 1)
    said = folder / "said.txt"
    ended["second"] = end_of(forked(write_or_say, folder / "one part", said))
    os.write(go_on, b"x")
    ended["first"] = end_of(first)

    writers = [
        forked(write_a_part, folder / "two parts", name, keys)
        for name, keys in HALVES.items()
    ]
    ended["two parts"] = [end_of(process) for process in writers]
    (folder / "ended.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
