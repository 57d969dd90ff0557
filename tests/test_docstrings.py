"""What every public name says of itself, and every error of its cause."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from support import assert_none

import keras_kd

pytestmark = pytest.mark.one_backend
PACKAGE = Path(keras_kd.__file__).parent
SECTIONS = [
    "Args",
    "Attributes",
    "Call arguments",
    "Returns",
    "Raises",
    "Example",
    "Reference",
]
# What these do is no idea of a paper.
WITHOUT_REFERENCE = {
    "ExportReport",
    "export",
    "metrics.Perplexity",
    "callbacks.EpochBackup",
    "layers.AttentionAdapter",
    "layers.PredictionBank",
    "losses.DistillationLoss",
    "losses.LogitDivergence",
    "losses.TemperedLoss",
    "losses.logits_of",
    "metrics.TeacherMetric",
    "rules.Audit",
    "rules.Rule",
    "rules.RuleInputs",
    "rules.Touched",
    "rules.apply_rules",
    "rules.audit",
    "schemes.Chain",
    "schemes.Stage",
    "teachers.FunctionTeacher",
    "teachers.JaxFunction",
    "teachers.Member",
    "teachers.OnnxModel",
    "teachers.Teacher",
    "teachers.TeacherBySample",
    "teachers.TorchModule",
    "teachers.entropy_weights",
    "teachers.fingerprint",
    "teachers.mean_of_probabilities",
    "text.OffsetTokenizer",
    "text.PairedTexts",
    "text.check_same_ids",
}
# What they return is up to the loss that is made of them.
# No losses themselves.
BASES = {
    "losses.ChunkedLogits",
    "losses.LogitDivergence",
    "losses.TemperedLoss",
}
METHODS = (
    "callbacks.",
    "layers.",
    "losses.",
    "metrics.",
    "rules.",
    "schemes.",
    "students.",
    "teachers.",
    "text.",
)


def public_values():
    """`name -> value`, such as `losses.SoftTargets`, of every module's."""
    modules = [keras_kd, *filter(inspect.ismodule, members(keras_kd).values())]
    return {
        f"{module.__name__}.{name}".removeprefix("keras_kd."): value
        for module in modules
        for name, value in members(module).items()
        if not inspect.ismodule(value)
    }


def members(module):
    return {name: getattr(module, name) for name in module.__all__}


PUBLIC = public_values()


def doc_of(value):
    return inspect.getdoc(value) or "" if value.__doc__ else ""


def sections_of(doc):
    """`title -> text`; the titles in their order, "" before the first."""
    titles = "|".join(SECTIONS)
    pieces = re.split(rf"^({titles})s?:(?=\s)", doc, flags=re.MULTILINE)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2]))}


def offenders(is_wrong, names=PUBLIC):
    return [name for name in names if is_wrong(PUBLIC[name])]


def test_every_module_is_looked_at():
    assert {
        "Distiller",
        "extract_features",
        "cache.write",
        "callbacks.TemperatureAnnealing",
        "layers.FeatureAdapter",
        "losses.SoftTargets",
        "losses.soft_targets",
        "metrics.TeacherAgreement",
        "rules.DropWrong",
        "schedules.Annealing",
        "schemes.mutual_learning",
        "students.shrink",
        "teachers.Ensemble",
        "testing.check_loss",
        "text.align",
    } <= set(PUBLIC)
    callables = (inspect.isclass, inspect.isfunction)
    assert all(any(is_a(v) for is_a in callables) for v in PUBLIC.values())


def test_docstring_has_an_example():
    def lacks_one(value):
        return ">>> " not in sections_of(doc_of(value)).get("Example", "")

    assert_none(offenders(lacks_one))


def test_examples_use_public_names():
    assert_none(offenders(lambda value: "keras_kd._src" in doc_of(value)))


def test_first_line_is_a_sentence():
    assert_none(offenders(lambda value: not is_sentence(doc_of(value))))


def is_sentence(doc):
    first, *others = doc.splitlines() or [""]
    alone = not others or not others[0]
    return first.endswith((".", "?")) and first[0].isupper() and alone


