"""How-to pages: their code is run, and what it prints is what they show.

A page's ```python blocks run from top to bottom in one namespace. A ```text
block shows what the block above it prints. Code that can't run here, as it
needs a network, a GPU or several processes, is in a block of MyST's kind:
```{code-block} python.

    python tests/how_to.py guides/how_to/regression.md

runs a page in a new folder and writes what it prints into it. Numbers are
those of JAX on a CPU.
"""

import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile

import processes

# With the block that shows what it prints, if there is one; and with a comment
# where its numbers differ from run to run.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?:\n(?P<varies><!-- numbers vary -->\n\n?)?"
    r"```text\n(?P<shown>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
# Backends draw other random numbers and round otherwise.
RELATIVE, ABSOLUTE = 0.1, 0.02


def run_blocks(page):
    """Runs a page in the current folder; each block and what it printed."""
    text, namespace = page.read_text(), {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        # With empty lines before it, errors give the page's line.
        lines = text.count("\n", 0, block.start("code"))
        code = compile("\n" * lines + block["code"], str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        yield block, printed.getvalue()


def check(page, folder):
    """Runs a page in a folder, and compares what it prints."""
    os.chdir(folder)
    for block, printed in run_blocks(page):
        if block["shown"] is not None:
            compare(block["shown"], printed, varies=block["varies"])


def compare(shown, printed, varies=False):
    """Words must be the same, and numbers close to those that are shown.

    `...` stands for anything, as in doctests.
    """
    found = re.fullmatch(pattern_of(shown), printed.strip(), re.DOTALL)
    assert found, f"Shown:\n{shown}\nPrinted:\n{printed}"
    for expected, number in zip(NUMBER.findall(shown), found.groups()):
        close = abs(float(number) - float(expected)) <= (
            RELATIVE * float(expected) + ABSOLUTE
        )
        assert close or varies, f"{number} for {expected}:\n{printed}"


def pattern_of(shown):
    """A pattern of the words, with a group for each number."""
    parts = re.split(rf"({NUMBER.pattern}|\s+|\.\.\.)", shown.strip())
    return "".join(map(pattern_of_part, parts))


def pattern_of_part(part):
    if NUMBER.fullmatch(part):
        return f"({NUMBER.pattern})"
    if part == "...":
        return ".*?"
    return r"\s*" if part.isspace() else re.escape(part)


def write(page):
    """Runs a page, and writes what it prints into it."""
    pieces, end = [], 0
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block, printed in run_blocks(page):
            pieces.append(text[end : block.end()])
            end = block.end()
            if block["shown"] is not None:
                shown = block.end("shown") - block.start("shown") + len("```\n")
                pieces[-1] = pieces[-1][:-shown] + printed.rstrip() + "\n```\n"
    page.write_text("".join([*pieces, text[end:]]))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        result = processes.run(write, pathlib.Path(name).resolve())
        if result.returncode:
            raise SystemExit(f"{name}: {result.stderr}")
