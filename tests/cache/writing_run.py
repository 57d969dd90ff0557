"""Writers that are killed, or two at once: `writing_run.py FOLDER`.

Each is a process of its own, forked before the backend has begun, which is
faster than to start anew. Writes to FOLDER, and how they ended to
FOLDER/ended.json.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
import zlib

import numpy as np

import keras_kd as kd

SAMPLES, BATCH, SHARD = 40, 4, 8

# Files, in their order: part.json; then shard and part.json, five times;
# part.json (finished), index, manifest.
FILES = 14
SHARD_FILES = range(1, 11, 2)
# A writer is killed when half a file is on the disk, when all of it is there
# without its name, and when it has its name.
PLACES = ("within", "before", "after")
MOMENTS = [(place, number) for number in range(FILES) for place in PLACES]
# Or when so many milliseconds have gone by.
TIMES = (5, 10, 15, 20, 30, 45, 60, 90)
HALVES = {"evens": range(0, SAMPLES, 2), "odds": range(1, SAMPLES, 2)}


def data(samples=SAMPLES):
    """Each sample's first number is its own."""
    return np.arange(samples * 4, dtype="float32").reshape(samples, 4)


def truth(samples=SAMPLES):
    return 2 * data(samples)[:, 1:]


def teacher(ran_on=None, name="teacher"):
    def predict(x):
        if ran_on is not None:
            ran_on.extend(x[:, 0].astype(int) // 4)
        return 2 * x[:, 1:]

    return kd.teachers.FunctionTeacher(predict, (4,), 3, version="1", name=name)


def batches(keys, x=None, batch=BATCH):
    x = data(max(keys) + 1) if x is None else x
    for start in range(0, len(keys), batch):
        index = np.array(keys[start : start + batch])
        yield x[index], {"sample_index": index}


def write(folder, dataset=None, model=None, **arguments):
    dataset = data() if dataset is None else dataset
    settings = dict(batch_size=BATCH, shard_samples=SHARD, verbose=0)
    model = teacher() if model is None else model
    kd.cache.write(model, dataset, folder, **{**settings, **arguments})


def rewrite(path, change):
    """Has a JSON file say something else, with a right checksum."""
    content = json.loads(path.read_text())
    del content["checksum"]
    change(content)
    said = json.dumps(content, sort_keys=True).encode()
    path.write_text(json.dumps({"checksum": zlib.crc32(said), **content}))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def dying(place, number):
    """Kills this process where it replaces a file: so many before it."""
    replace, seen = os.replace, []

    def watched(source, target):
        now = len(seen) == number
        if now and place == "within":
            os.truncate(source, os.path.getsize(source) // 2)
        if now and place != "after":
            kill()
        replace(source, target)
        seen.append(target)
        if now:
            kill()

    os.replace = watched
    yield
    os.replace = replace


def killed_at(folder, place, number):
    with dying(place, number):
        write(folder)


def slow_batches():
    """Never comes to the last batch: the writer is to be killed, not to end."""
    for number, batch in enumerate(batches(range(SAMPLES)), start=1):
        time.sleep(0.005 if number < SAMPLES // BATCH else 60.0)
        yield batch


def written_slowly(folder, ready):
    model = teacher()
    write(folder / "warm", model=model)  # Compiles; the clock begins here.
    os.write(ready, b"x")
    write(folder / "cache", slow_batches(), model)


def killed_after(folder, milliseconds):
    ready, readied = os.pipe()
    process = forked(written_slowly, folder, readied)
    os.close(readied)  # Or the next line would wait for a writer that died.
    os.read(ready, 1)
    time.sleep(milliseconds / 1000)
    os.kill(process, signal.SIGKILL)
    return end_of(process)


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


def write_or_note(folder, note):
    try:
        write(folder)
    except ValueError as error:
        note.write_text(str(error))


def main(folder):
    ended = {}
    for place, number in MOMENTS:
        name = f"{place} {number}"
        ended[name] = end_of(forked(killed_at, folder / name, place, number))
    for milliseconds in TIMES:
        name = f"{milliseconds} ms"
        ended[name] = killed_after(folder / name, milliseconds)

    (begun, begin), (wait, go_on) = os.pipe(), os.pipe()
    first = forked(slow_writer, folder / "one part", begin, wait)
    os.close(begin)  # Or the next line would wait for a writer that died.
    os.read(begun, 1)
    note = folder / "note.txt"
    ended["second"] = end_of(forked(write_or_note, folder / "one part", note))
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
