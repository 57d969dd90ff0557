"""Writes the pages that are made of something else, before Sphinx reads them.

reference/   a page for each public name, from its docstring
methods/     a page for each method, from methods.toml and its docstrings
examples/    a page for each example, from its head and its code

The last two are committed, so that links to them lead somewhere on GitHub.
After a change of what they are made of:

    python guides/_ext/pages.py
"""

import ast
import inspect
import pathlib
import re
import tomllib

import keras_kd

GUIDES = pathlib.Path(__file__).parents[1]
EXAMPLES = GUIDES.parent / "examples"
# The facts of a method, in the order of its page.
FACTS = {
    "paper": "Source",
    "matched": "What is compared",
    "weight": "Where to start",
    "helps": "When it helps",
    "not_for": "When it does not",
    "cost": "Cost",
    "measured": "Measured here",
    "verified": "Checked against",
    "guide": "Guide",
    "example": "Example",
}


def text_of(*parts):
    return "\n\n".join(part for part in parts if part) + "\n"


def write(path, *parts):
    """The page, unless it is there already: then nothing is built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text_of(*parts)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def title(text, line="="):
    return f"{text}\n{line * len(text)}"


def first_line(value):
    return (inspect.getdoc(value) or "").partition("\n")[0]


def list_table(rows, widths):
    """Rows of reStructuredText as a table without a head."""
    lines = [".. list-table::", f"   :widths: {widths}", ""]
    for row in rows:
        for place, cell in enumerate(row):
            lines.append(f"   {'* -' if place == 0 else '  -'} {cell}")
    return "\n".join(lines)


def toctree(entries, *options):
    lines = [".. toctree::", *(f"   {option}" for option in options), ""]
    return "\n".join([*lines, *(f"   {entry}" for entry in entries)])


def public_modules():
    """`keras_kd` and its public modules, by name."""
    values = {name: getattr(keras_kd, name) for name in keras_kd.__all__}
    modules = {f"keras_kd.{k}": v for k, v in values.items() if is_module(v)}
    return {"keras_kd": keras_kd, **modules}


is_module = inspect.ismodule


def public_names(module):
    names = {name: getattr(module, name) for name in module.__all__}
    return {k: v for k, v in names.items() if not is_module(v)}


def write_reference():
    folder = GUIDES / "reference"
    modules = public_modules()
    for name, module in modules.items():
        write_module(folder, name, module)
    rows = [
        (f":doc:`{name} <{name}>`", first_line(module))
        for name, module in modules.items()
    ]
    write(
        folder / "index.rst",
        title("API reference"),
        "Every public name, from its docstring. What a class has from Keras is "
        "in Keras' documentation.",
        list_table(rows, "30 70"),
        toctree(modules, ":hidden:"),
    )


# Classes that have a page of their own.
PAGES = {
    value
    for module in public_modules().values()
    for value in public_names(module).values()
    if inspect.isclass(value)
}


def write_module(folder, name, module):
    names = public_names(module)
    for own, value in names.items():
        write_name(folder, f"{name}.{own}", value)
    rows = [
        (f":py:obj:`~{name}.{own}`", first_line(value))
        for own, value in names.items()
    ]
    entries = [f"{name}.{own}" for own in names]
    write(
        folder / f"{name}.rst",
        title(name),
        f".. py:module:: {name}",
        inspect.getdoc(module),
        list_table(rows, "35 65"),
        toctree(entries, ":hidden:"),
    )


def write_name(folder, name, value):
    short = name.removeprefix("keras_kd.")
    write(folder / f"{name}.rst", title(short), directive(name, value))


def directive(name, value, *options):
    """What Sphinx has to do to document the value."""
    if inspect.isclass(value):
        kind, members = "class", ", ".join(own_members(value))
        options += (f":members: {members}",) if members else ()
    else:
        kind = "function" if inspect.isroutine(value) else "data"
    lines = [f".. auto{kind}:: {name}"]
    return "\n".join([*lines, *(f"   {option}" for option in options)])


def own_members(value):
    """What a class has of its own or of bases that have no page."""
    names = {}
    for base in value.__mro__:
        has_page = base in PAGES and base is not value
        if has_page or not base.__module__.startswith("keras_kd."):
            break
        names |= {k: v for k, v in vars(base).items() if is_documented(k, v)}
    return names


def is_documented(name, member):
    """Whether it is for users: helpers have docstrings of one line."""
    if name.startswith("_"):
        return False
    if isinstance(member, property):
        return bool(member.__doc__)
    ours = getattr(member, "__module__", "").startswith("keras_kd.")
    return ours and inspect.isfunction(member) and "\n" in str(member.__doc__)


def write_methods():
    folder = GUIDES / "methods"
    methods = tomllib.loads((GUIDES / "methods.toml").read_text())
    families = {}
    for name, method in methods.items():
        write_method(folder / f"{name}.md", method)
        families.setdefault(method["family"], {})[name] = method
    parts = ["# Methods", INTRODUCTION]
    for family, members in families.items():
        rows = [
            (f"[{method['title']}]({name}.md)", ", ".join(method["acronym"]))
            + (method["matched"],)
            for name, method in members.items()
        ]
        heads = ("Method", "Acronym", "What is compared")
        parts += [f"## {family.capitalize()}", markdown_table(heads, rows)]
    entries = "\n".join(methods)
    parts.append(f"```{{toctree}}\n:hidden:\n\n{entries}\n```")
    write(folder / "index.md", *parts)


INTRODUCTION = """\
A page for each method: its formula, when it helps, its settings, its source,
and what was measured here. [Choose](../choose.md) says which one to take."""


def markdown_table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_method(path, method):
    """The facts, and the docstrings of the symbols."""
    # Search gives most to titles, and people search by acronyms.
    acronyms = ", ".join(method["acronym"])
    heading = method["title"] + (f" ({acronyms})" if acronyms else "")
    facts = {
        **method,
        "paper": ARXIV.sub(LINK, "; ".join(method["paper"])),
        "guide": notebook_link(method["guide"]),
        "example": example_link(method["example"]),
    }
    rows = [(f"**{FACTS[fact]}**", facts[fact]) for fact in FACTS]
    symbols = [
        directive(name, value_of(name), ":no-index:")
        for name in method["symbols"]
    ]
    table = markdown_table(("", ""), [row for row in rows if row[1]])
    docstrings = "\n\n".join(symbols)
    write(
        path,
        f"# {heading}",
        table,
        f"```{{eval-rst}}\n{docstrings}\n```",
    )


ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")
LINK = r"[arXiv \1](https://arxiv.org/abs/\1)"


def notebook_link(name):
    return f"[{name}](../notebooks/{name}.ipynb)" if name else ""


def example_link(path):
    """Some figures are printed by a guide, which has a notebook."""
    stem = pathlib.PurePath(path).stem
    if path.startswith("guides/"):
        return notebook_link(stem)
    return f"[{stem}](../examples/{stem}.md)" if path else ""


def value_of(name):
    value = keras_kd
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


def write_examples():
    for file in sorted(EXAMPLES.rglob("*.py")):
        head = ast.get_docstring(ast.parse(file.read_text()))
        line, _, rest = head.partition("\n")
        relative = file.relative_to(EXAMPLES.parent)
        code = f"```{{literalinclude}} ../../{relative}\n```"
        write(
            GUIDES / "examples" / f"{file.stem}.md",
            "---\norphan: true\n---",
            f"# {line.rstrip('.')}",
            with_tables(rest.strip("\n")),
            f"## {relative}",
            code,
        )


def with_tables(text):
    """What stands in columns is shown as it is."""
    return "\n\n".join(
        f"```text\n{block}\n```" if IN_COLUMNS.search(block) else block
        for block in text.split("\n\n")
    )


IN_COLUMNS = re.compile(r"\S {3,}\S")


def setup(app):
    """Writes all pages as soon as Sphinx begins."""
    app.connect("builder-inited", lambda app: write_all())
    return {"parallel_read_safe": True}


def write_all():
    write_reference()
    write_methods()
    write_examples()


if __name__ == "__main__":
    write_all()
