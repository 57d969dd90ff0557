"""A cache's folder: named from any working folder, and from the user's own."""

import pickle
import types

import numpy as np
import pytest
from writing_run import SAMPLES
from writing_run import batches
from writing_run import truth
from writing_run import write

from keras_kd import cache
from keras_kd._src.cache.planning.machine import free_disk

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


def assert_right(answers):
    told = answers.views(KEYS)["output"]
    np.testing.assert_array_equal(told, truth()[KEYS])


def test_a_reader_is_in_another_folder_by_now(folders, monkeypatch):
    write("answers")
    answers = cache.open("answers", verify="sizes")
    pickled = pickle.dumps(cache.open("answers"))
    monkeypatch.chdir(folders[1])
    assert_right(answers)
    assert_right(pickle.loads(pickled))


def test_copies_that_were_asked_for_in_another_folder(folders, monkeypatch):
    write("answers")
    url = f"file://{folders[0]}/answers"
    answers = cache.open(url, cache_dir="copies")
    monkeypatch.chdir(folders[1])
    assert_right(answers)
    assert not list(folders[1].iterdir())


def test_a_writer_whose_data_leads_into_another_folder(folders, monkeypatch):
    def leading():
        for batch in batches(range(SAMPLES)):
            monkeypatch.chdir(folders[1])
            yield batch

    write("answers", leading())
    assert not list(folders[1].iterdir())
    assert_right(cache.open(folders[0] / "answers"))


def test_the_users_own_folder(folders, home):
    write("~/answers")
    cache.merge("~/answers", samples=SAMPLES)
    assert_right(cache.open("~/answers"))
    assert_right(cache.open(home / "answers"))
    assert not list(folders[0].iterdir())


def test_the_disk_of_the_users_own_folder(home, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return types.SimpleNamespace(free=7)

    home.mkdir()
    monkeypatch.setattr("shutil.disk_usage", usage)
    assert free_disk("~/answers") == 7
    assert asked == [home]
