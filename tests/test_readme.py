"""The README's example runs, and its files exist."""

import inspect
import os
import pathlib
import re
import tomllib

import processes
import pytest
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_first_example_runs(tmp_path):
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(program.splitlines()) <= 20
    result = processes.run(run_program, program, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "student.keras").exists()


def run_program(program, folder):
    os.chdir(folder)
    exec(program, {"__name__": "__main__"})


@pytest.mark.one_backend
def test_every_example_compiles():
    for program in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(program, "README.md", "exec")


@pytest.mark.one_backend
def test_linked_files_exist():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(links) > 5
    assert all((ROOT / link).exists() for link in links)


@pytest.mark.one_backend
def test_names_are_public_ones():
    import keras_kd as kd

    modules = "|".join(
        name for name in kd.__all__ if inspect.ismodule(getattr(kd, name))
    )
    symbols = set(re.findall(rf"(?:`|\bkd\.)({modules})\.(\w+)", README))
    assert {module for module, _ in symbols} >= {
        "losses",
        "layers",
        "rules",
        "schemes",
        "students",
        "teachers",
        "callbacks",
        "cache",
    }
    unknown = [
        f"{module}.{name}"
        for module, name in symbols
        if name not in getattr(kd, module).__all__
    ]
    top_level = set(re.findall(r"\bkd\.(\w+)", README)) - set(kd.__all__)
    assert_none([*unknown, *top_level])


@pytest.mark.one_backend
def test_commands_install_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    named = re.findall(r"pip install .*?\[([\w,-]+)\]", README)
    assert named
    assert {name for some in named for name in some.split(",")} <= extras
