"""The page of troubleshooting has each warning, and quotes what there is."""

import ast
import re
from pathlib import Path

import pytest
from support import assert_none
from test_docstrings import FUNCTIONS
from test_docstrings import SOURCES
from test_docstrings import name_of

pytestmark = pytest.mark.one_backend
PAGE = Path(__file__).parents[1] / "guides" / "troubleshooting.md"
TEXT = PAGE.read_text()
# A heading of the third level is a message, and so is each line of a block of
# text; "…" stands for what differs from one message to the next.
HEADINGS = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)
BLOCKS = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
WARNINGS = re.findall(r"^### (.+)$", TEXT.split("\n## ")[1], re.MULTILINE)


def text_of(node):
    """The text of a string, "…" where a value is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return node.value if isinstance(node, ast.Constant) else "…"


def strings_in(tree):
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text or isinstance(node, ast.JoinedStr):
            yield text_of(node)


def quotes(message, text):
    """Whether a message of the page is in a text of the source."""
    for part in filter(None, message.split("…")):
        _, found, text = text.partition(part)
        if not found:
            return False
    return True


def calls(tree, *names):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node) in names
    ]


def found_by(function):
    """What the findings say that a function yields, or one that it calls."""
    for call in calls(function, "Finding"):
        if not isinstance(call.args[2], ast.Starred):
            yield text_of(call.args[2])
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            yield text_of(node.value.elts[0])
        if isinstance(node, ast.Call) and str(name_of(node)).startswith("_"):
            for helper in FUNCTIONS.get(name_of(node), []):
                yield from found_by(helper)


def warnings_of_the_library():
    """The text of each warning, wherever it is made."""
    for tree in SOURCES.values():
        for call in calls(tree, "warn", "_warn"):
            yield from (text_of(a) for a in call.args if not is_name(a))
        for call in calls(tree, "warn_of"):
            for function in FUNCTIONS.get(name_of(call.args[0]), []):
                yield from found_by(function)


def is_name(node):
    """Not a text that is written there: a name, or a short key."""
    return not isinstance(node, ast.JoinedStr)


def test_warnings_are_found():
    found = list(warnings_of_the_library())
    assert len(found) >= len(WARNINGS) > 10
    assert any("no better than chance" in text for text in found)


def test_each_warning_is_a_heading():
    assert_none(
        [
            text
            for text in warnings_of_the_library()
            if not any(quotes(message, text) for message in WARNINGS)
        ]
    )


def errors_of_the_library():
    """The text of each error that begins with words of its own."""
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                text = text_of(node.exc.args[0]) if node.exc.args else ""
                if re.match(r"[A-Z]\w* ", text) and text.count(" ") > 6:
                    yield text


def test_each_error_is_on_the_page():
    errors = list(errors_of_the_library())
    assert len(errors) > 300
    messages = [*HEADINGS, *LINES]
    assert_none(
        [
            text
            for text in errors
            if not any(quotes(message, text) for message in messages)
        ]
    )


def test_each_heading_is_a_message_of_the_library():
    """Once: two headings of one message would be hard to tell apart."""
    texts = [text for tree in SOURCES.values() for text in strings_in(tree)]
    messages = [*HEADINGS, *LINES]
    assert len(set(messages)) == len(messages)
    assert_none(
        [
            message
            for message in messages
            if not any(quotes(message, text) for text in texts)
        ]
    )
