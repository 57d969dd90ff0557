"""The facts of the methods' pages: complete, and of what there is."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from support import assert_none

import keras_kd

pytestmark = pytest.mark.one_backend
ROOT = Path(__file__).parents[1]
METHODS = tomllib.loads((ROOT / "guides" / "methods.toml").read_text())
LISTS = {"acronym", "symbols", "paper"}
TEXTS = {
    "title",
    "family",
    "matched",
    "weight",
    "helps",
    "not_for",
    "verified",
    "measured",
    "cost",
    "guide",
    "example",
}
FAMILIES = [
    "response",
    "feature",
    "relation",
    "attention",
    "language models",
    "multi-teacher",
    "self and online",
    "chains and structure",
    "noisy teacher",
    "weights and curricula",
    "cached predictions",
    "data-free",
    "quantization",
]
# What no page of a method is about.
HELPERS = {
    "callbacks.EpochBackup",
    "losses.TemperedLoss",
    "losses.logits_of",
    "rules.Rule",
    "rules.RuleInputs",
    "rules.apply_rules",
    "teachers.fingerprint",
}
# What is public there is a method, or a part of one.
MODULES = [
    "cache",
    "callbacks",
    "data_free",
    "layers",
    "losses",
    "quantization",
    "rules",
    "schedules",
    "schemes",
    "students",
    "teachers",
    "text",
]
ACRONYMS = """
KD LSKD AT FitNets AB OFD FT VID RKD SP CC PKT CRD NST FSP KD-SVD ICKD CWD MGD
SimKD SRD ReviewKD DKD DIST DML ONE KDCL BYOT TAKD DGKD BAN PS-KD CTKD WSLD
Tf-KD OFA-KD DeiT DistilBERT TinyBERT MiniLM DAFL DFAD ZSKT ZSKD DeepInversion
KegNet GKD MiniLLM ULD QAD
"""


def public(symbol):
    """The value of a dotted name, if it is one of `__all__`; else None."""
    owner = keras_kd
    for name in symbol.split(".")[1:]:
        if name not in getattr(owner, "__all__", ()):
            return None
        owner = getattr(owner, name)
    return owner


def test_each_method_has_all_facts():
    for name, facts in METHODS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]+", name)
        assert set(facts) == LISTS | TEXTS, name
        for key, value in facts.items():
            values = value if key in LISTS else [value]
            assert all(isinstance(each, str) for each in values), (name, key)
        for key in ("title", "symbols", "matched", "helps", "measured"):
            assert facts[key], (name, key)


def test_families_are_those_listed_in_their_order():
    found = [facts["family"] for facts in METHODS.values()]
    assert list(dict.fromkeys(found)) == FAMILIES
    assert found == sorted(found, key=FAMILIES.index)


def test_papers_have_a_form_that_can_be_linked():
    form = r".+, (arXiv \d{4}\.\d{4,5}|[A-Z][A-Za-z]+ \d{4}(, as .+)?)"
    papers = [paper for facts in METHODS.values() for paper in facts["paper"]]
    assert_none([each for each in papers if not re.fullmatch(form, each)])


def test_symbols_are_public():
    symbols = [name for facts in METHODS.values() for name in facts["symbols"]]
    assert_none([symbol for symbol in symbols if public(symbol) is None])


def test_guides_and_examples_exist():
    paths = [
        f"guides/{facts['guide']}.py" if key == "guide" else facts[key]
        for facts in METHODS.values()
        for key in ("guide", "example")
        if facts[key]
    ]
    scripts = [
        path
        for facts in METHODS.values()
        for text in (facts["measured"], facts["cost"], facts["not_for"])
        for path in re.findall(r"(?:guides|examples)/[\w/]+\.py", text)
    ]
    files = {*paths, *scripts}
    assert_none([path for path in files if not (ROOT / path).is_file()])
    examples = {facts["example"] for facts in METHODS.values()} - {""}
    assert all(path.startswith("examples/") for path in examples)


def test_each_public_method_has_a_page():
    described = {
        symbol.removeprefix("keras_kd.")
        for facts in METHODS.values()
        for symbol in facts["symbols"]
    }
    names = {
        f"{module}.{name}"
        for module in MODULES
        for name in getattr(keras_kd, module).__all__
    }
    assert not HELPERS - names
    assert_none(sorted(names - described - HELPERS))
    assert_none(sorted(described & HELPERS))


@pytest.mark.parametrize("acronym", ACRONYMS.split())
def test_acronyms_are_found(acronym):
    """On a page, and in the first line of a docstring that makes the page."""
    pages = [facts for facts in METHODS.values() if acronym in facts["acronym"]]
    docs = [
        inspect.getdoc(public(symbol))
        for facts in pages
        for symbol in facts["symbols"]
    ]
    # No symbol is DeiT's own: it is another use of soft targets.
    lines = docs if acronym == "DeiT" else [doc.splitlines()[0] for doc in docs]
    word = rf"(?<![\w-]){re.escape(acronym)}(?!\w)"
    assert any(re.search(word, line) for line in lines)
