"""What may go wrong with a cache: kills, damage, wrong data, wrong teachers.

Each is refused with an error that says what to do, or repaired by writing
again.
"""

import contextlib
import itertools
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
import writing_run
from writing_run import BATCH
from writing_run import FILES
from writing_run import HALVES
from writing_run import MOMENTS
from writing_run import SAMPLES
from writing_run import SHARD
from writing_run import TIMES
from writing_run import batches
from writing_run import data
from writing_run import rewrite
from writing_run import teacher
from writing_run import truth
from writing_run import write

import keras_kd as kd
from keras_kd import cache

pytestmark = pytest.mark.one_backend  # Files are the same on all.
FLIPS = 40


@contextlib.contextmanager
def refused(*words, error=ValueError):
    """An error of our own (not of JSON or Unicode), with these words."""
    with pytest.raises(error) as caught:
        yield caught
    assert type(caught.value) is error, repr(caught.value)
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def all_files(folder):
    """Content of each file, without what a kill left unfinished."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("unfinished_")
    }


def assert_same_files(folder, expected):
    found, expected = all_files(folder), all_files(expected)
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert found[name] == content, name


def name_of(folder, pattern):
    """The first file of a pattern: arrays are named after what they hold."""
    return min(folder.glob(pattern)).relative_to(folder).as_posix()


def shards_of(folder, part="0"):
    """What `part.json` says of the shards that are stored."""
    path = folder / "parts" / part / "part.json"
    return json.loads(path.read_text())["shards"] if path.exists() else []


def samples_of(shards):
    return sum(shard["samples"] for shard in shards)


def put_back(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def predictions_of(folder, keys=range(SAMPLES), view=None, **arguments):
    cached = cache.open(folder, **arguments)
    return cached.predictions_of(np.array(keys), view)["output"]


def assert_right(folder, samples=SAMPLES, **arguments):
    found = predictions_of(folder, range(samples), **arguments)
    np.testing.assert_array_equal(found, truth(samples))


def merge_as(path, **parts):
    """A folder of parts that were written in folders of their own."""
    for name, source in parts.items():
        shutil.copytree(source / "parts" / name, path / "parts" / name)
    return path


def dense(factor=1.0):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="head")], name="dense"
    )
    kernel = factor * np.eye(4, 3, k=-1)
    model.layers[-1].set_weights([kernel, np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache that was written in one part, without a fault."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    write(folder)
    return folder


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A cache of two parts."""
    folder = tmp_path_factory.mktemp("halves") / "cache"
    for name, keys in HALVES.items():
        write(folder, batches(keys), part=name)
    cache.merge(folder)
    return folder


