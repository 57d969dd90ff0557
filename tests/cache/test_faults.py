"""What may go wrong with a cache: kills, damage, wrong data, wrong teachers.

Each is refused with an error that says what to do, or mended by writing again.
"""

import contextlib
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import writing_run
from writing_run import BATCH
from writing_run import HALVES
from writing_run import SAMPLES
from writing_run import SHARD
from writing_run import batches
from writing_run import data
from writing_run import teacher
from writing_run import truth
from writing_run import write

import keras_kd as kd
from keras_kd import cache
from keras_kd._src.cache import part as parts
from keras_kd._src.cache import stored_records
from keras_kd._src.cache import writer
from keras_kd._src.cache.asking import AskedTeacher
from keras_kd._src.cache.sealed import sealed
from keras_kd._src.cache.sealed import unsealed

COMMITTED = {  # Samples that a killed writer has saved from being asked again.
    "after a commit": 2 * SHARD,
    "within records": 2 * SHARD,
    "between records": 2 * SHARD,
    "between records and line": 2 * SHARD,
    "within a line": 2 * SHARD,
    "before the last line": SAMPLES,
    "before the part": 0,
    "before the index": SAMPLES,
    "before the manifest": SAMPLES,
}
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
    """The one file of a pattern: an index is named after what it says."""
    (path,) = folder.glob(pattern)
    return path.relative_to(folder).as_posix()


