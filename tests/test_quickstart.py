"""The first five minutes: the quickstart, and what is missing for it."""

import importlib
import importlib.machinery
import os
import pathlib
import runpy
import sys
import types

import processes
import pytest

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "quickstart.py"


def quickstart(folder, *arguments, absent=()):
    return processes.run(run_quickstart, folder, arguments, absent)


def run_quickstart(folder, arguments, absent):
    os.chdir(folder)
    hide(absent)
    sys.argv = [str(EXAMPLE), *arguments]
    runpy.run_path(str(EXAMPLE), run_name="__main__")


def import_again(absent, installed):
    forget("keras_kd", "keras")
    hide(absent)
    for name in installed:  # To be found: nothing imports it.
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    importlib.import_module("keras_kd")


def hide(packages):
    """As if they were not installed."""
    forget(*packages)
    sys.modules.update(dict.fromkeys(packages))


def forget(*packages):
    for name in [n for n in sys.modules if n.split(".")[0] in packages]:
        del sys.modules[name]


def test_quickstart_tells_what_it_does_and_what_came_out(tmp_path):
    result = quickstart(tmp_path, "--smoke", "--output", "one.png")
    assert result.returncode == 0, result.stderr[-5000:]
    printed = result.stdout.splitlines()
    told = [
        "Handwritten digits, on ",
        "teacher: a large network, trained on 1000 labels",
        "1/4 teacher, seed 0: accuracy ",
        "student alone: a small network, trained on 50 labels",
        "2/4 student alone, seed 0: accuracy ",
        "student distilled: ",
        "3/4 student distilled, seed 0: accuracy ",
        "student alone, 1000 labels: ",
        "4/4 student alone, 1000 labels, seed 0: accuracy ",
        "teacher  ",
        "With one seed the spread isn't known: the student reaches ",
        "With all 1000 labels and no teacher it reaches ",
        "The teacher reaches ",
        "one.png: Left: ",
        "one.html: ",
        "Read next",
    ]
    for start in told:
        while printed and not printed[0].startswith(start):
            del printed[0]
        assert printed, start
    text = (tmp_path / "one.html").read_text()
    assert "student distilled" in text
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.one_backend
def test_quickstart_names_packages_to_install(tmp_path):
    result = quickstart(tmp_path, absent=["sklearn", "matplotlib"])
    assert result.returncode == 1
    assert "pip install matplotlib scikit-learn" in result.stderr
    assert not result.stdout


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("absent", "installed", "expected"),
    [
        (
            ["tensorflow", "torch"],
            ["jax"],
            "backend 'torch', which is not installed; jax can be used. ",
        ),
        (["jax", "tensorflow", "torch"], [], "none is installed. Install one"),
    ],
)
def test_missing_backend_is_named(absent, installed, expected):
    result = processes.run(import_again, absent, installed)
    assert result.returncode == 1
    assert result.stderr.count("ModuleNotFoundError") == 1
    assert expected in result.stderr.splitlines()[-1]