def test_sections_are_in_order():
    def out_of_order(value):
        titles = list(sections_of(doc_of(value)))[1:]
        return titles != sorted(titles, key=SECTIONS.index)

    assert_none(offenders(out_of_order))


def test_method_names_its_paper():
    methods = [
        name
        for name in PUBLIC
        if name.startswith(METHODS) and name not in WITHOUT_REFERENCE
    ]
    assert_none(offenders(lacks_its_paper, methods))


def lacks_its_paper(value):
    text = sections_of(doc_of(value)).get("Reference", "")
    # A few papers are found in a conference's proceedings only.
    venue = re.search(r"\b(NeurIPS|CVPR|ECCV|ICML|ICLR|ACL|JMLR)\b", text)
    in_proceedings = venue and re.search(r"\b(19|20)\d\d\b", text)
    return not (in_proceedings or re.search(r"arXiv\s+\d{4}\.\d{4,5}", text))


def test_each_argument_is_described():
    missing = [
        f"{name}: {argument}"
        for name, value in PUBLIC.items()
        for argument in without_description(value)
    ]
    assert_none(missing)


def without_description(value):
    described = described_in(doc_of(value))
    return [name for name in parameters(value) if name not in described]


def described_in(doc):
    sections = sections_of(doc)
    texts = [
        sections.get(title, "")
        for title in ("Args", "Attributes", "Call arguments")
    ]
    entries = re.findall(r"^\s+([\w*, ]+):", "\n".join(texts), re.MULTILINE)
    return {part.strip() for entry in entries for part in entry.split(",")}


