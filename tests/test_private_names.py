"""Private names stay where they are meant to be.

Those of Keras in one file, so that one file follows when Keras changes them;
those of `keras_kd` in the package, so that they can change.
"""

import ast
import pathlib
import re

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
THE_ONLY_FILE = ROOT / "keras_kd" / "_src" / "keras_compat.py"
PACKAGE = sorted((ROOT / "keras_kd").rglob("*.py"))
OUTSIDE = sorted(
    path
    for folder in ("tests", "guides", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
TREES = {path: ast.parse(path.read_text()) for path in [*PACKAGE, *OUTSIDE]}
# Public by their documentation: named tuples' methods, and `os._exit`.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}


def is_private(name):
    return re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


def private_names_of_keras():
    """Those of the objects that a project meets, on this backend."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    objects = [
        model,
        keras.Model(model.inputs, model.outputs),
        model.layers[0],
        model.layers[0].kernel,
        model.inputs[0],
        model.inputs[0]._keras_history.operation._inbound_nodes[0],
        model.optimizer,
        keras.losses.MeanSquaredError(),
        keras.metrics.Mean(),
        keras.callbacks.Callback(),
        keras.random.SeedGenerator(0),
    ]
    return {
        name for one in objects for name in dir(one) if is_private(name)
    } - DOCUMENTED


# Some of these exist on one backend, or in some versions.
KERAS = private_names_of_keras() | {
    "_aggregate_additional_loss",
    "_compile_loss",
    "_flash_attention",
    "_flatten_layers",
    "_get_jax_state",
    "_inbound_nodes",
    "_jax_state",
    "_keras_history",
    "_standardize_batch",
    "_symbolic_build",
    "enqueuer",
    "jax_state_sync",
}


def names_used(tree):
    """`(line, name)` of each attribute, method, and name in a string."""
    pieces = {
        id(piece)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for piece in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ClassDef):
            yield from ((one.lineno, name) for one, name in members(node))
        elif isinstance(node, ast.Constant) and id(node) not in pieces:
            yield node.lineno, str(node.value)


def members(node):
    """What a class defines in its body: methods and values."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef):
            yield one, one.name
        for target in getattr(one, "targets", []):
            if isinstance(target, ast.Name):
                yield one, target.id


def own_names(tree):
    """What a file defines, or sets as an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(
            node.ctx, ast.Store
        ):
            yield node.attr


OWN = {name for tree in TREES.values() for name in own_names(tree)}
ALLOWED = OWN | DOCUMENTED


def imports(tree):
    """`(line, module)` of each import; `from a import b` gives `a.b`, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (node.lineno, f"{node.module}.{alias.name}")
                for alias in node.names
            )


def places(path, lines):
    return [f"{path.relative_to(ROOT)}:{line} {name}" for line, name in lines]


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PACKAGE, *OUTSIDE], ids=ids)
def test_no_private_name_of_keras(path):
    if path in (THE_ONLY_FILE, pathlib.Path(__file__)):
        return
    tree = TREES[path]
    private = [
        (line, name)
        for line, name in names_used(tree)
        if name in KERAS or "keras.src" in name
    ]
    private += [
        (line, name)
        for line, name in imports(tree)
        if name.startswith("keras.src")
    ]
    assert places(path, private) == []


@pytest.mark.parametrize("path", [*PACKAGE, *OUTSIDE], ids=ids)
def test_private_attributes_are_our_own(path):
    """Of no other library, either."""
    if path in (THE_ONLY_FILE, pathlib.Path(__file__)):
        return
    foreign = [
        (node.lineno, node.attr)
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and node.attr not in ALLOWED
    ]
    assert places(path, foreign) == []


@pytest.mark.parametrize("path", OUTSIDE, ids=ids)
def test_tests_and_guides_use_public_names(path):
    private = [
        (line, name)
        for line, name in imports(TREES[path])
        if name.startswith(("keras_kd._", "tests."))
    ]
    private += [
        (node.lineno, "keras_kd._src")
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Attribute) and node.attr == "_src"
    ]
    assert places(path, private) == []