def put_back(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def answers_of(folder, keys=range(SAMPLES), view=None, **arguments):
    answers = cache.open(folder, **arguments)
    return answers.views(np.array(keys), view)["output"]


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
    folder = tmp_path_factory.mktemp("whole") / "answers"
    write(folder)
    return folder


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A cache of two parts."""
    folder = tmp_path_factory.mktemp("halves") / "answers"
    for name, keys in HALVES.items():
        write(folder, batches(keys), part=name)
    cache.merge(folder)
    return folder


@pytest.fixture
def copy(halves, tmp_path):
    return shutil.copytree(halves, tmp_path / "answers")


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


@pytest.mark.parametrize("moment", COMMITTED)
def test_a_killed_writer_goes_on_where_it_ended(
    moment, runs, ended, whole, tmp_path
):
    folder = shutil.copytree(runs / moment, tmp_path / "answers")
    assert ended[moment] == -9
    with refused("manifest.json", "Make the same call"):
        cache.open(folder)

    asked = []
    write(folder, asker=teacher(asked))
    assert asked == list(range(COMMITTED[moment], SAMPLES))
    assert_same_files(folder, whole)
    np.testing.assert_array_equal(answers_of(folder, verify="full"), truth())


def test_a_writer_goes_on_in_another_order_and_other_batches(runs, tmp_path):
    shuffled = np.random.default_rng(2).permutation(SAMPLES)
    others = {
        "order": {"dataset": batches(shuffled)},
        "batches": {"batch_size": 7, "shard_samples": 9},
    }
    for name, other in others.items():
        folder = shutil.copytree(runs / "within a line", tmp_path / name)
        write(folder, **other)
        assert len(cache.open(folder)) == SAMPLES
        np.testing.assert_array_equal(answers_of(folder), truth())


def test_a_second_process_may_not_write_the_same_part(runs, ended, whole):
    assert ended["second"] == ended["first"] == 0
    said = (runs / "said.txt").read_text()
    assert "Another process is writing the part" in said
    assert "give each writer its own `part`" in said
    np.testing.assert_array_equal(answers_of(runs / "one part"), truth())
    rows = "parts/0/rows.npy"
    assert all_files(runs / "one part")[rows] == all_files(whole)[rows]


def test_a_second_process_leaves_the_first_ones_scales_alone(tmp_path):
    class Slow(cache.Int8):
        def calibrate(self, arrays):
            with refused("Another process is writing"):
                write(tmp_path, 10 * data(), outputs=cache.Int8())
            return super().calibrate(arrays)

    write(tmp_path, outputs=Slow())
    scale = truth().max(axis=0) / 127
    error = np.abs(answers_of(tmp_path) - truth())
    assert (error <= 0.5001 * scale).all()


def test_two_processes_may_write_two_parts_at_once(
    runs, ended, halves, tmp_path
):
    folder = shutil.copytree(runs / "two parts", tmp_path / "answers")
    assert ended["two parts"] == [0, 0]
    with refused("manifest.json"):
        cache.open(folder)
    cache.merge(folder, samples=SAMPLES)
    assert_same_files(folder, halves)
    shuffled = np.random.default_rng(0).permutation(SAMPLES)
    found = answers_of(folder, shuffled, verify="full")
    np.testing.assert_array_equal(found, truth()[shuffled])


def test_samples_in_any_order_over_parts(tmp_path):
    shuffled = np.random.default_rng(1).permutation(400)
    for name, keys in {"a": shuffled[:150], "b": shuffled[150:]}.items():
        dataset = batches(keys, data(400), 50)
        write(tmp_path, dataset, part=name, shard_samples=100)
    cache.merge(tmp_path, samples=400)
    found = answers_of(tmp_path, range(400))
    np.testing.assert_array_equal(found, truth(400))


def broken_off(keys, x=None):
    yield from batches(keys, data() if x is None else x)
    raise KeyboardInterrupt


def test_scales_stay_as_they_were_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "CALIBRATION_SAMPLES", BATCH)
    settings = dict(outputs=cache.Int8())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(39, 19, -1)), **settings)
    # The first batch would now give smaller scales.
    write(tmp_path, batches(range(SAMPLES)), **settings)
    scale = truth().max(axis=0) / 127
    error = np.abs(answers_of(tmp_path) - truth())
    assert (error <= 0.5001 * scale).all()


def test_scales_are_learnt_from_as_many_samples_in_batches_of_any_size(
    tmp_path,
):
    x, scales = data(600), []
    for batch in (4, 512, 600):
        folder = tmp_path / str(batch)
        write(folder, batches(range(600), x, batch), outputs=cache.Int8())
        (part,) = cache.open(folder).manifest.parts
        scales.append(part["constants"]["output"]["scale"])
    for scale, samples in zip(scales, (512, 512, 600)):
        expected = truth(samples).max(axis=0) / 127
        np.testing.assert_allclose(scale, expected, rtol=1e-6)


def test_a_slow_teacher_is_stored_before_its_shard_is_full(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(parts, "COMMIT_SECONDS", -1)
    with pytest.raises(KeyboardInterrupt):
        write(
            tmp_path, broken_off(range(12)), batch_size=512, shard_samples=None
        )
    asked = []
    write(tmp_path, asker=teacher(asked))
    assert asked == list(range(12, SAMPLES))


def test_a_reader_sees_the_earlier_cache_while_more_is_written(tmp_path):
    write(tmp_path, data()[:16])
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(32)), batch_size=512)
    assert len(cache.open(tmp_path, verify="full")) == 16
    np.testing.assert_array_equal(answers_of(tmp_path, range(16)), truth(16))
    asked = []
    write(tmp_path, asker=teacher(asked))
    assert asked == list(range(32, SAMPLES))
    np.testing.assert_array_equal(answers_of(tmp_path), truth())


def test_a_reader_sees_the_earlier_cache_beside_a_long_part(tmp_path):
    # More is added than a header takes up.
    write(tmp_path, data()[:16])
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(6000), data(6000)))
    assert (tmp_path / "parts/0/rows.npy").stat().st_size > 2**16
    assert len(cache.open(tmp_path, verify="full")) == 16
    np.testing.assert_array_equal(answers_of(tmp_path, range(16)), truth(16))


def test_a_reader_sees_the_earlier_cache_where_no_merge_is_possible(tmp_path):
    write(tmp_path, data()[:16])
    with refused("missing", "16 to 19"):
        write(tmp_path, batches([*range(16), *range(20, SAMPLES)]))
    for memory in (False, True):
        answers = cache.open(tmp_path, verify="full", memory=memory)
        assert len(answers) == 16
        found = answers.views(np.arange(16))["output"]
        np.testing.assert_array_equal(found, truth(16))
    asked = []
    rest = batches([*range(16), *range(20, SAMPLES), *range(16, 20)])
    write(tmp_path, rest, teacher(asked))
    assert asked == list(range(16, 20))
    np.testing.assert_array_equal(answers_of(tmp_path), truth())


def test_a_writer_does_not_go_on_with_other_data(tmp_path):
    x = data()
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, broken_off(range(20)))
    journal = tmp_path / "parts/0/shards.jsonl"
    before = journal.read_bytes()
    for other in (x + 1, x[::-1], np.where(x < 4, x, -x), x.astype("int32")):
        with refused("begun with other data", "check_inputs=False"):
            write(tmp_path, other)
        assert journal.read_bytes() == before
    asked = []
    write(tmp_path, asker=teacher(asked))
    assert asked == list(range(16, SAMPLES))
    np.testing.assert_array_equal(answers_of(tmp_path), truth())
    with refused("begun with other data"):
        write(tmp_path, x + 1)
    asked.clear()
    write(tmp_path, x + 1, teacher(asked), check_inputs=False)
    assert not asked


@pytest.mark.skipif(os.name == "nt", reason="limits are POSIX")
def test_a_full_disk(tmp_path, whole):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write(tmp_path / "whole", data(400), batch_size=40, shard_samples=80)
    size = (tmp_path / "whole/parts/0/rows.npy").stat().st_size
    records = size - 14 * 400
    # Two shards fit, and half of the third.
    resource.setrlimit(resource.RLIMIT_FSIZE, (records + 14 * 200, limits[1]))
    try:
        with pytest.raises(OSError):
            write(tmp_path / "full", data(400), batch_size=40, shard_samples=80)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    asked = []
    write(
        tmp_path / "full",
        data(400),
        teacher(asked),
        batch_size=40,
        shard_samples=80,
    )
    assert asked == list(range(160, 400))
    assert_same_files(tmp_path / "full", tmp_path / "whole")


def test_another_name_is_the_same_teacher(tmp_path):
    # Keras numbers them: another process or cell has other names.
    def scaling():
        return keras.Sequential([keras.layers.Rescaling(1 / 255)])

    for name, keys in HALVES.items():
        asker, about = teacher(name=f"{name}_7"), scaling()
        dataset = batches(keys)
        write(tmp_path, dataset, asker, part=name, preprocessing=about)
    cache.merge(tmp_path, samples=SAMPLES)
    found = answers_of(
        tmp_path, teacher=teacher(name="live"), preprocessing=scaling()
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
    found = answers_of(tmp_path, [9, 6, 3])
    np.testing.assert_array_equal(found, truth()[[9, 6, 3]])
    assert len(cache.open(tmp_path)) == 8
    for missing in [4, 10, 12, -1]:
        with refused(f"no answer for sample {missing}"):
            answers_of(tmp_path, [0, missing])


def test_merge_does_not_lose_a_part_of_before(tmp_path):
    for part, first in {"a": 0, "b": 8}.items():
        write(tmp_path, batches(range(first, first + 8)), part=part)
    cache.merge(tmp_path)
    shutil.move(tmp_path / "parts/b", tmp_path / "b")
    with refused("would lose samples", "8 in the parts ['a']", "['a', 'b']"):
        cache.merge(tmp_path)
    shutil.move(tmp_path / "b", tmp_path / "parts/b")
    cache.merge(tmp_path)
    np.testing.assert_array_equal(answers_of(tmp_path, range(16)), truth(16))
    shutil.rmtree(tmp_path / "parts/b")
    cache.merge(tmp_path, samples=8)
    np.testing.assert_array_equal(answers_of(tmp_path, range(8)), truth(8))


def test_a_cache_is_written_anew_where_there_was_a_larger_one(tmp_path):
    write(tmp_path, data()[:24])
    for asker, samples in ((teacher(), 20), (dense(), 16)):
        shutil.rmtree(tmp_path / "parts")
        write(tmp_path, data()[:samples], asker)
        assert len(cache.open(tmp_path, verify="full")) == samples


def test_merge_refuses_an_unfinished_part(runs, ended, tmp_path):
    shutil.copytree(runs / "two parts", tmp_path / "answers")
    folder = tmp_path / "answers"
    journal = folder / "parts/odds/shards.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(True)[:-1]))
    with refused("'odds' is not finished", "again"):
        cache.merge(folder)


def test_merge_refuses_parts_of_several_kinds(tmp_path):
    kinds = {
        "teacher": {"asker": dense(2.0)},
        "outputs": {"outputs": cache.Dense("float32")},
        "preprocessing": {"preprocessing": "x / 255"},
        "class_names": {"class_names": ["a", "b", "c"]},
    }
    write(tmp_path / "a", batches(range(20)), dense(1.0), part="a")
    for key, kind in kinds.items():
        rest = {"dataset": batches(range(20, 40)), "asker": dense(1.0), **kind}
        with refused(f"{key} differs", "Write to another folder"):
            write(tmp_path / "a", **rest, part="b")
        rest["dataset"] = batches(range(20, 40))
        write(tmp_path / key, **rest, part="b")
        both = merge_as(
            tmp_path / f"both {key}", a=tmp_path / "a", b=tmp_path / key
        )
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
    np.testing.assert_array_equal(answers_of(tmp_path, range(20)), truth(20))
    cache.merge(tmp_path, samples=SAMPLES)
    np.testing.assert_array_equal(answers_of(tmp_path), truth())


def test_a_reader_of_before_a_merge_goes_on_in_its_workers(tmp_path):
    pickled, indexes = [], []
    for end in [10, 20, 30, 40]:
        write(tmp_path, batches(range(end)))
        pickled.append(pickle.dumps(cache.open(tmp_path, verify="sizes")))
        cache.merge(tmp_path)  # Once more: it is the same.
        for each, samples in zip(
            pickled[-2:], [end - 10, end][-len(pickled) :]
        ):
            answers = pickle.loads(each)
            assert len(answers) == samples
            told = answers.views(np.arange(samples))["output"]
            np.testing.assert_array_equal(told, truth(samples))
        indexes.append(len(list(tmp_path.glob("index*"))))
    assert indexes == [1, 2, 2, 2]


def unnamed(folder):
    """Makes the index of a cache what it was before it had a name."""

    def forget(content):
        (folder / content["index"].pop("name")).rename(folder / "index.npy")

    changed_manifest(folder, forget)


def test_a_cache_of_before_its_index_had_a_name(tmp_path):
    write(tmp_path, batches(range(10)))
    unnamed(tmp_path)
    np.testing.assert_array_equal(
        answers_of(tmp_path, range(10), verify="full"), truth(10)
    )
    pickled = pickle.dumps(cache.open(tmp_path))
    for end in [20, 30]:
        write(tmp_path, batches(range(end)))
        np.testing.assert_array_equal(
            answers_of(tmp_path, range(end), verify="full"), truth(end)
        )
        if end == 20:
            assert len(pickle.loads(pickled)) == 10
    assert not (tmp_path / "index.npy").exists()


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_only_an_index_of_ours_is_removed(place, tmp_path):
    folder = tmp_path / "answers"
    write(folder, batches(range(10)))
    kept = folder / "index-mine.npy"
    if place == "outside":
        kept = tmp_path / "index-12345678.npy"
        changed_manifest(
            folder,
            lambda content: content["index"].update(name=f"../{kept.name}"),
        )
    kept.write_bytes(b"mine")
    for end in [20, 30]:
        write(folder, batches(range(end)))
    assert kept.read_bytes() == b"mine"


def test_a_merge_mends_a_manifest_that_is_damaged(copy):
    manifest = (copy / "manifest.json").read_bytes()
    for damaged in [b"", manifest[:-9], b"{}", b'{"format": 99}']:
        (copy / "manifest.json").write_bytes(damaged)
        cache.merge(copy)
        assert (copy / "manifest.json").read_bytes() == manifest
        np.testing.assert_array_equal(answers_of(copy), truth())


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
    write(tmp_path / "other", asker=dense())
    shutil.copytree(tmp_path / "other/parts/0", copy / "parts/.trash")
    manifest = (copy / "manifest.json").read_bytes()
    cache.merge(copy)
    assert (copy / "manifest.json").read_bytes() == manifest
    write(copy, batches(HALVES["odds"]), part="odds")

    (copy / "parts/empty").mkdir()
    with refused("'empty'", "part.json is missing"):
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
            np.testing.assert_array_equal(answers_of(folder), truth())
        put_back(folder, files)
    return found


def read_all(folder):
    np.testing.assert_array_equal(answers_of(folder), truth())


def header_of(folder):
    path = folder / "parts/odds/rows.npy"
    return path.stat().st_size - 14 * len(HALVES["odds"])


@pytest.mark.parametrize(
    "name,words",
    [
        ("manifest.json", r"manifest .*(Copy|merge)|format \d+.*Install"),
        ("index-*.npy", "index .*(Copy|merge)"),
        ("parts/odds/rows.npy", "'odds'.*Copy"),
    ],
)
def test_flipped_bits_are_found_when_opening(name, words, copy):
    name = name_of(copy, name)
    assert assert_flips_are_found(copy, name, read_all, words) > FLIPS / 2


def test_flipped_bits_in_the_header_are_found(copy):
    span = dict(first=0, end=header_of(copy))
    name, words = "parts/odds/rows.npy", "'odds'.*Copy"
    assert_flips_are_found(copy, name, read_all, words, **span)
    assert_flips_are_found(copy, name, cache.merge, words, **span)


@pytest.mark.parametrize("other", [b">i8", b"<m8", b"<u8"])
def test_flipped_types_are_found(other, copy):
    # The same bytes, and their checksum, would be other numbers.
    files = all_files(copy)
    for name, about in {
        name_of(copy, "index-*.npy"): "index",
        "parts/odds/rows.npy": "'odds'",
    }.items():
        changed = files[name].replace(b"<i8", other)
        assert changed != files[name]
        (copy / name).write_bytes(changed)
        with refused(about, "Copy"):
            cache.open(copy)
        put_back(copy, files)


@pytest.mark.parametrize("file", ["rows.npy", "part.json", "shards.jsonl"])
def test_flipped_bits_are_found_when_merging(file, copy):
    words = "'odds'.*(Copy|Delete|delete|Run)"
    name = f"parts/odds/{file}"
    assert assert_flips_are_found(copy, name, cache.merge, words) > FLIPS / 3


@pytest.mark.parametrize("file", ["part.json", "shards.jsonl", "rows.npy"])
def test_flipped_bits_are_found_when_writing_on(file, runs, ended, tmp_path):
    folder = shutil.copytree(runs / "within a line", tmp_path / "answers")
    path = folder / "parts/0" / file
    content = path.read_bytes()
    flipped = bytearray(content)
    # In a value of the first lines; in the first record's own number.
    place = {
        "part.json": content.find(b"float16"),
        "shards.jsonl": content.find(b"checksum") + len(b'checksum": '),
        "rows.npy": content.find(b"\n") + 1 + 5,
    }[file]
    flipped[place] ^= 1
    path.write_bytes(flipped)
    asked = []
    with refused("'0'", "elete"):
        write(folder, asker=teacher(asked))
    assert not asked


def test_flipped_bits_in_a_large_cache_are_found_in_full(copy, monkeypatch):
    monkeypatch.setattr(stored_records, "VERIFIED_AT_OPEN", 64)
    files = all_files(copy)
    for name, place, words in [
        ("parts/odds/rows.npy", -1, ("'odds'", "Copy")),
        ("parts/evens/rows.npy", -100, ("'evens'", "Copy")),
        (name_of(copy, "index-*.npy"), -20, ("index", "Copy")),
    ]:
        flipped = bytearray(files[name])
        flipped[place] ^= 4
        (copy / name).write_bytes(flipped)
        cache.open(copy)  # It looks at a sample of the shards.
        with refused(*words):
            cache.open(copy, verify="full")
        put_back(copy, files)
    cache.open(copy, verify="full")


@pytest.mark.parametrize("left", [0, 0.5, -1])
def test_a_part_that_is_cut_off(left, copy):
    path = copy / "parts/odds/rows.npy"
    content = path.read_bytes()
    end = left if left <= 0 else int(left * len(content))
    path.write_bytes(content[:end])
    for verify in ["auto", "full", "sizes"]:
        with refused("'odds'", "Copy"):
            cache.open(copy, memory=True, verify=verify)
    with refused("'odds'", "Copy"):
        cache.merge(copy)
    with refused("'odds'", "delete"):
        write(copy, batches(HALVES["odds"]), part="odds")


@pytest.mark.parametrize("lost", [1, 100])
def test_a_part_that_has_lost_its_last_bytes(lost, copy):
    path = copy / "parts/odds/rows.npy"
    size = path.stat().st_size
    assert lost < header_of(copy)
    os.truncate(path, size - lost)
    with refused("'odds'", "cut off", f"expected {size} or more", "Copy"):
        cache.open(copy, verify="sizes")

    def forget(content):  # As the manifests of before, which say less.
        for part in content["parts"]:
            del part["header"]

    changed_manifest(copy, forget)
    with refused("'odds'", "Copy"):
        answers_of(copy, verify="sizes")


def test_files_that_are_missing(copy):
    files = all_files(copy)
    for name in ["manifest.json", "index-*.npy", "parts/odds/rows.npy"]:
        name = name_of(copy, name)
        (copy / name).unlink()
        with refused(name, "copy the whole folder"):
            cache.open(copy)
        put_back(copy, files)
    (copy / "parts/odds/rows.npy").unlink()
    with refused("'odds'", "Copy"):
        cache.merge(copy)
    put_back(copy, files)
    (copy / "parts/odds/shards.jsonl").unlink()
    with refused("'odds'"):
        cache.merge(copy)
    put_back(copy, files)


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
        "parts/odds/rows.npy": ["'odds'"],
    }.items():
        (copy / name).write_bytes(b"")
        with refused(*words, "Copy"):
            cache.open(copy)
        put_back(copy, files)
    for name in ["rows.npy", "part.json", "shards.jsonl"]:
        (copy / "parts/odds" / name).write_bytes(b"")
        with refused("'odds'"):
            cache.merge(copy)
        put_back(copy, files)


def test_swapped_parts_are_refused(copy):
    evens, odds = copy / "parts/evens", copy / "parts/odds"
    files = all_files(copy)
    swapped = {
        "parts/evens/rows.npy": files["parts/odds/rows.npy"],
        "parts/odds/rows.npy": files["parts/evens/rows.npy"],
    }
    put_back(copy, swapped)
    with refused("'evens'", "Copy"):
        cache.open(copy)
    with refused("'evens'", "Copy"):
        cache.merge(copy)
    with refused("not those of the samples", "verify='full'"):
        answers_of(copy, verify="sizes")
    put_back(copy, files)
    evens.rename(copy / "parts/third")
    odds.rename(evens)
    (copy / "parts/third").rename(odds)
    with refused("'evens'", "Copy"):
        cache.open(copy)
    # Names are free: what is whole in itself may be merged anew.
    cache.merge(copy)
    np.testing.assert_array_equal(answers_of(copy), truth())


# --- hostile files -----------------------------------------------------------


def changed_manifest(folder, change):
    """Writes a manifest that says something else, with a right checksum."""
    path = folder / "manifest.json"
    content = unsealed(path.read_bytes(), "damaged")
    change(content)
    path.write_text(sealed(content))


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

    changed_manifest(copy, change)
    for verify in ["auto", "sizes"]:
        with refused("rows.npy"):
            cache.open(copy, verify=verify)


@pytest.mark.parametrize(
    "name", ["../index.npy", "{absolute}", "x/../../index.npy"]
)
def test_an_index_may_not_lie_out_of_its_folder(name, copy, tmp_path):
    index = copy / name_of(copy, "index-*.npy")
    evil = shutil.copy(index, tmp_path / "index.npy")
    name = name.format(absolute=evil)
    changed_manifest(copy, lambda content: content["index"].update(name=name))
    with refused("must be in its folder"):
        cache.open(copy)


@pytest.mark.parametrize(
    "linked", ["parts", "parts/odds", "parts/odds/rows.npy"]
)
def test_a_link_may_not_lead_out_of_the_folder(linked, copy, tmp_path):
    (copy / linked).rename(tmp_path / "evil")
    (copy / linked).symlink_to(tmp_path / "evil")
    with refused("links must not"):
        cache.open(copy)
    # A merged cache can be opened.
    with refused("links must not"):
        cache.merge(copy)


class Evil:
    """Shows whether it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["objects", "pickle", "zip"])
