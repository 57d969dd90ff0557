"""Way: how one row of a comparison is trained."""

from keras_kd._src.arguments import function_that_makes
from keras_kd._src.compare.data import checked_data
from keras_kd._src.compare.training import checked_budget
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.binary_soft_targets import BinarySoftTargets
from keras_kd._src.losses.feature_matching import FeatureMatching

TEACHER, ALONE = "teacher", "student alone"
DISTILLED = "student distilled"
BUDGETS = "epochs", "steps", "seconds"


class Way:
    """How one row of `keras_kd.compare` is trained, where it differs.

    Arguments that are not given are those of `compare`. If a way only has a
    function of its own, pass the function itself instead of a `Way`.

        ways = {
            "student distilled, T=1": lambda teacher, student: (
                kd.Distiller(teacher, student, kd.losses.SoftTargets(1.0))
            ),
            "student alone, all labels": Way(train_data=(x, all_labels)),
            "teacher": Way(compile=other_settings, epochs=50),
        }

    Args:
        make: function of the teacher and a new student that returns the model
            to compile and fit: the student itself, or a model that trains it,
            such as a `Distiller`. By default it is the student alone; for
            "student distilled" a `Distiller` with soft targets (for binary
            tasks `BinarySoftTargets`, for regression the squared error).
        train_data: as in `compare`.
        compile: function, as in `compare`.
        epochs: integer, the way's own budget in epochs; or
        steps: integer, in training steps; or
        seconds: number, in seconds of training.
        description: a sentence on what is trained and why, which `compare`
            prints before the first run of this way.

    Raises:
        ValueError: an argument is of the wrong kind.

    Example:
    >>> way = Way(epochs=50)
    >>> way.budget.amount
    50
    """

    def __init__(
        self,
        make=None,
        *,
        train_data=None,
        compile=None,
        epochs=None,
        steps=None,
        seconds=None,
        description="",
    ):
        self.make = make and function_that_makes(make, "make")
        self.train_data = checked_data(train_data, "train_data")
        self.compile = compile and function_that_makes(compile, "compile")
        given = (epochs, steps, seconds)
        self.description = description
        self.budget = None
        if any(amount is not None for amount in given):
            self.budget = checked_budget(*given)

    def completed(self, name, task, **defaults):
        """The way, completed by the arguments of `compare`."""
        way = Way(self.make, description=self.description)
        way.make = self.make or default_make(name, task)
        for key, value in defaults.items():
            own = getattr(self, key)
            setattr(way, key, value if own is None else own)
        return way


def default_make(name, task):
    """The default of `make`: the student, or a distiller."""
    if name != DISTILLED:
        return lambda teacher, student: student
    losses = {"binary": BinarySoftTargets, "regression": FeatureMatching}
    if task not in losses:
        return Distiller
    return lambda teacher, student: Distiller(
        teacher, student, Transfer(losses[task](), weight=0.9)
    )


def checked_ways(ways):
    """Dict of all ways by name, in the order of the rows."""
    named = {TEACHER: Way(), ALONE: Way(), DISTILLED: Way()}
    ways = {} if ways is None else ways
    wrong = not isinstance(ways, dict) or [
        name
        for name, way in ways.items()
        if not isinstance(name, str)
        or not (isinstance(way, Way) or callable(way))
    ]
    if wrong:
        raise ValueError(
            "Argument `ways` must be a dict from names to functions of teacher "
            "and student, or to `keras_kd.Way`s. Received: "
            f"{ways if not isinstance(ways, dict) else wrong!r}."
        )
    for name, way in ways.items():
        named[name] = way if isinstance(way, Way) else Way(way)
    if named[TEACHER].make is not None:
        raise ValueError(
            "The way 'teacher' can have data, settings and a budget of its "
            "own. Received: a function, too. Give `compare` a function that "
            "builds the teacher."
        )
    return named
