"""JSON of anyone: read at a bounded cost, and checked against what it must be.

What a value must be is a function of the value and its place, such as
`parts[0].name`, that raises a `ValueError`; those below make such functions.
"""

import json
import re

MOST_BYTES = 2**25  # Parsed, up to some thirty times as much.
MOST_DEPTH = 100  # Of what may hold anything, as a layer's config.
MOST = 2**62  # Sums of some such numbers still fit into 64 bits.


def read_json(path, must_be, damaged):
    """The value in a file, if it is what it must be.

    Args:
        path: of a file that is there.
        must_be: one of the functions of this module.
        damaged: what the error begins with: which file, and what to do.

    Raises:
        ValueError: it is no JSON, too large, or something else.
    """
    if not path.is_file():
        raise ValueError(f"{damaged} Received: no file {path.name}.")
    check_size(path.stat().st_size, damaged)
    return checked(parse_json(path.read_bytes(), damaged), must_be, damaged)


def parse_json(data, damaged):
    """The value in bytes or a text; else a `ValueError`."""
    check_size(len(data), damaged)
    try:
        return json.loads(data if isinstance(data, str) else data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{damaged} (Received: no such JSON.)") from error


def check_size(size, damaged):
    """Raises a `ValueError` about JSON that would cost too much."""
    if size > MOST_BYTES:
        raise ValueError(
            f"{damaged} Received: {size} bytes of JSON, expected at most "
            f"{MOST_BYTES}."
        )


def checked(value, must_be, damaged):
    """The value, if it is what it must be; else a `ValueError`."""
    try:
        must_be(value, "")
    except ValueError as error:
        raise ValueError(f"{damaged} {error}") from error
    return value


def refuse(place, value, expected):
    """Raises the error about a value, without what it begins with."""
    raise ValueError(
        f"Received: {place.lstrip('.') or 'all'}={short(value)}, expected "
        f"{expected}."
    )


def short(value):
    """A value as JSON, cut to what an error has room for."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "something nested"
    return text if len(text) <= 200 else f"{text[:200]}..."


# --- what a value must be ----------------------------------------------------


def whole(least=0, most=MOST):
    """An integer in a range."""

    def must_be(value, place):
        if type(value) is not int or not least <= value <= most:
            refuse(place, value, f"an integer from {least} to {most}")

    return must_be


def real(value, place):
    """A number, not a finite one: of a training that failed, there are none."""
    small = type(value) is int and abs(value) <= MOST
    if not small and type(value) is not float:
        refuse(place, value, "a number")


def positive(value, place):
    """A number that is positive and finite in float32."""
    number = type(value) in (int, float)
    if not number or not 1e-38 <= value <= 3e38:
        refuse(place, value, "a positive number")


def text(pattern=r"(?s:.*)", expected="a text"):
    """A text of a pattern."""
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
    """None, or something else."""

    def must_be(value, place):
        if value is not None:
            other(value, place)

    return must_be


def all_of(other, least=0):
    """A list of things of a kind."""

    def must_be(value, place):
        if not isinstance(value, list) or len(value) < least:
            refuse(place, value, f"a list of at least {least}")
        for number, each in enumerate(value):
            other(each, f"{place}[{number}]")

    return must_be


def by_name(other):
    """A dict of things of a kind."""

    def must_be(value, place):
        if not isinstance(value, dict):
            refuse(place, value, "a dict")
        for name, each in value.items():
            other(each, f"{place}.{json.dumps(name[:100])[1:-1]}")

    return must_be


def fields(optional=None, **known):
    """A dict of these fields, each something; `optional` ones may be there."""
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
    """Anything that is not nested too deep."""
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