@pytest.fixture
def copy(halves, tmp_path):
    return shutil.copytree(halves, tmp_path / "cache")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What processes have left that were killed, or wrote at once."""
    folder = tmp_path_factory.mktemp("runs")
    tests = pathlib.Path(writing_run.__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests)])
    result = subprocess.run(
        [sys.executable, writing_run.__file__, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def ended(runs):
    return json.loads((runs / "ended.json").read_text())


# --- kills and writers at once -----------------------------------------------


@pytest.mark.parametrize("place,number", MOMENTS)
def test_a_killed_writer_goes_on_where_it_ended(
    place, number, runs, ended, whole, tmp_path
):
    name = f"{place} {number}"
    folder = shutil.copytree(runs / name, tmp_path / "cache")
    assert ended[name] == -9
    there = number + (place == "after")  # Files; the first is part.json.
    stored = SHARD * max(0, min((there - 1) // 2, SAMPLES // SHARD))
    if there < FILES:
        with refused("manifest.json", "Make the same call"):
            cache.open(folder)

    ran_on = []
    write(folder, model=teacher(ran_on))
    assert ran_on == list(range(stored, SAMPLES))
    assert_same_files(folder, whole)
    assert not list((folder / "parts").rglob("unfinished_*"))
    assert_right(folder, verify="full")


@pytest.mark.parametrize("milliseconds", TIMES)
def test_a_writer_that_is_killed_at_any_time(
    milliseconds, runs, ended, whole, tmp_path
):
    name = f"{milliseconds} ms"
    folder = tmp_path / "cache"
    if (runs / name / "cache").exists():
        shutil.copytree(runs / name / "cache", folder)
    assert ended[name] == -9
    stored, ran_on = samples_of(shards_of(folder)), []
    write(folder, model=teacher(ran_on))
    assert ran_on == list(range(stored, SAMPLES))
    assert_same_files(folder, whole)


def test_a_writer_goes_on_in_another_order_and_other_batches(runs, tmp_path):
    shuffled = np.random.default_rng(2).permutation(SAMPLES)
    others = {
        "order": {"dataset": batches(shuffled)},
        "batches": {"batch_size": 7, "shard_samples": 9},
    }
    for name, other in others.items():
        folder = shutil.copytree(runs / "within 5", tmp_path / name)
        write(folder, **other)
        assert len(cache.open(folder)) == SAMPLES
        assert_right(folder)


def test_a_second_process_may_not_write_the_same_part(runs, ended, whole):
    assert ended["second"] == ended["first"] == 0
    note = (runs / "note.txt").read_text()
    assert "Another process is writing the part" in note
    assert "give each writer its own `part`" in note
    np.testing.assert_array_equal(predictions_of(runs / "one part"), truth())
    assert_same_files(runs / "one part", whole)


def test_a_second_process_leaves_the_first_ones_scales_alone(tmp_path):
    class Slow(cache.Int8):
        def calibrate(self, arrays):
            with refused("Another process is writing"):
                write(tmp_path, 10 * data(), outputs=cache.Int8())
            return super().calibrate(arrays)

    write(tmp_path, outputs=Slow())
    scale = truth().max(axis=0) / 127
    error = np.abs(predictions_of(tmp_path) - truth())
    assert (error <= 0.5001 * scale).all()


def test_two_processes_may_write_two_parts_at_once(
    runs, ended, halves, tmp_path
):
    folder = shutil.copytree(runs / "two parts", tmp_path / "cache")
    assert ended["two parts"] == [0, 0]
    with refused("manifest.json"):
        cache.open(folder)
    cache.merge(folder, samples=SAMPLES)
    assert_same_files(folder, halves)
    shuffled = np.random.default_rng(0).permutation(SAMPLES)
    found = predictions_of(folder, shuffled, verify="full")
    np.testing.assert_array_equal(found, truth()[shuffled])


def test_samples_in_any_order_over_parts(tmp_path):
    shuffled = np.random.default_rng(1).permutation(400)
    for name, keys in {"a": shuffled[:150], "b": shuffled[150:]}.items():
        dataset = batches(keys, data(400), 50)
        write(tmp_path, dataset, part=name, shard_samples=100)
    cache.merge(tmp_path, samples=400)
    found = predictions_of(tmp_path, range(400))
    np.testing.assert_array_equal(found, truth(400))


def broken_off(keys, x=None):
    yield from batches(keys, data() if x is None else x)
    raise KeyboardInterrupt


def test_scales_stay_as_they_were_begun(tmp_path):
    samples, settings = 1100, dict(outputs=cache.Int8())
    order = range(samples - 1, -1, -1)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(order[:600], data(samples)), **settings)
    # The first samples would now give smaller scales.
    write(tmp_path, batches(range(samples), batch=100), **settings)
    scale = truth(samples).max(axis=0) / 127
    error = np.abs(predictions_of(tmp_path, range(samples)) - truth(samples))
    assert (error <= 0.5001 * scale).all()


def test_scales_are_learned_from_as_many_samples_in_batches_of_any_size(
    tmp_path,
):
    x = data(600)
    for batch, samples in ((4, 512), (512, 512), (600, 600)):
        folder = tmp_path / str(batch)
        write(folder, batches(range(600), x, batch), outputs=cache.Int8())
        # Larger values are cut off at the largest of those samples.
        largest = predictions_of(folder, [599])[0]
        expected = truth(samples).max(axis=0)
        np.testing.assert_allclose(largest, expected, rtol=1e-6)


@pytest.fixture
def clock(monkeypatch):
    """Lets so many seconds go by between two looks at the clock."""

    def passing(seconds):
        ticks = itertools.count(0, seconds)
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks))

    return passing


def test_a_slow_teacher_is_stored_before_its_shard_is_full(tmp_path, clock):
    settings = dict(batch_size=512, shard_samples=None)
    for seconds, stored in ((9, 0), (31, 12)):
        folder, ran_on = tmp_path / str(seconds), []
        clock(seconds)
        with pytest.raises(KeyboardInterrupt):
            write(folder, broken_off(range(12)), **settings)
        write(folder, model=teacher(ran_on))
        assert ran_on == list(range(stored, SAMPLES))


def test_a_slow_teacher_does_not_leave_a_shard_for_each_batch(tmp_path, clock):
    clock(31)
    write(tmp_path, batches(range(300), batch=1), shard_samples=None)
    shards = shards_of(tmp_path)
    # One a batch at first, then one for each 64th of the time so far.
    assert {shard["samples"] for shard in shards[:30]} == {1}
    assert shards[-2]["samples"] > 2
    assert len(shards) < 200
    found = predictions_of(tmp_path, range(300))
    np.testing.assert_array_equal(found, truth(300))


def test_a_reader_sees_the_earlier_cache_while_more_is_written(tmp_path):
    write(tmp_path, data()[:16])
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(32)), batch_size=512)
    assert len(cache.open(tmp_path, verify="full")) == 16
    np.testing.assert_array_equal(
        predictions_of(tmp_path, range(16)), truth(16)
    )
    ran_on = []
    write(tmp_path, model=teacher(ran_on))
    assert ran_on == list(range(32, SAMPLES))
    assert_right(tmp_path)


def test_a_reader_sees_the_earlier_cache_beside_a_long_part(tmp_path):
    write(tmp_path, data()[:16])
    with pytest.raises(KeyboardInterrupt):
        rest = broken_off(range(6000), data(6000))
        write(tmp_path, rest, shard_samples=500)
    assert samples_of(shards_of(tmp_path)) > 5000
    assert len(cache.open(tmp_path, verify="full")) == 16
    np.testing.assert_array_equal(
        predictions_of(tmp_path, range(16)), truth(16)
    )


def test_a_reader_sees_the_earlier_cache_where_no_merge_is_possible(tmp_path):
    write(tmp_path, data()[:16])
    with refused("missing", "16 to 19"):
        write(tmp_path, batches([*range(16), *range(20, SAMPLES)]))
    for memory in (False, True):
        cached = cache.open(tmp_path, verify="full", memory=memory)
        assert len(cached) == 16
        found = cached.predictions_of(np.arange(16))["output"]
        np.testing.assert_array_equal(found, truth(16))
    ran_on = []
    rest = batches([*range(16), *range(20, SAMPLES), *range(16, 20)])
    write(tmp_path, rest, teacher(ran_on))
    assert ran_on == list(range(16, 20))
    assert_right(tmp_path)


def test_a_writer_does_not_go_on_with_other_data(tmp_path):
    x = data()
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(20)))
    before = all_files(tmp_path)
    for other in (x + 1, x[::-1], np.where(x < 4, x, -x), x.astype("int32")):
        with refused("begun with other data", "check_inputs=False"):
            write(tmp_path, other)
        assert all_files(tmp_path) == before
    ran_on = []
    write(tmp_path, model=teacher(ran_on))
    assert ran_on == list(range(16, SAMPLES))
    assert_right(tmp_path)
    with refused("begun with other data"):
        write(tmp_path, x + 1)
    ran_on.clear()
    write(tmp_path, x + 1, teacher(ran_on), check_inputs=False)
    assert not ran_on


@pytest.mark.skipif(os.name == "nt", reason="limits are POSIX")
def test_a_full_disk(tmp_path, whole):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    settings = dict(batch_size=40, shard_samples=80)
    write(tmp_path / "whole", data(400), **settings)
    sizes = [shard["bytes"] for shard in shards_of(tmp_path / "whole")]
    # Two shards are as large as there is room for, and the third is larger.
    dataset = [
        *batches(range(160), data(400), 80),
        *batches(range(160, 400), data(400), 240),
    ]
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes), limits[1]))
    try:
        with pytest.raises(OSError):
            write(tmp_path / "full", dataset, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    ran_on = []
    write(tmp_path / "full", data(400), teacher(ran_on), **settings)
    assert ran_on == list(range(160, 400))
    found, expected = (all_files(tmp_path / n) for n in ("full", "whole"))
    assert found.keys() == expected.keys()
    for name in expected:  # Not which inputs were looked at.
        assert found[name] == expected[name] or name.endswith(".json")


def test_another_name_is_the_same_teacher(tmp_path):
    # Keras numbers them: another process or cell has other names.
    def scaling():
        return keras.Sequential([keras.layers.Rescaling(1 / 255)])

    for name, keys in HALVES.items():
        model, about = teacher(name=f"{name}_7"), scaling()
        dataset = batches(keys)
        metadata = {"preprocessing": about}
        write(tmp_path, dataset, model, part=name, metadata=metadata)
    cache.merge(tmp_path, samples=SAMPLES)
    found = predictions_of(
        tmp_path,
        teacher=teacher(name="live"),
        metadata={"preprocessing": scaling()},
    )
    np.testing.assert_array_equal(found, truth())


# --- merge -------------------------------------------------------------------


def test_merge_names_what_is_missing(tmp_path):
    write(tmp_path, batches([0, 1, 2, 3, 6, 7, 8, 9]), part="a")
    with refused("missing", "4 to 5", "Write the missing parts"):
        cache.merge(tmp_path)
    with refused("missing", "4 to 5, 10 to 11", "allow_gaps"):
        cache.merge(tmp_path, samples=12)
    assert not (tmp_path / "manifest.json").exists()

    cache.merge(tmp_path, samples=12, allow_gaps=True)
    found = predictions_of(tmp_path, [9, 6, 3])
    np.testing.assert_array_equal(found, truth()[[9, 6, 3]])
    assert len(cache.open(tmp_path)) == 8
    for missing in [4, 10, 12, -1]:
        with refused(f"no predictions for sample {missing}"):
            predictions_of(tmp_path, [0, missing])


def test_merge_does_not_lose_a_part_of_before(tmp_path):
    for part, first in {"a": 0, "b": 8}.items():
        write(tmp_path, batches(range(first, first + 8)), part=part)
    cache.merge(tmp_path)
    shutil.move(tmp_path / "parts/b", tmp_path / "b")
    with refused("would lose samples", "8 in the parts ['a']", "['a', 'b']"):
        cache.merge(tmp_path)
    shutil.move(tmp_path / "b", tmp_path / "parts/b")
    cache.merge(tmp_path)
    np.testing.assert_array_equal(
        predictions_of(tmp_path, range(16)), truth(16)
    )
    shutil.rmtree(tmp_path / "parts/b")
    cache.merge(tmp_path, samples=8)
    assert_right(tmp_path, 8)


def test_a_cache_is_written_anew_where_there_was_a_larger_one(tmp_path):
    write(tmp_path, data()[:24])
    for model, samples in ((teacher(), 20), (dense(), 16)):
        shutil.rmtree(tmp_path / "parts")
        write(tmp_path, data()[:samples], model)
        assert len(cache.open(tmp_path, verify="full")) == samples


def test_merge_refuses_an_unfinished_part(runs, ended, tmp_path):
    shutil.copytree(runs / "two parts", tmp_path / "cache")
    folder = tmp_path / "cache"
    rewrite(
        folder / "parts/odds/part.json",
        lambda content: content.update(finished=False),
    )
    with refused("'odds' is not finished", "again"):
        cache.merge(folder)


def test_merge_refuses_parts_of_several_kinds(tmp_path):
    kinds = {
        "teacher": {"model": dense(2.0)},
        "outputs": {"outputs": cache.Dense("float32")},
        "metadata['preprocessing']": {"metadata": {"preprocessing": "x / 255"}},
        "metadata['class_names']": {
            "metadata": {"class_names": ["a", "b", "c"]}
        },
    }
    write(tmp_path / "a", batches(range(20)), dense(1.0), part="a")
    for number, (key, kind) in enumerate(kinds.items()):
        other, both = tmp_path / f"other {number}", tmp_path / f"both {number}"
        rest = {"dataset": batches(range(20, 40)), "model": dense(1.0), **kind}
        with refused(f"{key} differs", "Write to another folder"):
            write(tmp_path / "a", **rest, part="b")
        rest["dataset"] = batches(range(20, 40))
        write(other, **rest, part="b")
        merge_as(both, a=tmp_path / "a", b=other)
        with refused(f"{key} differs", "Write to another folder"):
            cache.merge(both)
        assert not (both / "manifest.json").exists()


def test_merge_names_what_is_there_twice_or_too_much(tmp_path):
    write(tmp_path, batches(range(12)), part="a")
    with refused("too many", "10 to 11"):
        cache.merge(tmp_path, samples=10)
    write(tmp_path, batches([3, 7, 8, 12]), part="b")
    for arguments in [{}, {"samples": 13}, {"allow_gaps": True}]:
        with refused("more than once", "delete a part") as caught:
            cache.merge(tmp_path, **arguments)
        ranges = re.findall(r"(\d+) to (\d+)", str(caught.value))
        named = [range(int(a), int(b) + 1) for a, b in ranges]
        assert [number for each in named for number in each] == [3, 7, 8]


@pytest.mark.parametrize("name", ["index-*.npy", "manifest.json"])
def test_a_merge_that_was_killed_is_made_again(name, tmp_path, monkeypatch):
    replace = os.replace

    def killed(source, target):
        if pathlib.Path(target).match(name):
            raise KeyboardInterrupt
        replace(source, target)

    write(tmp_path, batches(range(20)), part="a")
    cache.merge(tmp_path)
    write(tmp_path, batches(range(20, SAMPLES)), part="b")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.merge(tmp_path)
    assert len(cache.open(tmp_path, verify="full")) == 20  # The earlier one.
    np.testing.assert_array_equal(
        predictions_of(tmp_path, range(20)), truth(20)
    )
    cache.merge(tmp_path, samples=SAMPLES)
    assert_right(tmp_path)


def test_a_reader_of_before_a_merge_goes_on_in_its_workers(tmp_path):
    pickled, indexes = [], []
    for end in [10, 20, 30, 40]:
        write(tmp_path, batches(range(end)))
        pickled.append(pickle.dumps(cache.open(tmp_path, verify="sizes")))
        cache.merge(tmp_path)  # Once more: it is the same.
        for each, samples in zip(
            pickled[-2:], [end - 10, end][-len(pickled) :]
        ):
            cached = pickle.loads(each)
            assert len(cached) == samples
            found = cached.predictions_of(np.arange(samples))["output"]
            np.testing.assert_array_equal(found, truth(samples))
        indexes.append(len(list(tmp_path.glob("index*"))))
    assert indexes == [1, 2, 2, 2]


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_only_an_index_of_ours_is_removed(place, tmp_path):
    folder = tmp_path / "cache"
    write(folder, batches(range(10)))
    kept = folder / "index-mine.npy"
    if place == "outside":
        kept = tmp_path / "index-12345678.npy"
        rewrite(
            folder / "manifest.json",
            lambda content: content["index"].update(file=f"../{kept.name}"),
        )
    kept.write_bytes(b"mine")
    for end in [20, 30]:
        write(folder, batches(range(end)))
    assert kept.read_bytes() == b"mine"


def test_a_merge_repairs_a_manifest_that_is_damaged(copy):
    manifest = (copy / "manifest.json").read_bytes()
    for damaged in [b"", manifest[:-9], b"{}", b'{"format": 99}']:
        (copy / "manifest.json").write_bytes(damaged)
        cache.merge(copy)
        assert (copy / "manifest.json").read_bytes() == manifest
        assert_right(copy)


def test_merge_of_nothing(tmp_path):
    with refused("nothing to merge"):
        cache.merge(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/.DS_Store").write_text("windows")
    with refused("nothing to merge"):
        cache.merge(tmp_path)


def test_what_is_no_part_is_passed_over(copy, tmp_path):
    (copy / "parts/.DS_Store").write_text("windows")
    (copy / "parts/notes.txt").write_text("of mine")
    write(tmp_path / "other", model=dense())
    shutil.copytree(tmp_path / "other/parts/0", copy / "parts/.trash")
    manifest = (copy / "manifest.json").read_bytes()
    cache.merge(copy)
    assert (copy / "manifest.json").read_bytes() == manifest
    write(copy, batches(HALVES["odds"]), part="odds")

    (copy / "parts/empty").mkdir()
    with refused("'empty'", "no file part.json"):
        cache.merge(copy)
    (copy / "parts/empty").rmdir()
    (copy / "parts/lost").symlink_to(tmp_path / "nowhere")
    with refused("lost"):
        cache.merge(copy)


# --- damage ------------------------------------------------------------------


def flips(content, first=0, end=None):
    """Copies of a file's content, each with one bit flipped."""
    generator = np.random.default_rng(0)
    end = len(content) if end is None else end
    for _ in range(FLIPS):
        place = int(generator.integers(first, end))
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        yield place, bytes(flipped)


