"""Makes a notebook of each guide, with the outputs of a run.

    python guides/_ext/notebooks.py             all whose code has changed
    python guides/_ext/notebooks.py NAME ...    these, whatever has changed
    python guides/_ext/notebooks.py --text      none: only renews the text
    python guides/_ext/notebooks.py --check     only says what is out of date

A guide is a Python file whose top-level strings are Markdown (a tutobook). Its
notebook is what the site shows and what Colab opens. Outputs belong to code:
where only the text has changed, the notebook keeps its outputs.
"""

import argparse
import ast
import os
import pathlib
import re
import resource
import sys
import tempfile

import nbformat

GUIDES = pathlib.Path(__file__).parents[1]
NOTEBOOKS = GUIDES / "notebooks"
REPOSITORY = "https://github.com/keras-kd/keras-kd"
COLAB = "https://colab.research.google.com/github/keras-kd/keras-kd/blob/main"
# The first cell: it does nothing where the library is installed.
INSTALL = """\
# For Colab: installs what this guide needs.
import importlib.util
import os

os.environ.setdefault("KERAS_BACKEND", "{backend}")
if importlib.util.find_spec("keras_kd") is None:
    %pip install -q "keras-kd[{extras}] @ git+{repository}"\
"""
# The site leaves cells of this tag out.
HIDDEN = "remove-cell"
BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
# What the compilers of the backends write to stderr is of no use to a reader.
NOISE = re.compile(
    r"^(\d{4}-\d\d-\d\d|[IWE]\d{4} |WARNING:absl|WARNING: All log|INFO: "
    r"|fully_quantize|.*IProgress not found|  from \.autonotebook).*\n?",
    re.MULTILINE,
)


def sources():
    """All guides, by name."""
    files = sorted(GUIDES.glob("*.py"))
    return {file.stem: file for file in files if file.stem != "conf"}


def convert(file):
    """The guide as a notebook without outputs."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    head, *parts = cells_of(file.read_text())
    fields = dict(re.findall(r"^([\w ]+): (.*)$", head[1], re.MULTILINE))
    parts = [("markdown", introduction(file.stem, fields)), *parts]
    for number, (kind, text) in enumerate(parts):
        make = getattr(nbformat.v4, f"new_{kind}_cell")
        notebook.cells.append(make(text, id=f"cell-{number}"))
    notebook.cells.insert(1, installing(fields["Needs"]))
    add_alternative_texts(notebook.cells)
    return notebook


def installing(needs):
    """A cell that installs the library with the extras of a guide."""
    extras = re.search(r"\[(.*)\]", needs)[1]
    backend = extras.partition(",")[0]
    text = INSTALL.format(backend=backend, extras=extras, repository=REPOSITORY)
    return nbformat.v4.new_code_cell(
        text, id="install", metadata={"tags": [HIDDEN]}
    )


def cells_of(text):
    """Kind and text of each cell: strings are Markdown, the rest is code."""
    lines, done, cells = text.splitlines(), 0, []
    for node in ast.parse(text).body:
        if is_text(node):
            cells.append(("code", lines[done : node.lineno - 1]))
            cells.append(("markdown", node.value.value.splitlines()))
            done = node.end_lineno
    cells.append(("code", lines[done:]))
    joined = [(kind, "\n".join(rows).strip("\n")) for kind, rows in cells]
    return [(kind, text) for kind, text in joined if text]


def is_text(node):
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def introduction(name, fields):
    """The title, what the guide is about, and where its files are."""
    return "\n".join(
        [
            f"# {fields['Title']}",
            "",
            fields["Description"],
            "",
            "[![Open in Colab](../_static/colab.svg)]"
            f"({COLAB}/guides/notebooks/{name}.ipynb)",
            f"[Python file]({REPOSITORY}/blob/main/guides/{name}.py)",
            f"· needs `{fields['Needs']}`",
        ]
    )


def add_alternative_texts(cells):
    """A figure's caption, for those who can't see the figure."""
    for cell, following in zip(cells, cells[1:]):
        caption = re.match(r"\*Figure: ([^*]+)\*", following.source)
        if caption and cell.cell_type == "code":
            text = " ".join(caption[1].split())
            cell.metadata["mystnb"] = {"image": {"alt": text}}


def code_cells(notebook):
    """Those of the guide: not the one that installs."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and HIDDEN not in cell.metadata.get("tags", [])
    ]


def code_of(notebook):
    return [cell.source for cell in code_cells(notebook)]


def kept(name):
    """The notebook that lies there, or an empty one."""
    path = NOTEBOOKS / f"{name}.ipynb"
    if path.exists():
        return nbformat.read(path, as_version=4)
    return nbformat.v4.new_notebook()


def with_outputs(fresh, earlier):
    """The fresh notebook with the outputs of the earlier, of the same code."""
    for cell, before in zip(
        code_cells(fresh), code_cells(earlier), strict=True
    ):
        cell.outputs = before.outputs
    backend = earlier.metadata.get("backend", "jax")
    return with_duration(fresh, earlier.metadata["seconds"], backend)


def with_duration(notebook, seconds, backend):
    notebook.metadata["seconds"] = seconds
    notebook.metadata["backend"] = backend
    took = max(1, round(seconds / 60))
    minutes = "a minute" if took == 1 else f"{took} minutes"
    notebook.cells[0].source += f"\n· {minutes} on a CPU ({BACKENDS[backend]})"
    return notebook


def execute(notebook):
    """Runs it in an empty folder; raises at the first error."""
    from nbclient import NotebookClient

    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    paths = [str(GUIDES.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    start = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=None,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
        places = {folder: ".", str(GUIDES.parent) + "/": "", sys.prefix: "venv"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.execution_count = None
            cell.outputs = cleaned(cell.outputs, places)
    notebook.metadata.pop("language_info", None)
    seconds = round(cpu_seconds() - start)
    return with_duration(notebook, seconds, os.environ["KERAS_BACKEND"])


def cpu_seconds():
    """Of the kernels that have ended. Other programs don't change it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cleaned(outputs, places):
    """The outputs without this machine's paths and the compilers' messages."""
    result = []
    for output in outputs:
        if output.output_type == "execute_result":
            if "image/png" not in output.data:
                continue  # Guides print what they show.
            output = nbformat.v4.new_output("display_data", output.data)
        if output.output_type == "stream":
            output.text = without_places(NOISE.sub("", output.text), places)
            if not output.text.strip():
                continue
        result.append(output)
    return result


def without_places(text, places):
    for place, name in places.items():
        text = text.replace(place, name)
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py:\d+", "cell", text)
    return re.sub(r"\S*/site-packages/", "", text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    stale = []
    for name, file in sources().items():
        if arguments.names and name not in arguments.names:
            continue
        fresh, earlier = convert(file), kept(name)
        only_text = arguments.check or arguments.text
        changed = code_of(fresh) != code_of(earlier)
        if changed or (arguments.names and not only_text):
            stale.append(name)
            if only_text:
                continue
            print(f"running {name}", flush=True)
            fresh = execute(fresh)
        else:
            fresh = with_outputs(fresh, earlier)
            if fresh == earlier or arguments.check:
                stale += [name] * (fresh != earlier)
                continue
        nbformat.write(fresh, NOTEBOOKS / f"{name}.ipynb")
    if arguments.check:
        sys.exit(f"out of date: {', '.join(stale)}" if stale else 0)


if __name__ == "__main__":
    main()
