"""How-to pages run as they stand, and print what they show."""

import pathlib
import re

import how_to
import keras
import processes
import pytest
from support import assert_none
from test_guides import unexpected_warnings

import keras_kd as kd

FOLDER = pathlib.Path(__file__).parents[1] / "guides" / "how_to"
PAGES = sorted(set(FOLDER.glob("*.md")) - {FOLDER / "index.md"})
BACKENDS = "torch", "jax", "tensorflow"
NEEDS = {
    "data_pipelines": ["grain", "tensorflow", "torch"],
    "export_and_int8": ["ai_edge_litert"],
    "hugging_face": ["transformers"],
    "kerashub": ["keras_hub", "tensorflow_text"],
    "teachers_from_jax_and_flax": ["flax", "optax"],
    "teachers_from_onnx": ["onnxruntime", "onnxscript"],
}
ON = {  # What their subject, or a package that they need, is made for.
    "data_pipelines": "jax",
    "export_and_int8": "tensorflow",
    "hugging_face": "torch",
    "quantization_aware_training": "torch",
    "several_devices": "jax",
    "teachers_from_jax_and_flax": "jax",
    "teachers_from_onnx": "torch",
    "teachers_from_pytorch": "torch",
}


def marked(page):
    """A page, on the backend on which it is tried."""
    elsewhere = keras.backend.backend() != backend_of(page)
    skip = pytest.mark.skipif(elsewhere, reason="runs with other backends")
    return pytest.param(page, marks=skip, id=page.stem)


def backend_of(page):
    """One after the other: they use what other tests test on each backend."""
    if page.stem in ON:
        return ON[page.stem]
    anywhere = [each for each in PAGES if each.stem not in ON]
    return BACKENDS[anywhere.index(page) % 3]


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_page_prints_what_it_shows(page, tmp_path):
    for package in NEEDS.get(page.stem, []):
        pytest.importorskip(package)
    result = processes.run(how_to.check, page, tmp_path)
    assert result.returncode == 0, result.stderr[-5000:]
    assert_none(unexpected_warnings(result.stderr))


@pytest.mark.one_backend
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_is_short_and_has_its_parts(page):
    text = page.read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
    assert "**You need**" in text and "## Common mistakes" in text
    assert "\nNext: " in text


@pytest.mark.one_backend
def test_index_has_each_page():
    index = (FOLDER / "index.md").read_text()
    linked = set(re.findall(r"\]\((\w+)\.md\)", index))
    in_tree = set(re.findall(r"^\w+$", index, re.MULTILINE))
    assert linked == in_tree == {page.stem for page in PAGES}


@pytest.mark.one_backend
def test_names_are_public_ones():
    unknown = []
    for page in PAGES:
        text = page.read_text()
        names = re.findall(r"\bkd\.([\w.]*\w)", text)
        unknown += [f"{page.name}: {name}" for name in names if not known(name)]
    assert_none(unknown)


def known(name):
    found = kd
    for part in name.split("."):
        if part not in dir(found):
            return False
        found = getattr(found, part)
    return True


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "printed",
    ["accuracy 0.93 of 7", "accuracy  0.89 of 7", "accuracy 0.9 of\n7"],
)
def test_close_numbers_are_the_same(printed):
    how_to.compare("accuracy 0.93 of ...\n", printed)


@pytest.mark.one_backend
@pytest.mark.parametrize("printed", ["accuracy 0.73", "error 0.93", ""])
def test_other_numbers_and_words_are_not(printed):
    with pytest.raises(AssertionError):
        how_to.compare("accuracy 0.93\n", printed)
