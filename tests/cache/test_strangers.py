"""Caches of anyone: links, mixed files, wrong contents, several merges."""

import itertools
import os
import shutil

import hostile
import keras
import numpy as np
import pytest
import writing_run
from writing_run import rewrite
from writing_run import truth
from writing_run import write

from keras_kd import cache

pytestmark = pytest.mark.one_backend  # Files are the same on all.


def all_bytes(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "cache"
    write(folder)
    return folder


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "cache")


# --- links -------------------------------------------------------------------

INDEX, SHARD = "index-*.npy", "parts/0/00004-*.npy"
LINKS = [
    ("merge", "unfinished_manifest.json"),
    ("merge", f"unfinished_{INDEX}"),
    ("merge", "manifest.json"),
    ("merge", INDEX),
    ("merge", "lock"),
    ("merge", "parts/0/part.json"),
    ("merge", SHARD),
    ("write", "parts/0/part.json"),
    ("write", "parts/0/lock"),
    ("write", "parts/0/unfinished_part.json"),
    ("write", "parts/0/unfinished_00004-*.npy"),
    ("write", SHARD),
    ("write", "lock"),
]
ACTIONS = {"merge": cache.merge, "write": write}


def named(folder, pattern):
    """A file's path, by a pattern that names one."""
    parent, _, last = pattern.rpartition("/")
    unfinished = "unfinished_" if last.startswith("unfinished_") else ""
    last = last.removeprefix("unfinished_")
    found = [*(folder / parent).glob(last)]
    name = found[0].name if found else last
    return folder / parent / f"{unfinished}{name}"


@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling"])
@pytest.mark.parametrize("action,pattern", LINKS)
def test_nothing_is_written_through_a_link(
    action, pattern, kind, copy, tmp_path
):
    victim = tmp_path / "victim"
    link = named(copy, pattern)
    if action == "write":  # The last shard is to be written again.
        path = copy / "parts/0/part.json"

        def forget(content):
            content["shards"].pop()
            content["finished"] = False

        rewrite(path, forget)
    content = link.read_bytes() if link.exists() else b"precious"
    victim.write_bytes(content)
    link.unlink(missing_ok=True)
    if kind == "hard":
        os.link(victim, link)
    else:
        link.symlink_to(victim)
    if kind == "dangling":
        victim.unlink()
    try:
        ACTIONS[action](copy)
    except ValueError as error:
        assert type(error) is ValueError and "Received: " in str(error)
    else:
        cached = cache.open(copy, verify="full")
        found = cached.predictions_of(np.arange(40))["output"]
        np.testing.assert_array_equal(found, truth())
    if kind == "dangling":
        assert not victim.exists()
    else:
        assert victim.read_bytes() == content


@pytest.mark.parametrize("linked", ["parts", "parts/0"])
@pytest.mark.parametrize("action", ["merge", "write"])
def test_a_linked_folder_is_not_written_to(linked, action, copy, tmp_path):
    outside = tmp_path / "outside"
    (copy / linked).rename(outside)
    (copy / linked).symlink_to(outside)
    before = all_bytes(outside)
    with pytest.raises(ValueError, match="without links that lead out"):
        ACTIONS[action](copy)
    assert all_bytes(outside) == before


def test_links_in_a_circle(copy):
    shard = named(copy, SHARD)
    shard.unlink()
    shard.symlink_to(shard)
    for use in (cache.open, cache.merge, write):
        with pytest.raises(ValueError, match=shard.name):
            use(copy)


@pytest.mark.parametrize(
    "name", ["unfinished_manifest.json", "parts/0/unfinished_x", "lock"]
)
def test_a_folder_in_the_place_of_a_file(name, copy):
    shutil.rmtree(copy / name, ignore_errors=True)
    (copy / name).unlink(missing_ok=True)
    (copy / name).mkdir()
    with pytest.raises(ValueError, match="Received: .*folder"):
        write(copy)


# --- mixed files -------------------------------------------------------------


