"""Caches in object storage: what is fetched, when, and what is left of it."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from writing_run import SAMPLES
from writing_run import data
from writing_run import truth
from writing_run import write

from keras_kd import cache
from keras_kd._src.cache import stored_records
from keras_kd._src.cache.remote import storage_at
from keras_kd._src.cache.sealed import sealed
from keras_kd._src.cache.sealed import unsealed

ROOT = pathlib.Path(__file__).parents[2]
URL = "memory://bucket/answers"
CONTENT = {
    "manifest.json": b'{"samples": 3}',
    "index.npy": b"index",
    "parts/0/rows.npy": b"0" * 1000,
    "parts/1/rows.npy": b"1" * 2000,
}
PARTS = ["parts/0/rows.npy", "parts/1/rows.npy"]


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    for path, content in CONTENT.items():
        files.pipe(f"/bucket/answers/{path}", content)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.fixture
def fetched(bucket, monkeypatch):
    """Names of the files that were read, in order."""
    names = []
    for method in ["cat_file", "get_file"]:
        original = getattr(MemoryFileSystem, method)

        def counted(self, path, *arguments, original=original, **options):
            names.append(path.removeprefix("/bucket/answers/"))
            return original(self, path, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, method, counted)
    return names


def fill(folder):
    for path, content in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def copies(cache_dir):
    """The files in the local folder, by their paths in the cache's folder."""
    return {
        "/".join(path.relative_to(cache_dir).parts[1:]): path.read_bytes()
        for path in cache_dir.rglob("*")
        if path.is_file()
    }


def test_a_local_folder_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    fill(tmp_path)
    for path in [tmp_path, str(tmp_path)]:
        storage = storage_at(path)
        assert storage.local("index.npy") == tmp_path / "index.npy"
        assert storage.sizes(PARTS) == [1000, 2000]


def test_only_what_is_used_is_fetched(fetched, tmp_path):
    storage = storage_at(URL, tmp_path)
    assert fetched == ["manifest.json"]
    assert storage.sizes(PARTS) == [1000, 2000]
    assert fetched == ["manifest.json"]
    for _ in range(2):
        assert storage.local(PARTS[1]).read_bytes() == CONTENT[PARTS[1]]
        storage.local("manifest.json")
    assert fetched == ["manifest.json", PARTS[1]]
    kept = ["manifest.json", PARTS[1]]
    assert copies(tmp_path) == {name: CONTENT[name] for name in kept}


@pytest.mark.parametrize("url", [URL, URL + "/"])
def test_a_second_open_fetches_the_manifest_alone(url, fetched, tmp_path):
    path = storage_at(URL, tmp_path).local(PARTS[0])
    fetched.clear()
    assert storage_at(url, tmp_path).local(PARTS[0]) == path
    assert fetched == ["manifest.json"]


def test_another_manifest_or_url_has_copies_of_its_own(
    bucket, fetched, tmp_path
):
    first = storage_at(URL, tmp_path).local(PARTS[0])
    bucket.pipe("/bucket/answers/manifest.json", b'{"samples": 4}')
    bucket.pipe("/bucket/answers/parts/0/rows.npy", b"new")
    fetched.clear()
    second = storage_at(URL, tmp_path).local(PARTS[0])
    assert second.read_bytes() == b"new"
    assert first.read_bytes() == CONTENT[PARTS[0]]
    assert fetched == ["manifest.json", PARTS[0]]

    bucket.cp("/bucket/answers", "/bucket/copy/answers", recursive=True)
    url = "memory://bucket/copy/answers"
    other = storage_at(url, tmp_path).local(PARTS[0])
    assert len({first, second, other}) == 3


def test_listings_of_before_are_not_trusted(bucket, tmp_path, monkeypatch):
    forgotten = []
    monkeypatch.setattr(
        MemoryFileSystem,
        "invalidate_cache",
        lambda self, path=None: forgotten.append(path),
    )
    storage_at(URL, tmp_path)
    assert forgotten == [None]


def test_sizes_are_those_of_the_copies_that_will_be_read(bucket, tmp_path):
    storage = storage_at(URL, tmp_path)
    storage.local(PARTS[1]).write_bytes(b"cut")
    assert storage.sizes(PARTS) == [1000, 3]
    assert storage.sizes([]) == []


