"""Caches in object storage: what is fetched, when, and what is left of it."""

import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import zlib

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from writing_run import SAMPLES
from writing_run import SHARD
from writing_run import data
from writing_run import rewrite
from writing_run import truth
from writing_run import write

from keras_kd import cache

pytestmark = pytest.mark.one_backend
ROOT = pathlib.Path(__file__).parents[2]
URL = "memory://bucket/cache"
KEYS = np.arange(SHARD)  # All in the first shard.


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A cache in a local folder."""
    folder = tmp_path_factory.mktemp("here") / "cache"
    write(folder)
    return folder


def put(files, folder, place="/bucket/cache"):
    """Puts a cache in the place of what is at the url."""
    if files.exists(place):
        files.rm(place, recursive=True)
    files.put(os.fspath(folder), place, recursive=True)


@pytest.fixture
def far(here):
    files = fsspec.filesystem("memory")
    put(files, here)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.fixture
def near(tmp_path):
    return tmp_path / "near"


@pytest.fixture
def fetched(far, monkeypatch):
    """Names of the files that were read, in order."""
    names = []
    for method in ["cat_file", "get_file"]:
        original = getattr(MemoryFileSystem, method)

        def counted(self, path, *arguments, original=original, **options):
            names.append(path.removeprefix("/bucket/cache/"))
            return original(self, path, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, method, counted)
    return names


def files_of(folder, pattern="**/*.*"):
    """Content of a cache's files, by their paths in its folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def copies(near):
    """The same of its copy; there is one."""
    (folder,) = near.iterdir()
    return files_of(folder)


def shards_of(folder):
    return list(files_of(folder, "parts/0/*.npy"))


def index_of(folder):
    (name,) = files_of(folder, "index-*.npy")
    return name


def assert_right(near, samples=SAMPLES, url=URL, **arguments):
    cached = cache.open(url, cache_dir=near, **arguments)
    found = cached.predictions_of(np.arange(samples))["output"]
    np.testing.assert_array_equal(found, truth(samples))


def test_a_local_folder_is_used_as_it_is(here, near, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for path in [here, str(here)]:
        assert_right(near, url=path)
    assert not near.exists()


def test_only_what_is_used_is_fetched(here, fetched, near):
    cached = cache.open(URL, cache_dir=near)
    opened = ["manifest.json", index_of(here)]
    assert fetched == opened
    for _ in range(2):
        found = cached.predictions_of(KEYS)["output"]
        np.testing.assert_array_equal(found, truth()[KEYS])
    used = [*opened, shards_of(here)[0]]
    assert fetched == used
    expected = files_of(here)
    assert copies(near) == {name: expected[name] for name in used}


@pytest.mark.parametrize("url", [URL, URL + "/"])
def test_a_second_open_fetches_the_manifest_alone(url, fetched, near):
    assert_right(near)
    fetched.clear()
    assert_right(near, url=url)
    assert fetched == ["manifest.json"]


def test_another_manifest_or_url_has_copies_of_its_own(
    here, far, fetched, near, tmp_path
):
    first = cache.open(URL, cache_dir=near)
    first.read(KEYS)
    write(tmp_path / "other", data() + 1)
    put(far, tmp_path / "other")
    fetched.clear()
    second = cache.open(URL, cache_dir=near).predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(second, truth()[KEYS] + 2)
    assert fetched[0] == "manifest.json" and len(fetched) == 3
    found = first.predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS])
    assert len(list(near.iterdir())) == 2

    put(far, here, "/bucket/copy/cache")
    assert_right(near, url="memory://bucket/copy/cache")
    assert len(list(near.iterdir())) == 3


def test_earlier_listings_are_not_trusted(far, near, monkeypatch):
    forgotten = []
    monkeypatch.setattr(
        MemoryFileSystem,
        "invalidate_cache",
        lambda self, path=None: forgotten.append(path),
    )
    cache.open(URL, cache_dir=near)
    assert forgotten == [None]


