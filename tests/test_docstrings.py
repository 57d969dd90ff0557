"""What every public name says of itself, and every error of its cause."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import keras_kd
from keras_kd import callbacks
from keras_kd import layers
from keras_kd import losses
from keras_kd import metrics
from keras_kd import rules
from keras_kd import schedules
from keras_kd import schemes
from keras_kd import students
from keras_kd import teachers

pytestmark = pytest.mark.one_backend
PACKAGE = Path(keras_kd.__file__).parent
MODULES = [
    keras_kd,
    losses,
    layers,
    students,
    teachers,
    rules,
    callbacks,
    metrics,
    schedules,
    schemes,
]
# Of these the class that uses them is documented in full.
HELPERS = {"TeacherMetrics"}
# What they do is no idea of a paper.
WITHOUT_REFERENCE = {"DistillationLoss", "TemperedLoss", "logits_of"}


def public_names(module):
    return {
        f"{module.__name__}.{name}": value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("keras_kd")
        and not name.startswith("_")
        and name not in HELPERS
        # What a module imports for its own use is public elsewhere.
        and (hasattr(module, "__path__") or value.__module__ == module.__name__)
    }


PUBLIC = {
    name: value
    for module in MODULES
    for name, value in public_names(module).items()
}
LOSSES = public_names(losses)


def test_there_is_something_to_look_at():
    assert {
        "keras_kd.Distiller",
        "keras_kd.losses.SoftTargets",
        "keras_kd.losses.soft_targets",
        "keras_kd.layers.FeatureAdapter",
        "keras_kd.callbacks.TemperatureAnnealing",
        "keras_kd.metrics.TeacherAgreement",
        "keras_kd.schedules.Annealing",
    } <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_with_an_example(name):
    doc = PUBLIC[name].__doc__ or ""
    assert len(doc.splitlines()) > 1
    assert re.search(r"^\s+Example:\n\s+>>> ", doc, re.MULTILINE)


@pytest.mark.parametrize("name", PUBLIC)
def test_first_line_is_a_sentence(name):
    first = (PUBLIC[name].__doc__ or "").splitlines()[0]
    assert first.endswith((".", "?"))
    assert first[0].isupper()


@pytest.mark.parametrize(
    "name",
    [name for name in LOSSES if name.split(".")[-1] not in WITHOUT_REFERENCE],
)
def test_loss_names_its_paper(name):
    doc = LOSSES[name].__doc__
    assert re.search(r"Reference(s)?:", doc)
    # A few papers are found in a conference's proceedings only.
    assert re.search(r"arXiv\s+\d{4}\.\d{4,5}|NeurIPS|CVPR\s+\d{4}", doc)


def parameters(value):
    return [
        parameter.name
        for parameter in inspect.signature(value).parameters.values()
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_each_argument_is_described(name):
    doc = PUBLIC[name].__doc__ or ""
    described = set(re.findall(r"^\s+([\w, ]+):", doc, re.MULTILINE))
    described = {
        part.strip() for entry in described for part in entry.split(",")
    }
    missing = [
        parameter
        for parameter in parameters(PUBLIC[name])
        if parameter not in described
    ]
    assert not missing


# But for `testing`, whose errors are failed assertions.
SOURCES = {
    path: ast.parse(path.read_text())
    for path in PACKAGE.rglob("*.py")
    if path.parent.name != "testing"
}
# Messages made by a function: what is in it counts as said.
FUNCTIONS = {
    node.name: ast.unparse(node)
    for tree in SOURCES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
}


def raised_errors():
    """`(place, source)` of each error that is made in the package."""
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                yield place, ast.unparse(node)


def said(source):
    called = re.findall(r"\b(\w+)\(", source)
    return source + "".join(FUNCTIONS.get(name, "") for name in called)


def test_errors_are_found():
    found = [place.split(":")[0] for place, _ in raised_errors()]
    assert len(found) > 20
    assert {"taps.py", "metrics.py", "losses/class_counts.py"} <= set(found)


def test_errors_say_what_was_received():
    offenders = [
        place
        for place, source in raised_errors()
        # `from error`: an error that was caught, with its place put before.
        if "eceived" not in said(source) and " from error" not in source
    ]
    assert offenders == []


def test_errors_are_value_errors():
    others = [
        place
        for place, source in raised_errors()
        if not source.startswith("raise ValueError(")
    ]
    assert others == []


def test_no_assert_in_the_package():
    asserts = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []
