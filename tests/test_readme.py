"""The README's example runs, and its files exist."""

import os
import pathlib
import re
import tomllib

import processes
import pytest
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BOX = [
    line.strip("| ").split(" | ")
    for line in README.partition("## What is in the box")[2]
    .partition("##")[0]
    .splitlines()
    if line.startswith("|")
][2:]
# What its second column has beside methods.
NOT_METHODS = {"JAX", "LiteRT", "ONNX", "OpenVINO", "PyTorch", "SavedModel"}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_examples_run_and_print_what_is_shown(tmp_path):
    """Up to 4 points: another backend or machine has another student."""
    result = processes.run(run_program, "\n".join(blocks("python")), tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "student.keras").exists()
    (shown,) = map(accuracies, blocks("text"))
    assert shown["distilled"] > shown["alone"] + 10
    assert accuracies(result.stdout) == pytest.approx(shown, abs=4)


def run_program(program, folder):
    os.chdir(folder)
    exec(program, {"__name__": "__main__"})


def accuracies(text):
    found = re.findall(r"^(\w+): ([\d.]+)%$", text, re.MULTILINE)
    return {name: float(percent) for name, percent in found}


@pytest.mark.one_backend
def test_it_is_short():
    assert len(README.splitlines()) <= 150
    assert len(blocks("python")[0].splitlines()) <= 30


@pytest.mark.one_backend
def test_linked_files_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert len(links) > 20
    assert_none([link for link in links if not (ROOT / link).exists()])


@pytest.mark.one_backend
def test_names_are_public_ones():
    """Each name in the code, and in the table of what is in the box."""
    import keras_kd as kd

    called = re.findall(r"\bkd\.(\w+)(?:\.(\w+))?", README)
    listed = [
        (name, "") for row in BOX for name in re.findall(r"`(.*?)`", row[2])
    ]
    assert len(listed) > 10
    unknown = [
        f"{module}.{name}"
        for module, name in [*called, *listed]
        if module not in kd.__all__
        or (name and name not in getattr(kd, module).__all__)
    ]
    assert_none(unknown)


@pytest.mark.one_backend
def test_acronyms_are_those_of_methods():
    """A row may name none that no method's page has."""
    methods = tomllib.loads((ROOT / "guides" / "methods.toml").read_text())
    known = {name for method in methods.values() for name in method["acronym"]}
    named = {
        name
        for row in BOX
        for name in re.findall(r"\b[A-Z][\w-]*[A-Z][\w-]*\b", row[1])
    }
    assert len(named & known) > 40
    assert_none(sorted(named - known - NOT_METHODS))


@pytest.mark.one_backend
def test_commands_install_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    named = re.findall(r"pip install .*?\[([\w,-]+)\]", README)
    assert named
    assert {name for some in named for name in some.split(",")} <= extras