def assert_flips_are_found(folder, name, use, words, **span):
    """Each flip is refused with these words, or changes nothing."""
    files, found = all_files(folder), 0
    for place, flipped in flips(files[name], **span):
        (folder / name).write_bytes(flipped)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, about headers.
                use(folder)
        except Exception as error:
            found += 1
            said = f"at {place}: {error!r}"
            assert type(error) is ValueError, said
            assert re.search(words, str(error), re.DOTALL), said
        else:
            (folder / name).write_bytes(files[name])
            for other, content in all_files(folder).items():
                same = content == files[other]
                assert same, f"{other} differs by {name} at {place}"
            assert_right(folder)
        put_back(folder, files)
    return found


def read_all(folder):
    assert_right(folder)


SHARD_OF_ODDS = "parts/odds/00001-*.npy"


@pytest.mark.parametrize(
    "name,words",
    [
        ("manifest.json", r"manifest .*(Copy|merge)|format \d+.*Install"),
        ("index-*.npy", "index .*(Copy|merge)"),
        (SHARD_OF_ODDS, "'odds'.*Copy"),
    ],
)
def test_flipped_bits_are_found_when_opening(name, words, copy):
    name = name_of(copy, name)
    assert assert_flips_are_found(copy, name, read_all, words) > FLIPS / 2