@pytest.mark.parametrize("name", ["index-*.npy", "parts/odds/rows.npy"])
def test_no_file_is_unpickled(kind, name, copy, tmp_path):
    evil, path = Evil(tmp_path / "touched"), copy / name_of(copy, name)
    size = path.stat().st_size
    objects = np.array([evil] * len(HALVES["odds"]), dtype=object)
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
    with refused(about, "Copy"):
        cache.open(copy)
    if "odds" in name:
        with refused(about, "Copy"):
            cache.merge(copy)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '"x"', "\x80"])
def test_a_manifest_that_is_none(text, copy):
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with refused("manifest", "Copy"):
        cache.open(copy)


def test_a_cache_of_before_inputs_were_looked_at(copy):
    def forget(content):
        for part in content["parts"]:
            for shard in part["shards"]:
                del shard["probes"]

    changed_manifest(copy, forget)
    cache.open(copy, verify="full").join(data() + 1)


def test_a_later_format_is_refused(copy):
    changed_manifest(copy, lambda content: content.update(format=99))
    with refused("format 99", "expected 1", "Install the version"):
        cache.open(copy)


@pytest.mark.parametrize("part", ["..", "a/b", "/etc", "", "a\n", 0])
def test_a_part_may_not_lead_out_of_the_folder(part, tmp_path):
    with refused("part's name", repr(part)):
        write(tmp_path, part=part)
    assert not list(tmp_path.iterdir())


