"""Thousands of caches of anyone: what is wrong is refused, and says so."""

import os
import pathlib
import sys
import tempfile

import fuzzing
import pytest


@pytest.mark.one_backend
@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_no_file_does_harm(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    with tempfile.TemporaryDirectory(dir=fuzzing.FAST) as folder:
        fuzzer = fuzzing.Fuzzer(pathlib.Path(folder))
        fuzzer.run(range(fuzzing.CASES))
    refused = sum(fuzzer.kinds.values()) - fuzzer.kinds["harmless"]
    assert refused > 0.7 * fuzzing.CASES
    # What is refused is refused in many ways, none of them by chance.
    assert len(fuzzer.kinds) > 10
