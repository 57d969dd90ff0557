"""Reads JSON that is not trusted, at a bounded cost, and checks its content.

A check is a function of a value and its place, such as `parts[0].name`, that
raises a `ValueError`. The functions below are checks, or return them.
"""

import json
import re

MOST_BYTES = 2**25  # Once parsed, it takes up to some thirty times as much.
MOST_DEPTH = 100  # The deepest nesting of free values, as a layer's config.
MOST = 2**62  # A sum of a few such integers still fits into 64 bits.


def read_json(path, must_be, damaged):
    """The value in a file, checked.

    Args:
        path: path of the file.
        must_be: a check of this module.
        damaged: the beginning of the error: which file, and what to do.

    Raises:
        ValueError: there is no file, it is not JSON, is too large, or fails
            the check.
    """
    if not path.is_file():
        raise ValueError(f"{damaged} Received: no file {path.name}.")
    check_size(path.stat().st_size, damaged)
    return checked(parse_json(path.read_bytes(), damaged), must_be, damaged)


def parse_json(data, damaged):
    """The value of JSON in bytes or a text; else a `ValueError`."""
    check_size(len(data), damaged)
    try:
        return json.loads(data if isinstance(data, str) else data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{damaged} (Received: no valid JSON.)") from error


def check_size(size, damaged):
    """Raises a `ValueError` about JSON that is too large."""
    if size > MOST_BYTES:
        raise ValueError(
            f"{damaged} Received: {size} bytes of JSON, expected at most "
            f"{MOST_BYTES}."
        )


def checked(value, must_be, damaged):
    """The value, if it passes a check; else a `ValueError`."""
    try:
        must_be(value, "")
    except ValueError as error:
        raise ValueError(f"{damaged} {error}") from error
    return value


def refuse(place, value, expected):
    """Raises the error about a value, without its beginning."""
    raise ValueError(
        f"Received: {place.lstrip('.') or 'all'}={short(value)}, expected "
        f"{expected}."
    )


def short(value):
    """A value as JSON, shortened for an error."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "something nested"
    return text if len(text) <= 200 else f"{text[:200]}..."


# --- checks ------------------------------------------------------------------


def whole(least=0, most=MOST):
    """An integer in a range."""

    def must_be(value, place):
        if type(value) is not int or not least <= value <= most:
            refuse(place, value, f"an integer from {least} to {most}")

    return must_be


def real(value, place):
    """A number; it may be infinite or NaN, as after training that failed."""
    small = type(value) is int and abs(value) <= MOST
    if not small and type(value) is not float:
        refuse(place, value, "a number")


def positive(value, place):
    """A number that is positive and finite in float32."""
    number = type(value) in (int, float)
    if not number or not 1e-38 <= value <= 3e38:
        refuse(place, value, "a positive number")


def text(pattern=r"(?s:.*)", expected="a text"):
    """A text that matches a pattern."""
    pattern = re.compile(pattern)

    def must_be(value, place):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            refuse(place, value, expected)

    return must_be


def choice(*values):
    """One of some values."""

    def must_be(value, place):
        if not any(type(value) is type(v) and value == v for v in values):
            refuse(place, value, f"one of {short(values)}")

    return must_be


def nothing_or(other):
    """None, or a value that passes another check."""

    def must_be(value, place):
        if value is not None:
            other(value, place)

    return must_be


def all_of(other, least=0):
    """A list whose entries pass a check."""

    def must_be(value, place):
        if not isinstance(value, list) or len(value) < least:
            refuse(place, value, f"a list of at least {least} entries")
        for number, each in enumerate(value):
            other(each, f"{place}[{number}]")

    return must_be


def by_name(other):
    """A dict whose values pass a check."""

    def must_be(value, place):
        if not isinstance(value, dict):
            refuse(place, value, "a dict")
        for name, each in value.items():
            other(each, f"{place}.{json.dumps(name[:100])[1:-1]}")

    return must_be


def fields(optional=None, **known):
    """A dict with these fields, each with a check; some may be `optional`."""
    optional = optional or {}
    every = {**optional, **known}

    def must_be(value, place):
        there = value.keys() - optional if isinstance(value, dict) else None
        if there != known.keys():
            refuse(place, value, f"a dict of {', '.join(known) or 'optional'}")
        for name, each in value.items():
            every[name](each, f"{place}.{name}")

    return must_be


def anything(value, place):
    """Any value that is not nested too deeply."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            refuse(place, value, f"at most {MOST_DEPTH} levels")
        level = [each for holder in level for each in _held_by(holder)]


def _held_by(value):
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


boolean = choice(True, False)