def test_flipped_bits_in_the_header_are_found(copy):
    name, words = name_of(copy, SHARD_OF_ODDS), "'odds'.*Copy"
    shard = shards_of(copy, "odds")[1]
    header = shard["bytes"] - 14 * shard["samples"]
    for use in (read_all, cache.merge):
        found = assert_flips_are_found(copy, name, use, words, end=header)
        assert found == FLIPS


@pytest.mark.parametrize("other", [b">i8", b"<m8", b"<u8"])
def test_flipped_types_are_found(other, copy):
    # The same bytes would be other numbers.
    files = all_files(copy)
    for name, about in {
        name_of(copy, "index-*.npy"): "index",
        name_of(copy, SHARD_OF_ODDS): "'odds'",
    }.items():
        changed = files[name].replace(b"<i8", other)
        assert changed != files[name]
        (copy / name).write_bytes(changed)
        with refused(about, "Copy"):
            cache.open(copy)
        # A header that isn't looked at misleads nobody.
        if "odds" in name:
            found = predictions_of(copy, verify="sizes")
            np.testing.assert_array_equal(found, truth())
        put_back(copy, files)


@pytest.mark.parametrize("file", [SHARD_OF_ODDS, "parts/odds/part.json"])
def test_flipped_bits_are_found_when_merging(file, copy):
    words, name = "'odds'.*(Copy|delete)", name_of(copy, file)
    assert assert_flips_are_found(copy, name, cache.merge, words) > FLIPS / 3


