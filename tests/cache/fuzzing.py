"""Caches of anyone: thousands of changed files, each refused or harmless.

`python tests/cache/fuzzing.py --cases 200000` runs longer than the tests do
(PYTHONPATH has the repository and `tests`), and prints what was said how often.
A case that fails is made again by its number: `--first N --cases 1`.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import resource
import sys
import tempfile
import time

import hostile
import numpy as np
import writing_run

import keras_kd as kd

CASES = 16_000  # In the tests.
FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None
ROOM = 2**30  # Bytes that may be allocated beside what there is.
SECONDS = 2.0  # That a case may take.
SAMPLES = 12
KINDS = {
    "dense": {},
    "top k": {"outputs": kd.cache.TopK(2)},
    "int8": {"outputs": kd.cache.Int8()},
    "views": {},
}


def _write(folder, kind):
    x = writing_run.data(SAMPLES)
    settings = {**KINDS[kind], "metadata": {"a": [1, {"b": None}]}}
    if kind == "views":
        x = kd.cache.AugmentedViews(
            x, augment=lambda x, u: x + u, count=2, draws=1
        )
        writing_run.write(folder, x, **settings)
        return
    for part in range(2):
        batches = writing_run.batches(range(6 * part, 6 * part + 6), x)
        writing_run.write(
            folder, batches, part=str(part), shard_samples=3, **settings
        )
    kd.cache.merge(folder)


# --- what is done to a cache, and with it ------------------------------------


def _use(folder):
    """Reads all that a cache says it has."""
    cached = kd.cache.open(folder)
    repr(cached), cached.metadata, cached.fingerprint()
    for view in range(cached.views_per_sample)[:2]:
        cached.read(np.arange(min(len(cached), 2 * SAMPLES)), view)


def _verify(folder):
    _use(folder)
    kd.cache.verify(folder)


def _write_on(folder):
    writing_run.write(
        folder,
        writing_run.batches(range(6), writing_run.data(SAMPLES)),
        part="0",
        shard_samples=3,
    )


def _merge(folder):
    kd.cache.merge(folder)
    _use(folder)


def _merge_gaps(folder):
    kd.cache.merge(folder, allow_gaps=True)
    _use(folder)


class Fuzzer:
    """Cases by number: the same number is the same case."""

    def __init__(self, root):
        self.root, self.outside = root, root / "outside"
        self.outside.write_text("precious")
        self.kinds = collections.Counter()
        self.slowest = 0.0
        self.caches, self.files = {}, {}
        for kind in KINDS:
            folder = root / kind.replace(" ", "_") / "cache"
            _write(folder, kind)
            self.caches[kind] = folder
            self.files[kind] = hostile.all_files(folder)
        self._watched = None
        sys.addaudithook(self._hear)

    def run(self, numbers):
        """Runs cases; raises an `AssertionError` about the first that fails."""
        with _little_room():
            for number in numbers:
                self._one(number)
        assert self.outside.read_text() == "precious"
        names = {path.name for path in self.root.iterdir()}
        expected = {kind.replace(" ", "_") for kind in KINDS} | {"outside"}
        assert names == expected

    def _one(self, number):
        generator = hostile.seeded(number)
        kind = generator.choice(list(KINDS))
        folder = self.caches[kind]
        change, use = self._choice(generator, kind)
        about = f"case {number}: {kind}, {change.__name__}, {use.__name__}"
        touched = change(folder, generator)
        self._watched, began = folder, time.perf_counter()
        try:
            use(folder)
            self.kinds["harmless"] += 1
        except ValueError as error:
            assert type(error) is ValueError, f"{about}: {error!r}"
            assert "Received: " in str(error), f"{about}: {error}"
            self.kinds[hostile.kind_of(error)] += 1
        except AssertionError as error:
            raise AssertionError(f"{about}: {error}") from error
        except BaseException as error:
            raise AssertionError(f"{about}: raw {error!r}") from error
        finally:
            self._watched = None
            took = time.perf_counter() - began
            writes = use in (_merge, _merge_gaps, _write_on)
            whole = writes or number % 32 == 0
            self._put_back(folder, self.files[kind], None if whole else touched)
        assert took < SECONDS, f"{about} took {took:.1f} s"
        self.slowest = max(self.slowest, took)

    def _choice(self, generator, kind):
        changes = {
            change_manifest: [_use, _use, _use, _verify],
            change_part: [_merge, _merge_gaps, _verify],
            change_index: [_use, _verify],
            change_shard: [_use, _merge, _verify],
            change_bytes: [_use, _merge],
        }
        if kind == "dense":
            changes[change_part] = [_merge, _write_on]
        change = generator.choice(
            [change_manifest] * 6 + [change_index] * 2 + list(changes)
        )
        return change, generator.choice(changes[change])

    def _put_back(self, folder, files, touched):
        if touched is not None:
            for name in touched:
                path = folder / name
                if name in files:
                    path.write_bytes(files[name])
                else:
                    path.unlink()
            return
        found = hostile.all_files(folder)
        for name in found.keys() - files.keys():
            (folder / name).unlink()
        for name, content in files.items():
            if found.get(name) != content:
                (folder / name).write_bytes(content)

    def _hear(self, event, arguments):
        """Hears of each file that is opened, in Python or in C."""
        if self._watched is None or event != "open":
            return
        path = arguments[0]
        if isinstance(path, int):
            return
        path = os.path.realpath(os.fsdecode(path))
        ours = path.startswith((os.fspath(self._watched), sys.prefix))
        code = path.endswith((".py", ".pyc", ".so"))
        if not ours and not code:
            self._watched = None
            raise AssertionError(f"opened {path!r}")


@contextlib.contextmanager
def _little_room():
    """Lets no more memory be allocated than is needed."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def change_manifest(folder, generator):
    """Changes a file; like the others, returns the names of all it touched."""
    path = folder / "manifest.json"
    path.write_bytes(hostile.changed_json(path.read_bytes(), generator))
    return [path.name]