def test_a_file_system_of_another_kind(tmp_path):
    fill(tmp_path / "far")
    storage = storage_at(f"file://{tmp_path}/far", tmp_path / "near")
    assert storage.sizes(PARTS) == [1000, 2000]
    path = storage.local(PARTS[0])
    assert path.is_relative_to(tmp_path / "near")
    assert path.read_bytes() == CONTENT[PARTS[0]]


def cut_off(error):
    """A `get_file` that writes half, and ends with an error or without."""

    def get_file(self, path, copy):
        content = self.cat_file(path)
        pathlib.Path(copy).write_bytes(content[: len(content) // 2])
        if error is not None:
            raise error

    return get_file


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), None])
def test_a_cut_off_fetch_leaves_nothing(error, bucket, tmp_path, monkeypatch):
    storage = storage_at(URL, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", cut_off(error))
        with pytest.raises(
            ConnectionResetError if error else ValueError,
            match="gone" if error else r"1000 bytes\. Received: 500",
        ):
            storage.local(PARTS[0])
    assert set(copies(tmp_path)) == {"manifest.json"}
    assert storage.local(PARTS[0]).read_bytes() == CONTENT[PARTS[0]]


KILLED = """
import os, pathlib, signal, sys
from fsspec.implementations.local import LocalFileSystem
from keras_kd._src.cache.remote import storage_at

def get_file(self, path, copy):
    pathlib.Path(copy).write_bytes(b"0" * 500)
    os.kill(os.getpid(), signal.SIGKILL)

LocalFileSystem.get_file = get_file
storage_at(*sys.argv[1:]).local("parts/0/rows.npy")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_killed_while_it_fetches(tmp_path):
    fill(tmp_path / "far")
    url, near = f"file://{tmp_path}/far", tmp_path / "near"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, url, str(near)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == -signal.SIGKILL
    assert 500 in map(len, copies(near).values())
    storage = storage_at(url, near)
    assert storage.sizes(PARTS) == [1000, 2000]
    assert storage.local(PARTS[0]).read_bytes() == CONTENT[PARTS[0]]


def test_several_fetch_at_once(tmp_path, monkeypatch):
    fill(tmp_path / "far")
    original = LocalFileSystem.get_file
    barrier = threading.Barrier(4, timeout=30)

    def together(self, path, copy):
        barrier.wait()
        original(self, path, copy)
        barrier.wait()

    monkeypatch.setattr(LocalFileSystem, "get_file", together)
    near = tmp_path / "near"
    storage, contents = storage_at(f"file://{tmp_path}/far", near), []

    def fetch():
        contents.append(storage.local(PARTS[0]).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [CONTENT[PARTS[0]]] * 4
    assert set(copies(near)) == {"manifest.json", PARTS[0]}


def test_it_goes_to_another_process(bucket, tmp_path):
    storage = pickle.loads(pickle.dumps(storage_at(URL, tmp_path)))
    assert storage.local("index.npy").read_bytes() == b"index"


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize(
    "path", ["../secret", "parts/../../secret", "/etc/passwd", "out/secret"]
)
def test_paths_that_leave_the_folder(place, path, bucket, tmp_path):
    fill(tmp_path / "far")
    storage = storage_at(
        tmp_path / "far" if place == "local" else URL, tmp_path / "near"
    )
    (storage.folder.parent / "secret").write_text("secret")
    (storage.folder / "out").symlink_to(storage.folder.parent)
    for ask in [storage.local, lambda path: storage.sizes([path])]:
        with pytest.raises(ValueError, match="must be in its folder"):
            ask(path)


def test_links_within_the_folder(tmp_path):
    fill(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "again.npy").symlink_to("index.npy")
    storage = storage_at(tmp_path / "link")
    assert storage.local("again.npy").read_bytes() == b"index"


@pytest.mark.parametrize("place", ["local", "remote"])
def test_files_that_are_not_there(place, bucket, tmp_path):
    fill(tmp_path / "far")
    storage = storage_at(
        tmp_path / "far" if place == "local" else URL, tmp_path / "near"
    )
    with pytest.raises(ValueError, match=r"has no parts/9/rows\.npy"):
        storage.local("parts/9/rows.npy")
    with pytest.raises(ValueError, match="has no .*Received: path="):
        storage.sizes(["parts/0/rows.npy", "parts/9/rows.npy"])
    assert not list((tmp_path / "near").rglob("unfinished_*"))
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        storage_at("memory://bucket/parts", tmp_path)


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match="pip install fsspec.*s3://bucket/a"):
        storage_at("s3://bucket/a")


def test_protocols_without_a_driver(monkeypatch):
    driver = {"class": "no_such_driver.Files", "err": "Install no_such_driver"}
    monkeypatch.setitem(known_implementations, "far", driver)
    for url, message in [
        ("far://bucket/a", "Install no_such_driver"),
        ("unheard-of://bucket/a", "unheard-of"),
    ]:
        with pytest.raises(ValueError, match=f"driver.*{message}"):
            storage_at(url)


def test_where_copies_are_kept(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    expected = tmp_path / ".cache" / "keras_kd"
    assert storage_at(URL).folder.parent == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert storage_at(URL).folder.parent == tmp_path / "xdg" / "keras_kd"
    assert storage_at(URL, "~/mine").folder.parent == tmp_path / "mine"
    assert storage_at(URL).folder.name.startswith("answers_")


# --- whole caches ------------------------------------------------------------


def put(bucket, folder):
    """Puts a cache in the place of what is at the url."""
    bucket.rm("/bucket/answers", recursive=True)
    bucket.put(os.fspath(folder), "/bucket/answers", recursive=True)


@pytest.fixture
def far(bucket, tmp_path):
    write(tmp_path / "here")
    put(bucket, tmp_path / "here")
    return bucket


def assert_right(tmp_path, samples=SAMPLES, **arguments):
    answers = cache.open(URL, cache_dir=tmp_path / "near", **arguments)
    told = answers.views(np.arange(samples))["output"]
    np.testing.assert_array_equal(told, truth(samples))


def copy_of(tmp_path, pattern):
    (path,) = (tmp_path / "near").rglob(pattern)
    return path


@pytest.mark.parametrize("named", [True, False])
def test_a_cache_is_read_from_far_away(named, far, tmp_path):
    if not named:  # As the caches of before.
        file = tmp_path / "here/manifest.json"
        content = unsealed(file.read_bytes(), "damaged")
        index = tmp_path / "here" / content["index"].pop("name")
        index.rename(tmp_path / "here/index.npy")
        file.write_text(sealed(content))
        put(far, tmp_path / "here")
    for verify in ["auto", "full", "sizes"]:
        assert_right(tmp_path, verify=verify)
    (index,) = (tmp_path / "here").glob("index*.npy")
    assert copy_of(tmp_path, "index*.npy").name == index.name


@pytest.mark.parametrize("lost", [1, 100])
def test_a_file_that_has_lost_its_last_bytes(lost, far, tmp_path):
    whole = far.cat_file("/bucket/answers/parts/0/rows.npy")
    far.pipe("/bucket/answers/parts/0/rows.npy", whole[:-lost])
    with pytest.raises(ValueError, match=f"cut off.*{len(whole)} or more"):
        cache.open(URL, cache_dir=tmp_path / "near")


def test_files_that_are_replaced_before_they_are_read(far, tmp_path):
    answers = cache.open(URL, cache_dir=tmp_path / "near")
    write(tmp_path / "other", data() + 1)
    put(far, tmp_path / "other")
    with pytest.raises(ValueError, match="'0' is damaged.*open the cache aga"):
        answers.read([3])
    put(far, tmp_path / "here")
    np.testing.assert_array_equal(answers.views([3])["output"], truth()[[3]])
    assert_right(tmp_path)


@pytest.mark.parametrize("change", ["flipped", "cut"])
@pytest.mark.parametrize("name", ["index*.npy", "rows.npy"])
def test_a_copy_that_is_wrong_is_fetched_anew(name, change, far, tmp_path):
    assert_right(tmp_path)
    path = copy_of(tmp_path, name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content[:-2] if change == "cut" else content)
    with pytest.raises(ValueError, match="open the cache again"):
        assert_right(tmp_path)
    assert_right(tmp_path)


def test_an_index_too_large_to_look_at_when_opening(far, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_records, "VERIFIED_AT_OPEN", 8)
    assert_right(tmp_path)
    path = copy_of(tmp_path, "index*.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="index.*open the cache again"):
        assert_right(tmp_path, verify="full")
    assert_right(tmp_path, verify="full")
