"""A cache's folder: named from any working folder, and from the user's own."""

import pickle

import numpy as np
import pytest
from writing_run import SAMPLES
from writing_run import batches
from writing_run import truth
from writing_run import write

from keras_kd import cache

pytestmark = pytest.mark.one_backend
KEYS = np.array([33, 2, 17])


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders, of which the first is the working folder."""
    for name in ["first", "second"]:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    return tmp_path / "first", tmp_path / "second"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def assert_right(cached):
    found = cached.predictions_of(KEYS)["output"]
    np.testing.assert_array_equal(found, truth()[KEYS])


def test_a_reader_is_in_another_folder_by_now(folders, monkeypatch):
    write("cache")
    cached = cache.open("cache", verify="sizes")
    pickled = pickle.dumps(cache.open("cache"))
    monkeypatch.chdir(folders[1])
    assert_right(cached)
    assert_right(pickle.loads(pickled))


def test_copies_that_were_asked_for_in_another_folder(folders, monkeypatch):
    write("cache")
    url = f"file://{folders[0]}/cache"
    cached = cache.open(url, cache_dir="copies")
    monkeypatch.chdir(folders[1])
    assert_right(cached)
    assert not list(folders[1].iterdir())


def test_a_writer_whose_data_leads_into_another_folder(folders, monkeypatch):
    def leading():
        for batch in batches(range(SAMPLES)):
            monkeypatch.chdir(folders[1])
            yield batch

    write("cache", leading())
    assert not list(folders[1].iterdir())
    assert_right(cache.open(folders[0] / "cache"))


def test_the_users_own_folder(folders, home):
    write("~/cache")
    cache.merge("~/cache", samples=SAMPLES)
    assert_right(cache.open("~/cache"))
    assert_right(cache.open(home / "cache"))
    assert not list(folders[0].iterdir())