def change_part(folder, generator):
    path = generator.choice(sorted(folder.glob("parts/*/part.json")))
    path.write_bytes(hostile.changed_json(path.read_bytes(), generator))
    return [path.relative_to(folder).as_posix()]


def change_bytes(folder, generator):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "lock"]
    path = generator.choice(sorted(files))
    path.write_bytes(hostile.changed_bytes(path.read_bytes(), generator))
    return [path.relative_to(folder).as_posix()]


def change_index(folder, generator):
    index = next(folder.glob("index-*.npy"))
    return _change_array(folder, index, generator)


def change_shard(folder, generator):
    shards = sorted(folder.glob("parts/*/*.npy"))
    return _change_array(folder, generator.choice(shards), generator)


def _change_array(folder, path, generator):
    """Other numbers in an array, and right checksums of them everywhere."""
    data = bytearray(path.read_bytes())
    if generator.random() < 0.3:
        data = hostile.changed_bytes(data, generator)
        return hostile.put_array(folder, path, data)
    begin = data.index(b"\n") + 1
    for _ in range(generator.choice([1, 2, 5])):
        place = begin + 8 * generator.randrange((len(data) - begin) // 8)
        number = generator.choice(
            [-1, 0, 1, 11, 12, 2**31, 2**40, 2**63 - 1, -(2**63)]
        )
        data[place : place + 8] = number.to_bytes(8, "little", signed=True)
    return hostile.put_array(folder, path, bytes(data))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    os.fsync = lambda file: None
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        fuzzer = Fuzzer(pathlib.Path(folder))
        began = time.perf_counter()
        end = arguments.first + arguments.cases
        fuzzer.run(range(arguments.first, end))
        seconds = time.perf_counter() - began
    for kind, count in fuzzer.kinds.most_common():
        print(f"{count:8} {kind}")
    print(
        f"{arguments.cases} cases in {seconds:.0f} s, the slowest "
        f"{fuzzer.slowest:.2f} s: none raw, none outside."
    )


if __name__ == "__main__":
    main()
