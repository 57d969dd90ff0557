"""The site's single pages: their code runs, what they name is there."""

import re
from pathlib import Path

import how_to
import keras
import processes
import pytest
from support import assert_none
from test_guides import unexpected_warnings
from test_how_to import known

GUIDES = Path(__file__).parents[1] / "guides"
PAGES = {path.stem: path for path in sorted(GUIDES.glob("*.md"))}
# Those with code, on the backend where it is tried.
WITH_CODE = {"choose": "torch", "migrating": "torch"}
# Parts of other benchmarks.
PARTS = {"generator_round", "gpu_parts"}
# Sections of the benchmarks that hold what a script printed in columns.
RECORDS = (
    "The MNIST experiment of Hinton, Vinyals and Dean",
    "All methods on one pair",
    "What the student loses",
    "A sentence encoder",
    "MNIST without an image",
)
FIGURE = re.compile(r"\d+(?:\.\d+)? ± \d+(?:\.\d+)?")


@pytest.mark.parametrize("name", WITH_CODE)
def test_code_runs_and_prints_what_is_shown(name, tmp_path):
    if keras.backend.backend() != WITH_CODE[name]:
        pytest.skip(f"runs on {WITH_CODE[name]}")
    result = processes.run(how_to.check, PAGES[name], tmp_path)
    assert result.returncode == 0, result.stderr[-5000:]
    assert_none(unexpected_warnings(result.stderr))


@pytest.mark.one_backend
def test_pages_of_code_are_those_that_run():
    found = {name for name, p in PAGES.items() if "```python" in p.read_text()}
    assert found - {"index"} == set(WITH_CODE)


@pytest.mark.one_backend
def test_names_are_public_ones():
    unknown = []
    for page in PAGES.values():
        text = page.read_text()
        names = re.findall(r"\bkd\.([\w.]*\w)", text)
        names += re.findall(r"\bkeras_kd\.([a-zA-Z][\w.]*\w)", text)
        unknown += [f"{page.name}: {name}" for name in names if not known(name)]
    assert_none(sorted(set(unknown)))


@pytest.mark.one_backend
def test_pages_that_are_made_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(GUIDES / "_ext")
    import pages

    made = {}
    monkeypatch.setattr(pages, "write", lambda path, *p: made.update({path: p}))
    pages.write_methods()
    pages.write_examples()
    kept = {*(GUIDES / "methods").iterdir(), *(GUIDES / "examples").iterdir()}
    assert made.keys() == kept
    assert_none(
        [
            path
            for path, parts in made.items()
            if path.read_text() != pages.text_of(*parts)
        ]
    )


@pytest.mark.one_backend
def test_links_lead_to_files():
    """On GitHub, too, where nothing is made."""
    files = [*GUIDES.rglob("*.md"), *GUIDES.glob("notebooks/*.ipynb")]
    dead = []
    for page in files:
        links = re.findall(r"\]\((?!http)([^)#\s]+)", page.read_text())
        dead += [
            f"{page.relative_to(GUIDES)}: {link}"
            for link in links
            if not (page.parent / link).exists()
        ]
    assert_none(dead)


@pytest.mark.one_backend
def test_scripts_that_are_named_exist():
    named = {
        path
        for page in PAGES.values()
        for path in re.findall(
            r"(?:examples|guides)/[\w/]+\.py", page.read_text()
        )
    }
    assert len(named) > 20
    assert_none([path for path in named if not (GUIDES.parent / path).exists()])


@pytest.mark.one_backend
def test_each_example_is_in_the_table():
    linked = re.findall(
        r"\]\(examples/(\w+)\.md\)", PAGES["examples"].read_text()
    )
    files = {path.stem for path in (GUIDES.parent / "examples").rglob("*.py")}
    assert set(linked) == files - PARTS
    assert len(linked) == len(set(linked))


@pytest.mark.one_backend
def test_figures_are_what_a_script_printed():
    """Each mean and spread: in its first lines, or a guide's outputs."""
    paths = [
        *GUIDES.parent.glob("examples/**/*.py"),
        *GUIDES.glob("*.py"),
        *GUIDES.glob("notebooks/*.ipynb"),
    ]
    sections = PAGES["benchmarks"].read_text().split("\n### ")
    printed = [path.read_text() for path in paths]
    printed += [each for each in sections if each.startswith(RECORDS)]
    known = {each for text in printed for each in figures_of(text)}
    wrong = [
        f"{page.name}: {figure}"
        for page in [*PAGES.values(), GUIDES / "methods.toml"]
        for figure in figures_of(page.read_text())
        if figure not in known
    ]
    assert_none(wrong)


def figures_of(text):
    """Means and spreads, whatever sign and line break is between."""
    text = text.replace("+-", "±").replace("\\u00b1", "±")
    return set(FIGURE.findall(re.sub(r"[\s\\]+", " ", text)))