@pytest.mark.parametrize("file", ["part.json", "00000-*.npy"])
def test_flipped_bits_are_found_when_writing_on(file, runs, ended, tmp_path):
    folder = shutil.copytree(runs / "within 5", tmp_path / "cache")
    (path,) = (folder / "parts/0").glob(file)
    content = path.read_bytes()
    flipped = bytearray(content)
    # In a value of the settings; in the first record's own number.
    place = {
        "part.json": content.find(b"float16"),
        "00000-*.npy": content.find(b"\n") + 1 + 5,
    }[file]
    flipped[place] ^= 1
    path.write_bytes(flipped)
    ran_on = []
    with refused("'0'", "elete"):
        write(folder, model=teacher(ran_on))
    assert not ran_on


def test_flipped_bits_in_a_large_cache_are_found_in_full(tmp_path):
    def wide(x):
        return np.repeat(x[:, :1], 2**20, axis=1)

    model = kd.teachers.FunctionTeacher(wide, (4,), 2**20, version="1")
    # 80 shards of 4 MB each: more than is looked at.
    settings = dict(outputs=cache.Dense("float32"), shard_samples=1)
    write(tmp_path, batches(range(80), batch=1), model, **settings)
    shards = sorted((tmp_path / "parts/0").glob("*.npy"))
    for path, verified in [(shards[0], True), (shards[1], False)]:
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 4]) + content[-1:])
        if verified:
            with refused("'0'", "Copy"):
                cache.open(tmp_path)
        else:
            cache.open(tmp_path)  # It checks some of the shards.
        with refused("'0'", "Copy"):
            cache.open(tmp_path, verify="full")
        path.write_bytes(content)
    cache.open(tmp_path, verify="full")


