"""Docstrings as Sphinx takes them.

Ours are read by `help()` first: formulas are indented blocks, code is in single
backticks, and a source is a line that begins with "Reference:".
"""

import re

SECTION = re.compile(r"[A-Z][\w ]+:$")
BLOCK = ".. code-block:: text"
ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{5})")


def process(app, what, name, obj, options, lines):
    lines[:] = linked(with_blocks(lines))


def with_blocks(lines):
    """Marks formulas, tables and code, outside of sections, as they are."""
    result, context, previous = [], "text", ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line and not indent:
            context = context_of(line)
        if not previous and begins_block(line, indent, context):
            result += [" " * min(indent, 2) * (context == "list") + BLOCK, ""]
        result.append("    " + line if line[:1] == "|" else line)
        previous = line
    return result


def context_of(line):
    """What the lines below belong to, where they are indented."""
    if SECTION.match(line):
        return "section"
    return "list" if line.startswith("- ") else "text"


def begins_block(line, indent, context):
    least = {"text": 1, "list": 3, "section": len(line) + 1}[context]
    return line[:1] == "|" or indent >= least


def escaped(match):
    code, letter = match.groups()
    return f"{code}\\ {letter}" if letter else code


def linked(lines):
    text = "\n".join(lines)
    # In Markdown a letter may follow code, here only after an empty escape.
    text = re.sub(r"(`[^`]+`)(\w?)", escaped, text)
    text = ARXIV.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", text)
    text = re.sub(r"^References?:", r"**Source:**", text, flags=re.MULTILINE)
    # An example begins a paragraph of its own.
    text = re.sub(
        r"^(Examples?:)\n(?=\S)", r"**Example**\n\n", text, flags=re.M
    )
    return text.splitlines()


def setup(app):
    """Connects the above; before napoleon, which splits sections."""
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True}