def test_a_file_system_of_another_kind(here, near):
    assert_right(near, url=f"file://{here}")
    expected = files_of(here)
    del expected["parts/0/part.json"]  # For writers.
    assert copies(near) == expected


def cut_off(error):
    """A `get_file` that writes half, and ends with an error or without."""

    def get_file(self, path, copy):
        content = self.cat_file(path)
        pathlib.Path(copy).write_bytes(content[: len(content) // 2])
        if error is not None:
            raise error

    return get_file


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), None])
def test_a_cut_off_fetch_leaves_nothing(error, here, far, near, monkeypatch):
    cached = cache.open(URL, cache_dir=near)
    size = (here / shards_of(here)[0]).stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", cut_off(error))
        with pytest.raises(
            type(error) if error else ValueError,
            match="gone" if error else f"{size // 2} bytes, expected {size}",
        ):
            cached.read(KEYS)
    assert set(copies(near)) == {"manifest.json", index_of(here)}
    found = cached.predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS])


KILLED = """
import os, pathlib, signal, sys
from fsspec.implementations.local import LocalFileSystem
from keras_kd import cache

original = LocalFileSystem.get_file

def get_file(self, path, copy):
    if "parts" not in str(path):
        return original(self, path, copy)
    pathlib.Path(copy).write_bytes(b"0" * 50)
    os.kill(os.getpid(), signal.SIGKILL)

LocalFileSystem.get_file = get_file
cache.open(sys.argv[1], cache_dir=sys.argv[2]).read([3])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_killed_while_it_fetches(here, near):
    url = f"file://{here}"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, url, str(near)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == -signal.SIGKILL
    assert b"0" * 50 in copies(near).values()
    assert_right(near, url=url, verify="full")


def test_several_fetch_at_once(here, near, monkeypatch):
    original = LocalFileSystem.get_file
    barrier = threading.Barrier(4, timeout=30)

    def together(self, path, copy):
        if "parts" in str(path):
            barrier.wait()
        original(self, path, copy)
        if "parts" in str(path):
            barrier.wait()

    cached = cache.open(f"file://{here}", cache_dir=near)
    monkeypatch.setattr(LocalFileSystem, "get_file", together)
    contents = []

    def fetch():
        contents.append(cached.read(KEYS)["output"]["values"])

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contents) == 4
    for content in contents:
        np.testing.assert_array_equal(content, truth()[KEYS])
    used = {"manifest.json", index_of(here), shards_of(here)[0]}
    assert set(copies(near)) == used


def test_it_goes_to_another_process(far, near):
    cached = pickle.loads(pickle.dumps(cache.open(URL, cache_dir=near)))
    found = cached.predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS])


def test_links_within_the_folder(here, near, tmp_path):
    (tmp_path / "link").symlink_to(here)
    assert_right(near, url=tmp_path / "link")
    write(tmp_path / "real")
    index = tmp_path / "real" / index_of(tmp_path / "real")
    index.rename(index.with_name("moved.npy"))
    index.symlink_to("moved.npy")
    assert_right(near, url=tmp_path / "real")


def test_files_that_are_not_there(here, far, near):
    shard = shards_of(here)[2]
    far.rm(f"/bucket/cache/{shard}")
    with pytest.raises(ValueError, match="has no .*Received: path="):
        cache.open(URL, cache_dir=near)
    put(far, here)
    cached = cache.open(URL, cache_dir=near)
    far.rm(f"/bucket/cache/{shard}")
    with pytest.raises(ValueError, match=f"has no {shard}"):
        cached.read(np.arange(SAMPLES))
    assert not list(near.rglob("unfinished_*"))
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        cache.open("memory://bucket/parts", cache_dir=near)


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match="pip install fsspec.*s3://bucket/a"):
        cache.open("s3://bucket/a")


def test_protocols_without_a_driver(monkeypatch):
    driver = {"class": "no_such_driver.Files", "err": "Install no_such_driver"}
    monkeypatch.setitem(known_implementations, "far", driver)
    for url, message in [
        ("far://bucket/a", "Install no_such_driver"),
        ("unheard-of://bucket/a", "unheard-of"),
    ]:
        with pytest.raises(ValueError, match=f"driver.*{message}"):
            cache.open(url)


def test_where_copies_are_kept(far, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    places = {tmp_path / ".cache/keras_kd": {}, tmp_path / "xdg/keras_kd": {}}
    places[tmp_path / "mine"] = {"cache_dir": "~/mine"}
    for place, arguments in places.items():
        assert not place.exists()
        cache.open(URL, **arguments)
        (copy,) = place.iterdir()
        assert copy.name.startswith("cache_")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


# --- damage ------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["auto", "full", "sizes"])
def test_a_cache_is_read_from_far_away(verify, here, far, near):
    assert_right(near, verify=verify)
    expected = files_of(here)
    del expected["parts/0/part.json"]  # For writers.
    assert copies(near) == expected


@pytest.mark.parametrize("lost", [1, 100])
def test_a_file_that_has_lost_its_last_bytes(lost, here, far, near):
    place = f"/bucket/cache/{shards_of(here)[1]}"
    whole = far.cat_file(place)
    far.pipe(place, whole[:-lost])
    with pytest.raises(ValueError, match=f"expected {len(whole)}"):
        cache.open(URL, cache_dir=near)


def test_files_that_are_replaced_before_they_are_read(
    here, far, near, tmp_path
):
    cached = cache.open(URL, cache_dir=near)
    # Names are of what is in a file, so these have to be forged.
    write(tmp_path / "other", data() + 1)
    for name, other in zip(shards_of(here), shards_of(tmp_path / "other")):
        content = (tmp_path / "other" / other).read_bytes()
        far.pipe(f"/bucket/cache/{name}", content)
    with pytest.raises(ValueError, match="'0' is damaged.*open the cache aga"):
        cached.read(KEYS)
    put(far, tmp_path / "other")
    with pytest.raises(ValueError, match="has no parts/0/00000"):
        cached.read(KEYS)
    put(far, here)
    found = cached.predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS])
    assert_right(near)


@pytest.mark.parametrize("change", ["flipped", "cut"])
@pytest.mark.parametrize("name", ["index-*.npy", "00001-*.npy"])
def test_a_copy_that_is_wrong_is_fetched_anew(name, change, far, near):
    assert_right(near)
    (path,) = near.rglob(name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content[:-2] if change == "cut" else content)
    with pytest.raises(ValueError, match="open the cache again"):
        assert_right(near)
    assert_right(near)


def test_an_index_too_large_to_check_when_opening(here, near, tmp_path):
    folder = shutil.copytree(here, tmp_path / "many")
    # As of scattered samples, which are a run of 16 bytes each.
    index = np.load(folder / index_of(folder))
    last = np.repeat(index[:, -1:], 2**24, axis=1)
    large = folder / "index-large.npy"
    np.save(large, np.concatenate([index, last], axis=1))
    checksum = zlib.crc32(large.read_bytes())
    large = large.rename(folder / f"index-{checksum:08x}.npy")
    about = {"file": large.name, "runs": index.shape[1] + 2**24}
    about |= {"bytes": large.stat().st_size, "checksum": checksum}
    rewrite(
        folder / "manifest.json", lambda content: content.update(index=about)
    )
    url = f"file://{folder}"
    assert_right(near, url=url, verify="full")
    (path,) = near.rglob(large.name)
    assert path.stat().st_size > 2**28
    with path.open("rb+") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x01")
    assert_right(near, url=url)
    with pytest.raises(ValueError, match="index.*open the cache again"):
        assert_right(near, url=url, verify="full")
    assert_right(near, url=url)