def parameters(value):
    return [
        parameter.name
        for parameter in inspect.signature(value).parameters.values()
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def tree_of(value):
    return ast.parse(textwrap.dedent(inspect.getsource(value)))


def test_what_a_function_returns_is_described():
    def returns_in_silence(value):
        returns = inspect.isfunction(value) and any(
            isinstance(node, ast.Return) and node.value is not None
            for node in ast.walk(tree_of(value))
        )
        return returns and "Returns" not in sections_of(doc_of(value))

    assert_none(offenders(returns_in_silence))


def test_loss_says_what_it_returns():
    losses = [
        name
        for name in PUBLIC
        if name.startswith("losses.") and name not in BASES
    ]
    lacking = [
        name
        for name in losses
        if "Returns" not in sections_of(doc_of(PUBLIC[name]))
    ]
    assert_none(lacking)


def test_what_is_raised_is_described():
    def raises_in_silence(value):
        raises = any(
            isinstance(node, ast.Raise) for node in ast.walk(tree_of(value))
        )
        return raises and "Raises" not in sections_of(doc_of(value))

    assert_none(offenders(raises_in_silence))


def test_public_methods_have_a_sentence():
    """Those that Keras does not know, and so does not describe."""
    lacking = [
        f"{name}.{method}"
        for name, value in PUBLIC.items()
        if inspect.isclass(value)
        for method, function in vars(value).items()
        if is_own_method(value, method, function)
        and not is_sentence(doc_of(function))
    ]
    assert_none(lacking)


def is_own_method(owner, name, value):
    known = any(
        name in vars(base)
        for base in owner.__mro__[1:]
        if not base.__module__.startswith("keras_kd")
    )
    documented = any(
        doc_of(vars(base)[name])
        for base in owner.__mro__[1:]
        if name in vars(base)
    )
    is_method = inspect.isfunction(value) or isinstance(value, property)
    public = is_method and not name.startswith("_") and name != "get_config"
    # A property of an argument's name: the class describes the argument.
    argument = name in parameters(owner)
    return public and not (known or documented or argument)


# But for `testing`, whose errors are failed assertions.
SOURCES = {
    path: ast.parse(path.read_text())
    for path in PACKAGE.rglob("*.py")
    if path.parent.name != "testing"
}


class Message:
    """The text of an error: `{}` where a value is put in."""

    def __init__(self, function):
        self.function = function

    def text(self, node, depth=0):
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.text(node.value, depth) or "{}"
        if isinstance(node, ast.BinOp):
            return self.text(node.left, depth) + self.text(node.right, depth)
        if isinstance(node, (ast.Name, ast.Call)) and depth < 3:
            return self.elsewhere(node, depth + 1)
        return ""

    def elsewhere(self, node, depth):
        """What a local name was set to, or a function of ours returns."""
        if isinstance(node, ast.Name):
            return self.of(self.function, ast.Assign, depth, name=node.id)
        texts = [
            Message(function).of(function, ast.Return, depth)
            for function in FUNCTIONS.get(name_of(node), [])
        ]
        return "".join(texts)

    def of(self, function, kind, depth, name=None):
        """The texts of all values that are returned, or set to a name."""
        return "".join(
            self.text(node.value, depth)
            for node in ast.walk(function)
            if isinstance(node, kind)
            and (name is None or name in map(ast.unparse, node.targets))
            and node.value is not None
        )


def functions_of(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


FUNCTIONS = {}
for tree in SOURCES.values():
    for function in functions_of(tree):
        FUNCTIONS.setdefault(function.name, []).append(function)


def raised_errors():
    """`(place, function, node, error)` of each error that the package makes.

    Not those that it caught and raises again, and not the error of a method
    that a subclass has to implement.
    """
    for path, tree in SOURCES.items():
        for function in functions_of(tree):
            for node in ast.walk(function):
                if not isinstance(node, ast.Raise):
                    continue
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                for owner, error in made(function, node.exc):
                    if name_of(error) != "NotImplementedError":
                        yield place, owner, node, error


def made(function, error):
    """The calls that make an error, each in the function that it is in."""
    helpers = FUNCTIONS.get(name_of(error), [])
    if not helpers:
        return [(function, error)] if isinstance(error, ast.Call) else []
    return [
        (helper, node.value)
        for helper in helpers
        for node in ast.walk(helper)
        if isinstance(node, ast.Return)
    ]


def name_of(node):
    """Of the function or method that is called."""
    called = getattr(node, "func", None)
    return getattr(called, "attr", getattr(called, "id", None))


def tells_what_came(function, node, error):
    arguments = getattr(error, "args", [])
    text = "".join(map(Message(function).text, arguments))
    # A caught error that is told on says so itself.
    passed_on = node.cause is not None and any(
        isinstance(part, ast.FormattedValue)
        and ast.unparse(part.value) == ast.unparse(node.cause)
        for argument in arguments
        for part in ast.walk(argument)
    )
    return passed_on or re.search(r"\bReceived:? +\S", text)


def test_errors_are_found():
    found = {place.split(":")[0] for place, *_ in raised_errors()}
    assert len(found) > 20
    assert {"_src/arguments.py", "_src/metrics.py"} <= found


def test_errors_say_what_was_received():
    silent = [
        place
        for place, *error in raised_errors()
        if not tells_what_came(*error)
    ]
    assert_none(silent)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ValueError(f'Must be one. Received: x={x}.')", True),
        ("text = f'Received: x={x}'\n    raise ValueError(text)", True),
        ("raise ValueError(f'Must be one. {received(name, x)}')", True),
        ("raise ValueError(f'Transfer {x}: {e}') from e", True),
        ("raise ValueError(f'Must be one, {x}.') from e", False),
        ("raise ValueError('Nothing was received.')", False),
        ("raise ValueError('Must be one. Received: ')", False),
        ("raise ValueError('Received by open(path).')", True),
        ("raise ValueError('Look at it with open(path).')", False),
    ],
)
def test_what_counts_as_saying_it(source, told):
    (function,) = ast.parse(f"def f(x, name, e):\n    {source}").body
    (node,) = [n for n in ast.walk(function) if isinstance(n, ast.Raise)]
    assert bool(tells_what_came(function, node, node.exc)) == told


def test_errors_are_value_errors():
    of_ours = [
        node.name
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and "ValueError" in map(ast.unparse, node.bases)
    ]
    others = [
        place
        for place, _, _, error in raised_errors()
        if name_of(error) not in ["ValueError", *of_ours]
    ]
    assert_none(others)


def test_no_assert_in_the_package():
    asserts = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert_none(asserts)
