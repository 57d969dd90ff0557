"""Private names stay where they are meant to be.

Those of Keras in one file, so that one file follows when Keras changes them;
those of `keras_kd` in the package, so that they can change.
"""

import ast
import pathlib
import re

import keras
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
THE_ONLY_FILE = ROOT / "keras_kd" / "_src" / "keras_compat.py"
PACKAGE = sorted((ROOT / "keras_kd").rglob("*.py"))
OUTSIDE = sorted(
    path
    for folder in ("tests", "guides", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
ELSEWHERE = [
    path
    for path in [*PACKAGE, *OUTSIDE]
    if path not in (THE_ONLY_FILE, pathlib.Path(__file__))
]
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
    "_keras_mask",
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
    """What a file defines, or sets as an attribute of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and is_set_on_self(node):
            yield node.attr


def is_set_on_self(node):
    owner = getattr(node.value, "id", None)
    return isinstance(node.ctx, ast.Store) and owner == "self"


OWN = {name for tree in TREES.values() for name in own_names(tree)}


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


def offenders(check, paths):
    """`file:line name` of each name that `check(tree)` yields."""
    return [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in paths
        for line, name in check(TREES[path])
    ]


def private_of_keras(tree):
    for line, name in names_used(tree):
        if name in KERAS or "keras.src" in name:
            yield line, name
    for line, name in imports(tree):
        if name.startswith("keras.src"):
            yield line, name


def private_of_others(tree):
    for node in ast.walk(tree):
        attribute = getattr(node, "attr", "")
        if is_private(attribute) and attribute not in OWN | DOCUMENTED | KERAS:
            yield node.lineno, attribute


def private_of_the_package(tree):
    for line, name in imports(tree):
        # `tests.support` would be a second copy of `support`.
        if name.startswith(("keras_kd._", "tests.")):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "_src":
            yield node.lineno, node.attr


def test_no_private_name_of_keras():
    assert_none(offenders(private_of_keras, ELSEWHERE))


def test_no_private_attribute_of_others():
    assert_none(offenders(private_of_others, ELSEWHERE))


def test_tests_and_guides_use_public_names():
    assert_none(offenders(private_of_the_package, OUTSIDE))


def test_the_checks_find_something():
    tree = ast.parse(
        "from keras.src import ops\n"
        "import keras_kd._src.resize\n"
        "layers = model._flatten_layers()\n"
        "name = getattr(layer, '_flash_attention')\n"
        "value = other._of_no_one_here\n"
        "class Distiller:\n"
        "    def _symbolic_build(self): pass\n"
    )
    assert {line for line, _ in private_of_keras(tree)} == {1, 3, 4, 7}
    assert {line for line, _ in private_of_others(tree)} == {5}
    assert {line for line, _ in private_of_the_package(tree)} == {2}
