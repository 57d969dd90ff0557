"""Tables in plain text."""


def text_table(titles, rows):
    """A table in plain text: the first column left, the others right.

    Args:
        titles: list of the columns' titles.
        rows: list of rows, each a list of at most as many texts as titles.

    Returns:
        The lines, joined.
    """
    rows = [[*row, *[""] * (len(titles) - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *rows)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in [titles, *rows]
    )