@pytest.mark.parametrize("encoding", [cache.Dense(), cache.Int8()])
def test_files_of_another_teacher_are_refused(encoding, tmp_path):
    """Whichever files of a cache of the same form are copied over ours."""
    teachers = {}
    for name in ("ours", "other"):
        keras.utils.set_random_seed(len(teachers))
        teachers[name] = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3)]
        )
        write(tmp_path / name, model=teachers[name], outputs=encoding)
    expected = cache.open(tmp_path / "ours").read(np.arange(40))
    groups = ["manifest.json", INDEX, "parts/0/part.json", "parts/0/0*.npy"]
    outcomes = []
    for count, merged in itertools.product(range(1, 5), (False, True)):
        for chosen in itertools.combinations(groups, count):
            mixed = tmp_path / "mixed"
            shutil.copytree(tmp_path / "ours", mixed)
            for pattern in chosen:
                for path in (tmp_path / "other").glob(pattern):
                    name = path.relative_to(tmp_path / "other")
                    shutil.copy(path, mixed / name)
            try:
                if merged:
                    cache.merge(mixed, samples=40)
                found = cache.open(mixed, teacher=teachers["ours"])
            except ValueError as error:
                assert "Received: " in str(error)
                outcomes.append("refused")
            else:
                np.testing.assert_equal(found.read(np.arange(40)), expected)
                outcomes.append("ours")
            shutil.rmtree(mixed)
    assert set(outcomes) == {"refused", "ours"}


# --- contents that are wrong under a right checksum --------------------------


@pytest.mark.parametrize(
    "change,named",
    [
        (lambda c: c.update(samples=-1), "samples=-1"),
        (lambda c: c.update(samples=10**30), "samples=1000"),
        (lambda c: c.update(samples=41), "those of 40 records"),
        (lambda c: c.pop("views"), "a dict of"),
        (lambda c: c.update(teacher="xyz"), 'teacher="xyz"'),
        (lambda c: c["parts"].append(c["parts"][0]), "names that differ"),
        (lambda c: c["parts"][0].update(name="a/b"), r'parts\[0\].name="a/b"'),
        (lambda c: c["parts"][0].update(name="a\0"), r"parts\[0\].name"),
        (lambda c: c["parts"][0]["shards"][1].update(bytes=9), r"shards\[1\]"),
        (
            lambda c: c["outputs"][0].update(shape=[2**31 - 1] * 3),
            r"outputs\[0\].shape",
        ),
        (lambda c: c["outputs"][0].update(kind="pickle"), r"outputs\[0\].kind"),
        (lambda c: c["outputs"][0].update(dtype="O"), "outputs: .*dtype"),
        (lambda c: c["outputs"].append(c["outputs"][0]), "one name"),
        (lambda c: c["index"].update(runs=2**37), "index.runs=|index.bytes"),
        (lambda c: c["index"].update(checksum=float("nan")), "index.checksum"),
        (lambda c: c["metadata"].update(x=nested(200)), "metadata.x"),
        (lambda c: c["metadata"].update(x=nested(600)), "metadata.x"),
    ],
)
def test_an_entry_that_is_wrong_is_named(change, named, copy):
    rewrite(copy / "manifest.json", change)
    with pytest.raises(ValueError, match=f"(?s)manifest.json.*{named}"):
        cache.open(copy)
    cache.merge(copy)  # Which is what the error says.
    assert len(cache.open(copy)) == 40


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_json_that_python_can_not_read(text, copy):
    for name, use in {
        "manifest.json": cache.open,
        "parts/0/part.json": cache.merge,
    }.items():
        (copy / name).write_text(text)
        with pytest.raises(ValueError, match="no valid JSON"):
            use(copy)


def test_json_of_any_size_costs_nothing(copy):
    with (copy / "manifest.json").open("r+b") as file:
        file.truncate(2**40)  # No disk has it.
    with pytest.raises(ValueError, match="1099511627776 bytes of JSON"):
        cache.open(copy)


def change_rows(folder, change):
    """Has the index say something else, under right checksums."""

    path = named(folder, INDEX)
    content = path.read_bytes()
    begin = content.index(b"\n") + 1
    index = np.frombuffer(content, "<i8", offset=begin).copy()
    change(index.reshape(2, -1))
    hostile.put_array(folder, path, content[:begin] + index.tobytes())


@pytest.mark.parametrize("row", [1, 40, 2**40, 2**63 - 1])
def test_an_index_does_not_lead_out_of_the_shards(row, copy):
    def change(index):
        index[1, 0] = row

    change_rows(copy, change)
    cached = cache.open(copy, verify="full")
    with pytest.raises(ValueError, match="index .*Received|not those of"):
        cached.read(np.arange(40))
    with pytest.raises(ValueError, match="Received: [1-9] faults"):
        cache.verify(copy)


