"""Bytes and seconds as people write them, and tables of text."""

_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1))
_SECONDS = (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3))


def bytes_text(count):
    """Bytes in the unit that suits them, of powers of 1000.

    Example:
    >>> bytes_text(138), bytes_text(2008), bytes_text(257_100_000_000)
    ('138 B', '2.01 kB', '257 GB')
    """
    return _in_unit(count, _BYTES)


def seconds_text(seconds):
    """Seconds in the unit that suits them.

    Example:
    >>> seconds_text(0.0021), seconds_text(90), seconds_text(36000)
    ('2.1 ms', '1.5 min', '10 h')
    """
    return _in_unit(seconds, _SECONDS)


def _in_unit(value, units):
    # 999.6 would be rounded to 1000 of the smaller unit.
    fitting = [unit for unit in units if value >= unit[1] * 0.9995]
    unit, size = fitting[0] if fitting else units[-1]
    value = value / size
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}"


def table_text(header, rows):
    """Rows below a header; the first column to the left, others to the right.

    Args:
        header: list of texts.
        rows: lists of as many texts.

    Returns:
        The lines, joined.

    Example:
    >>> print(table_text(["choice", "bytes"], [["live", "0"]]))
    choice  bytes
    ------  -----
    live        0
    """
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells, widths):
    first, *others = [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths))
    ]
    return "  ".join([first, *others]).rstrip()
