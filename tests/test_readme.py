"""The README's example runs, and its files exist."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_first_example_runs(tmp_path):
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(program.splitlines()) <= 20
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "student.keras").exists()


def python_path():
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([given] if given else [])])


def test_every_example_compiles():
    for program in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(program, "README.md", "exec")


def test_linked_files_exist():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(links) > 5
    assert all((ROOT / link).exists() for link in links)


def test_table_of_methods_names_real_symbols():
    import keras_kd as kd

    symbols = set(
        re.findall(
            r"`(losses|layers|rules|schemes|students|teachers)\.(\w+)", README
        )
    )
    assert len(symbols) >= 6
    for module, name in symbols:
        assert hasattr(getattr(kd, module), name)