def test_a_cache_is_not_written_far_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("memory://bucket/answers", "local"):
        write("memory://bucket/answers")
    with refused("memory://bucket/answers", "local"):
        cache.merge("memory://bucket/answers")
    assert not list(tmp_path.iterdir())


# --- wrong data --------------------------------------------------------------


@pytest.mark.parametrize("case", ["arrays", "batches"])
def test_a_cache_of_nothing(case, tmp_path):
    nothing = data()[:0] if case == "arrays" else iter(())
    with refused("nothing to ask about"):
        write(tmp_path, nothing)
    write(tmp_path)
    np.testing.assert_array_equal(answers_of(tmp_path), truth())


def test_a_data_set_that_repeats(tmp_path, whole):
    def repeated():
        while True:
            yield from batches(range(SAMPLES))

    with refused("more than once", "sample 0 again", "without `repeat`"):
        write(tmp_path, repeated(), batch_size=512)
    asked = []
    write(tmp_path, asker=teacher(asked))
    assert asked == []
    assert_same_files(tmp_path, whole)


X = data(4)


@pytest.mark.parametrize(
    "x,keys,words",
    [
        (X, [0, 1, 2, 2], ["more than once", "sample 2 again"]),
        (X, [0, 1, -3, 2], ["whole number from 0", "-3"]),
        (X, [0, 0.5, 1, 2], ["whole number"]),
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
    views = cache.Views(data(), augment=lambda x, u: x + u, count=2, draws=1)
    write(tmp_path, views)
    assert answers_of(tmp_path, [39], view=1).shape == (1, 3)
    for view in [2, -1]:
        with refused("view", str(view)):
            answers_of(tmp_path, [1], view=view)


def test_data_that_the_teacher_did_not_see(whole):
    answers = cache.open(whole)
    x, wrong = data(), []
    wrong += [x + 1, x[::-1], x.astype("float64"), x.reshape(-1, 2, 2)]
    wrong += [x.astype("uint8"), np.roll(x, 1, axis=0)]
    for other in wrong:
        with refused("not what the teacher", "check_inputs=False"):
            answers.join(other)
        index = np.arange(SHARD)
        with refused("not what the teacher", "check_inputs=False"):
            answers.add_to((other[index], {"sample_index": index}))
        unchecked = cache.open(whole, check_inputs=False).join(other)
        _, y = unchecked[0]
        found = y["answers"][unchecked.cache.tag]["output"]["values"]
        np.testing.assert_array_equal(found, truth()[:32])
    answers.join(x)
    with refused("not what the teacher"):
        answers.join(x, sample_index=np.roll(np.arange(SAMPLES), 1))
    with refused(f"no answer for sample {SAMPLES}"):
        answers.join(data(SAMPLES + 1), batch_size=64)[0]


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
    ],
)
def test_a_cache_of_other_things(key, written, other, tmp_path):
    write(tmp_path, data()[:BATCH], **{key: written})
    cache.open(tmp_path, **{key: written})
    with refused(f"another {key}", "Open the cache that belongs"):
        cache.open(tmp_path, **{key: other})
    with refused(f"{key} differs", "Write to another folder"):
        write(tmp_path, data()[:BATCH], **{key: other})


