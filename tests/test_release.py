"""What must be the same in several files before a release."""

import pathlib
import re

import pytest

import keras_kd

pytestmark = pytest.mark.one_backend
ROOT = pathlib.Path(__file__).parents[1]


def test_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    (version,) = re.findall(r"^version: (.*)$", citation, re.MULTILINE)
    assert version == keras_kd.__version__