@pytest.mark.parametrize("left", [0, 0.5, -1, -100])
def test_a_shard_that_is_cut_off(left, copy):
    path = copy / name_of(copy, SHARD_OF_ODDS)
    content = path.read_bytes()
    end = left if left <= 0 else int(left * len(content))
    path.write_bytes(content[:end])
    size = f"expected {len(content)}"
    for verify in ["auto", "full", "sizes"]:
        with refused("'odds'", size, "Copy"):
            cache.open(copy, memory=True, verify=verify)
    with refused("'odds'", size, "Copy"):
        cache.merge(copy)
    with refused("'odds'", size, "delete"):
        write(copy, batches(HALVES["odds"]), part="odds")


def test_files_that_are_missing(copy):
    files = all_files(copy)
    for name in ["manifest.json", "index-*.npy", SHARD_OF_ODDS]:
        name = name_of(copy, name)
        (copy / name).unlink()
        with refused(name, "copy the whole folder"):
            cache.open(copy)
        if "odds" in name:
            with refused("'odds'", "Copy"):
                cache.merge(copy)
            with refused("'odds'", "delete"):
                write(copy, batches(HALVES["odds"]), part="odds")
        put_back(copy, files)
    (copy / "parts/odds/part.json").unlink()
    with refused("'odds'", "part.json"):
        cache.merge(copy)


def test_a_part_that_has_lost_its_description(tmp_path):
    write(tmp_path, batches(range(20)), part="a")
    write(tmp_path, batches(range(20, 40)), part="b")
    (tmp_path / "parts/b/part.json").unlink()
    # Without samples=40 nothing else would tell that 20 to 39 are lost.
    with refused("'b'", "part.json"):
        cache.merge(tmp_path)
    with refused("'b'", "part.json"):
        write(tmp_path, batches(range(20, 44)), part="b")


def test_empty_files_are_refused(copy):
    files = all_files(copy)
    for name, words in {
        "manifest.json": ["manifest"],
        name_of(copy, "index-*.npy"): ["index"],
        name_of(copy, SHARD_OF_ODDS): ["'odds'"],
    }.items():
        (copy / name).write_bytes(b"")
        with refused(*words, "Copy"):
            cache.open(copy)
        put_back(copy, files)
    for name in [SHARD_OF_ODDS, "parts/odds/part.json"]:
        name = name_of(copy, name)
        (copy / name).write_bytes(b"")
        with refused("'odds'"):
            cache.merge(copy)
        put_back(copy, files)


def test_swapped_parts_are_refused(copy):
    evens, odds = copy / "parts/evens", copy / "parts/odds"
    files = all_files(copy)
    first, second = (name_of(copy, f"parts/{p}/00001-*") for p in HALVES)
    put_back(copy, {first: files[second], second: files[first]})
    with refused("'evens'", "Copy"):
        cache.open(copy)
    with refused("'evens'", "Copy"):
        cache.merge(copy)
    with refused("not those of the samples", "verify='full'"):
        predictions_of(copy, verify="sizes")
    put_back(copy, files)
    evens.rename(copy / "parts/third")
    odds.rename(evens)
    (copy / "parts/third").rename(odds)
    with refused("parts/evens", "copy the whole folder"):
        cache.open(copy)
    # Names are free: what is whole in itself may be merged anew.
    cache.merge(copy)
    assert_right(copy)


@pytest.mark.parametrize("other", ["shard of another part", "foreign array"])
def test_a_foreign_file_of_the_same_size_is_refused(other, copy):
    path = copy / name_of(copy, SHARD_OF_ODDS)
    content = all_files(copy)[name_of(copy, "parts/evens/00000-*.npy")]
    if other == "foreign array":
        content = os.urandom(len(content))
    assert len(content) == path.stat().st_size
    path.write_bytes(content)
    for use in (cache.open, cache.merge):
        with refused("'odds'", "another checksum", "Copy"):
            use(copy)


# --- hostile files -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../evil", "{absolute}", "x/../../../evil"]
)
def test_a_manifest_may_not_lead_out_of_its_folder(name, copy, tmp_path):
    evil = tmp_path / "evil"
    (copy / "parts/x").mkdir()
    shutil.copytree(copy / "parts/evens", evil)
    name = name.format(absolute=evil)

    def change(content):
        content["parts"][0]["name"] = name

    rewrite(copy / "manifest.json", change)
    for verify in ["auto", "sizes"]:
        with refused("manifest.json", f"parts[0].name={json.dumps(name)}"):
            cache.open(copy, verify=verify)


@pytest.mark.parametrize(
    "name", ["../index.npy", "{absolute}", "x/../../index.npy"]
)
def test_an_index_may_not_lie_out_of_its_folder(name, copy, tmp_path):
    index = copy / name_of(copy, "index-*.npy")
    evil = shutil.copy(index, tmp_path / "index.npy")
    name = name.format(absolute=evil)
    rewrite(
        copy / "manifest.json",
        lambda content: content["index"].update(file=name),
    )
    with refused("manifest.json", f"index.file={json.dumps(name)}"):
        cache.open(copy)