def test_preprocessing_that_json_does_not_hold(tmp_path):
    with refused("`preprocessing`", "softmax", "Name it"):
        write(tmp_path, preprocessing=keras.ops.softmax)
    assert not all_files(tmp_path)
    write(tmp_path)
    with refused("`preprocessing`", "Name it"):
        cache.open(tmp_path, preprocessing=keras.ops.softmax)


def test_names_in_any_alphabet_and_of_any_length(tmp_path):
    names = ["long" * 3000]
    if keras.backend.backend() != "tensorflow":  # Its names are in ASCII.
        names += ["層", "слой"]
    layers = [keras.layers.Dense(2, name=name) for name in names]
    asker = keras.Sequential([keras.Input((4,)), *layers])
    outputs = {name: cache.Dense("float32") for name in names}
    write(tmp_path, asker=asker, outputs=outputs)
    found = cache.open(tmp_path, verify="full").views([3])
    expected = asker.predict_on_batch(data()[[3]])
    np.testing.assert_allclose(found[names[-1]], expected, rtol=1e-5)


# --- the teacher -------------------------------------------------------------


def test_a_teacher_that_was_changed(tmp_path):
    asker = dense()
    write(tmp_path, asker=asker)
    cache.open(tmp_path, teacher=asker)
    kernel, bias = asker.get_weights()
    kernel[0, 0] = np.nextafter(kernel[0, 0], 1, dtype="float32")
    asker.set_weights([kernel, bias])
    with refused(
        "another teacher's answers", "fingerprint", "Load the weights"
    ):
        cache.open(tmp_path, teacher=asker)
    with refused("teacher differs", "Write to another folder"):
        write(tmp_path, asker=asker)