def test_classes_that_are_none_are_refused(tmp_path):

    write(tmp_path, outputs=cache.TopK(2))
    path = named(tmp_path, "parts/0/00001-*.npy")
    content = bytearray(path.read_bytes())
    records = np.frombuffer(content, cache_dtype(), 8, len(content) - 8 * 16)
    records["indices"][3, 1] = 3  # Of classes 0, 1 and 2.
    hostile.put_array(tmp_path, path, bytes(content))
    cached = cache.open(tmp_path, verify="full")
    cached.read(np.arange(8))
    with pytest.raises(ValueError, match="class 3 of 3"):
        cached.read(np.arange(8, 16))
    with pytest.raises(ValueError, match="class 3 of 3 at 'output'"):
        cache.verify(tmp_path)


def cache_dtype():
    """A record of two of three classes."""
    return np.dtype(
        [
            ("sample_index", "<i8"),
            ("indices", "u1", (2,)),
            ("values", "<f2", (2,)),
            ("rest", "<f2"),
        ]
    )


# --- verify ------------------------------------------------------------------


def test_verify_counts_what_it_has_seen(copy):
    found = cache.verify(copy)
    size = sum(path.stat().st_size for path in copy.rglob("*.npy"))
    assert found == {"samples": 40, "parts": 1, "shards": 5, "bytes": size}
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="another teacher's"):
        cache.verify(copy, teacher=other)


def test_verify_names_all_that_is_wrong(copy):
    for number in (1, 3):
        path = named(copy, f"parts/0/0000{number}-*.npy")
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    rewrite(
        copy / "parts/0/part.json",
        lambda content: content["shards"].pop(),
    )
    with pytest.raises(ValueError, match="Received: 3 faults") as caught:
        cache.verify(copy)
    for name in ("00001-", "00003-", "part.json with other shards"):
        assert name in str(caught.value)


def test_verify_compares_headers(copy):

    path = named(copy, SHARD)
    content = path.read_bytes().replace(b"'<f2'", b"'<i2'")
    assert content != path.read_bytes()
    hostile.put_array(copy, path, content)
    cache.open(copy, verify="full")  # It reads no header.
    with pytest.raises(ValueError, match="another header"):
        cache.verify(copy)


def test_open_says_how_much_it_has_verified(copy, monkeypatch):
    whole = cache.open(copy)
    assert whole.verified == 1.0 and "verified" not in repr(whole)
    index = named(copy, INDEX).stat().st_size
    size = sum(path.stat().st_size for path in copy.rglob("*.npy"))
    sizes = cache.open(copy, verify="sizes")
    assert sizes.verified == index / size
    assert repr(sizes).endswith(f"dense, {index / size:.1%} verified>")


# --- several at once ---------------------------------------------------------


def merged_slowly(folder, begun, go_on):
    replace = os.replace

    def waiting(source, target):
        os.write(begun, b"x")
        os.read(go_on, 1)
        os.replace = replace
        replace(source, target)

    os.replace = waiting
    cache.merge(folder)


def test_a_second_merge_is_told(copy):
    (begun, begin), (wait, go_on) = os.pipe(), os.pipe()
    (copy / "manifest.json").unlink()
    named(copy, INDEX).unlink()
    first = writing_run.forked(merged_slowly, copy, begin, wait)
    os.close(begin)  # Or the next line would wait for one that died.
    os.read(begun, 1)
    with pytest.raises(ValueError, match="Another process is merging"):
        cache.merge(copy)
    os.write(go_on, b"x")
    assert writing_run.end_of(first) == 0
    cache.merge(copy)
    assert cache.open(copy).verified == 1.0


def test_a_killed_merge_holds_nothing(copy):
    (begun, begin), (wait, _) = os.pipe(), os.pipe()
    first = writing_run.forked(merged_slowly, copy, begin, wait)
    os.close(begin)
    os.read(begun, 1)
    os.kill(first, 9)
    assert writing_run.end_of(first) == -9
    cache.merge(copy)
    assert cache.verify(copy)["samples"] == 40