@pytest.mark.parametrize("linked", ["parts", "parts/odds", SHARD_OF_ODDS])
def test_a_link_may_not_lead_out_of_the_folder(linked, copy, tmp_path):
    linked = name_of(copy, linked)
    (copy / linked).rename(tmp_path / "evil")
    (copy / linked).symlink_to(tmp_path / "evil")
    with refused("without links"):
        cache.open(copy)
    # A merged cache can be opened.
    with refused("without links"):
        cache.merge(copy)


class Evil:
    """Shows whether it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["objects", "pickle", "zip"])
@pytest.mark.parametrize("name", ["index-*.npy", SHARD_OF_ODDS])
def test_no_file_is_unpickled(kind, name, copy, tmp_path):
    evil, path = Evil(tmp_path / "touched"), copy / name_of(copy, name)
    size = path.stat().st_size
    objects = np.array([evil] * SHARD, dtype=object)
    with path.open("wb") as file:
        if kind == "objects":
            np.save(file, objects, allow_pickle=True)
        elif kind == "zip":
            np.savez(file, objects=objects)
        else:
            pickle.dump([evil], file)
    with path.open("ab") as file:
        file.write(bytes(max(0, size - path.stat().st_size)))
    about = "'odds'" if "odds" in name else "index"
    for verify in ("auto", "full"):
        with refused(about, "Copy"):
            cache.open(copy, verify=verify)
    with contextlib.suppress(ValueError):
        predictions_of(copy, verify="sizes")
    if "odds" in name:
        with refused(about, "Copy"):
            cache.merge(copy)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '"x"', "\x80"])
def test_a_manifest_that_is_none(text, copy):
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with refused("manifest", "Copy"):
        cache.open(copy)


def test_a_later_format_is_refused(copy):
    rewrite(copy / "manifest.json", lambda content: content.update(format=99))
    with refused("format 99", "expected 1", "Install the version"):
        cache.open(copy)


@pytest.mark.parametrize("part", ["..", "a/b", "/etc", "", "a\n", 0])
def test_a_part_may_not_lead_out_of_the_folder(part, tmp_path):
    with refused("part's name", repr(part)):
        write(tmp_path, part=part)
    assert not list(tmp_path.iterdir())


def test_a_cache_is_not_written_far_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("memory://bucket/cache", "local"):
        write("memory://bucket/cache")
    with refused("memory://bucket/cache", "local"):
        cache.merge("memory://bucket/cache")
    assert not list(tmp_path.iterdir())


# --- wrong data --------------------------------------------------------------


@pytest.mark.parametrize("case", ["arrays", "batches"])
def test_a_cache_of_nothing(case, tmp_path):
    nothing = data()[:0] if case == "arrays" else iter(())
    with refused("nothing to"):
        write(tmp_path, nothing)
    write(tmp_path)
    assert_right(tmp_path)


def test_a_data_set_that_repeats(tmp_path, whole):
    def repeated():
        while True:
            yield from batches(range(SAMPLES))

    with refused("more than once", "sample 0 again", "without `repeat`"):
        write(tmp_path, repeated(), batch_size=512)
    ran_on = []
    write(tmp_path, model=teacher(ran_on))
    assert ran_on == []
    assert_same_files(tmp_path, whole)


X = data(4)


@pytest.mark.parametrize(
    "x,keys,words",
    [
        (X, [0, 1, 2, 2], ["more than once", "sample 2 again"]),
        (X, [0, 1, -3, 2], ["from 0", "-3"]),
        (X, [0, 0.5, 1, 2], ["integer"]),
        (X, [0, 1, 2, 10**15], ["1000000000000000"]),
        (X, [0, 1, 2], ["4", "3", "index of its own"]),
        (X, [0], ["4", "1", "index of its own"]),
        (X[:1], [0, 1, 2, 3], ["4", "1", "index of its own"]),
        (X, [[0], [1], [2], [3]], ["(4, 1)", "sample_index"]),
    ],
)
def test_ids_that_are_none(x, keys, words, tmp_path):
    with refused(*words):
        write(tmp_path, [(x, {"sample_index": np.array(keys)})])
    assert not (tmp_path / "manifest.json").exists()


def test_batches_without_ids(tmp_path):
    with refused("needs its index", "sample_index"):
        write(tmp_path, [(X, np.zeros(4))])


def test_views_that_are_none(tmp_path):
    views = cache.AugmentedViews(
        data(), augment=lambda x, u: x + u, count=2, draws=1
    )
    write(tmp_path, views)
    assert predictions_of(tmp_path, [39], view=1).shape == (1, 3)
    for view in [2, -1]:
        with refused("view", str(view)):
            predictions_of(tmp_path, [1], view=view)


def test_data_that_the_teacher_did_not_see(whole):
    cached = cache.open(whole)
    x, wrong = data(), []
    wrong += [x + 1, x[::-1], x.astype("float64"), x.reshape(-1, 2, 2)]
    wrong += [x.astype("uint8"), np.roll(x, 1, axis=0)]
    for other in wrong:
        with refused("not what the teacher", "check_inputs=False"):
            cached.join(other)
        index = np.arange(SHARD)
        with refused("not what the teacher", "check_inputs=False"):
            cached.add_to((other[index], {"sample_index": index}))
        unchecked = cache.open(whole, check_inputs=False).join(other)
        _, y = unchecked[0]
        found = y["predictions"][unchecked.cache.tag]["output"]["values"]
        np.testing.assert_array_equal(found, truth()[:32])
    cached.join(x)
    with refused("not what the teacher"):
        cached.join(x, sample_index=np.roll(np.arange(SAMPLES), 1))
    with refused(f"no predictions for sample {SAMPLES}"):
        cached.join(data(SAMPLES + 1), batch_size=64)[0]


def adapted_to(scale):
    layer = keras.layers.Normalization()
    layer.adapt(scale * data())
    return layer


@pytest.mark.parametrize(
    "key,written,other",
    [
        ("class_names", ["a", "b", "c"], ["a", "c", "b"]),
        ("class_names", np.array(["a", "b", "c"]), np.array(["a", "c", "b"])),
        ("preprocessing", {"scale": 1}, {"scale": 2}),
        ("preprocessing", adapted_to(1.0), adapted_to(2.0)),
        ("dataset_id", "digits 1", "digits 2"),
        ("a name of my own", ["x", 1], ["x", 2]),
    ],
)
def test_a_cache_of_other_things(key, written, other, tmp_path):
    write(tmp_path, data()[:BATCH], metadata={key: written})
    cached = cache.open(tmp_path, metadata={key: written})
    assert list(cached.metadata) == [key]
    cache.open(tmp_path, metadata={key: None})
    with refused(f"another {key}", "Open the cache that belongs"):
        cache.open(tmp_path, metadata={key: other})
    with refused("another more"):
        cache.open(tmp_path, metadata={key: written, "more": 1})
    with refused(f"metadata[{key!r}] differs", "Write to another folder"):
        write(tmp_path, data()[:BATCH], metadata={key: other})


def test_metadata_that_json_does_not_hold(tmp_path):
    metadata = {"preprocessing": keras.ops.softmax}
    with refused("metadata['preprocessing']", "softmax", "Name it"):
        write(tmp_path, metadata=metadata)
    assert not all_files(tmp_path)
    write(tmp_path)
    with refused("metadata['preprocessing']", "Name it"):
        cache.open(tmp_path, metadata=metadata)


# --- the teacher -------------------------------------------------------------


def test_a_teacher_that_was_changed(tmp_path):
    model = dense()
    write(tmp_path, model=model)
    cache.open(tmp_path, teacher=model)
    kernel, bias = model.get_weights()
    kernel[0, 0] = np.nextafter(kernel[0, 0], 1, dtype="float32")
    model.set_weights([kernel, bias])
    with refused(
        "another teacher's predictions", "fingerprint", "Load the weights"
    ):
        cache.open(tmp_path, teacher=model)
    with refused("teacher differs", "Write to another folder"):
        write(tmp_path, model=model)


def test_predictions_that_are_not_finite(tmp_path):
    write(tmp_path / "whole", model=dense())
    x, folder = data(), tmp_path / "cache"
    x[21, 2] = np.nan
    with refused("[21]", "not finite", "what was stored before is kept"):
        write(folder, x, dense())

    # With the data repaired it goes on; a repaired teacher is another one.
    with refused("teacher differs", "delete this one"):
        write(folder, data(), dense(2.0))
    stored = {path: path.stat() for path in folder.rglob("*.npy")}
    assert len(stored) == 2
    write(folder, data(), dense())
    for path, before in stored.items():
        assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert_same_files(folder, tmp_path / "whole")


def test_the_last_predictions_are_checked_too(tmp_path):
    # They are stored while the teacher runs on the next: of these is none.
    x = data()
    x[-1, 2] = np.nan
    with refused(f"[{SAMPLES - 1}]", "not finite"):
        write(tmp_path, x, dense())
    write(tmp_path, data(), dense())
    np.testing.assert_array_equal(predictions_of(tmp_path), data()[:, 1:])


def test_scales_are_not_learned_from_what_is_not_finite(tmp_path):
    x = data()
    x[21, 2] = np.nan
    with refused("[21]", "not finite"):
        write(tmp_path, x, dense(), outputs=cache.Int8())
    write(tmp_path, data(), dense(), outputs=cache.Int8())
    expected = data()[:, 1:]
    error = np.abs(predictions_of(tmp_path) - expected)
    assert (error <= 0.5001 * expected.max(axis=0) / 127).all()


def test_predictions_that_overflow(tmp_path):
    with refused("too large for float16", "'bfloat16'", "'float32'"):
        write(tmp_path / "float16", model=dense(1e6))
    outputs = cache.Dense("float32")
    write(tmp_path / "float32", model=dense(1e6), outputs=outputs)
    found = predictions_of(tmp_path / "float32")
    expected = np.float32(1e6) * data()[:, 1:]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