def test_training_does_not_go_on_with_another_teachers_cache(tmp_path):
    def distiller(answers):
        student = dense(0.0)
        made = kd.Distiller(answers, student)
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        return made

    for name, factor in {"first": 1.0, "second": 2.0}.items():
        write(tmp_path / name, asker=dense(factor))
    first = cache.open(tmp_path / "first")
    second = cache.open(tmp_path / "second")
    trained = distiller(first)
    trained.fit(first.join(data(), np.zeros(SAMPLES)), verbose=0)
    trained.save_weights(tmp_path / "state.weights.h5")
    trained.save(tmp_path / "trained.keras")

    distiller(first).load_weights(tmp_path / "state.weights.h5")
    distiller(dense()).load_weights(tmp_path / "state.weights.h5")
    with refused("fingerprint", "cache"):
        distiller(second).load_weights(tmp_path / "state.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "trained.keras")
    with refused("fingerprint", "cache"):
        loaded.set_teacher(second)
    loaded.set_teacher(first)


def test_answers_that_are_not_finite(tmp_path, monkeypatch):
    write(tmp_path / "whole", asker=dense())
    x, folder = data(), tmp_path / "answers"
    x[21, 2] = np.nan
    with refused("[21]", "not finite", "what was stored before is kept"):
        write(folder, x, dense())

    # With the data mended it goes on; a mended teacher is another one.
    with refused("teacher differs", "delete this one"):
        write(folder, data(), dense(2.0))
    asked, ask = [], AskedTeacher.ask

    def counted(self, inputs, labels=None):
        asked.extend(inputs[:, 0] // 4)
        return ask(self, inputs, labels)

    monkeypatch.setattr(AskedTeacher, "ask", counted)
    write(folder, data(), dense())
    assert asked == list(range(2 * SHARD, SAMPLES))
    assert_same_files(folder, tmp_path / "whole")


def test_the_last_answers_are_looked_at_too(tmp_path):
    # Answers are stored beside the next question: of these there is none.
    x = data()
    x[-1, 2] = np.nan
    with refused(f"[{SAMPLES - 1}]", "not finite"):
        write(tmp_path, x, dense())
    write(tmp_path, data(), dense())
    np.testing.assert_array_equal(answers_of(tmp_path), data()[:, 1:])


def test_scales_are_not_learnt_from_what_is_not_finite(tmp_path):
    x = data()
    x[21, 2] = np.nan
    with refused("[21]", "not finite"):
        write(tmp_path, x, dense(), outputs=cache.Int8())
    write(tmp_path, data(), dense(), outputs=cache.Int8())
    expected = data()[:, 1:]
    error = np.abs(answers_of(tmp_path) - expected)
    assert (error <= 0.5001 * expected.max(axis=0) / 127).all()


def test_answers_that_overflow(tmp_path):
    with refused("too large for float16", "'bfloat16'", "'float32'"):
        write(tmp_path / "float16", asker=dense(1e6))
    outputs = cache.Dense("float32")
    write(tmp_path / "float32", asker=dense(1e6), outputs=outputs)
    found = answers_of(tmp_path / "float32")
    expected = np.float32(1e6) * data()[:, 1:]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
