"""Stage: one student of a chain, and how it is trained."""

import re

import keras

from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.schemes.densely_guided import densely_guided
from keras_kd._src.teachers.ensemble import Ensemble


class Stage:
    """One student of a `Chain`: what it is, who teaches it, and for how long.

    All that has a state of its own (the student, transfers, an optimizer,
    callbacks) is given as a function that makes it. A stage then begins in
    the same way in a new process as in the first one.

        stage = Stage(
            "assistant",
            make_assistant,
            epochs=30,
            compile=lambda: {"optimizer": "adam", "loss": make_loss()},
            transfers=lambda teachers: [Transfer(SoftTargets(2.0))],
        )

    Args:
        name: names the stage in the report, and its files: letters, digits,
            `_`, `-` and `.`; not "teacher".
        student: function of nothing that makes the student, a built model.
        epochs: for how many epochs it is trained, a positive integer.
        compile: function of nothing that returns the arguments of `compile`,
            a dict with `"optimizer"`, `"loss"`, `"metrics"` ....
        transfers: function that makes the list of `Transfer`s. It is given
            the list of the stage's teachers, oldest first. Hinton's soft
            targets by default, or `keras_kd.schemes.densely_guided` where
            all teach.
        hard_weight: weight of the compiled loss, as the `Distiller` has it.
        callbacks: function of nothing that returns a list of callbacks.
        taught_by: `"previous"`, the student of the stage before (or the
            chain's teacher), or `"all"`, that teacher and the students of all
            stages before: the members of an `Ensemble`, at the taps
            "members/0", "members/1", ....

    Raises:
        ValueError: an argument is not of its kind.

    Example:
    >>> def make_student():
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> stage = Stage("student", make_student, epochs=20, compile=dict)
    >>> stage.name, stage.epochs, stage.taught_by
    ('student', 20, 'previous')

    Reference: Mirzadeh et al., 2019, "Improved Knowledge Distillation via
    Teacher Assistant", arXiv 1902.03393.
    """

    def __init__(
        self,
        name,
        student,
        *,
        epochs,
        compile,
        transfers=None,
        hard_weight=0.1,
        callbacks=None,
        taught_by="previous",
    ):
        self.name = _checked_name(name)
        self.student = _checked_maker(student, "student")
        self.epochs = _checked_epochs(epochs)
        self.compile = _checked_maker(compile, "compile")
        self.transfers = transfers and _checked_maker(transfers, "transfers")
        self.hard_weight = hard_weight
        self.callbacks = callbacks and _checked_maker(callbacks, "callbacks")
        if taught_by not in ("previous", "all"):
            raise ValueError(
                'Argument `taught_by` must be "previous" or "all". Received: '
                f"taught_by={taught_by!r}."
            )
        self.taught_by = taught_by

    @property
    def settings(self):
        """What must not change once the stage is finished; for the report."""
        number = isinstance(self.hard_weight, (int, float))
        return {
            "name": self.name,
            "epochs": self.epochs,
            "taught_by": self.taught_by,
            "hard_weight": self.hard_weight if number else "schedule",
        }

    def choose(self, models):
        """Those of the models, oldest first, that teach this stage."""
        return list(models) if self.taught_by == "all" else [models[-1]]

    def make_student(self, models):
        """A new student, that is none of the models trained before."""
        student = self.student()
        if any(student is model for model in models):
            raise ValueError(
                f"The function `student` of stage {self.name!r} must make a "
                f"new model. Received: {student.name!r} once more, a model "
                "that the chain has already. Build the model inside of the "
                "function."
            )
        return student

    def distiller(self, teachers, student):
        """A compiled `Distiller` of a student and its teachers."""
        make = self.transfers
        if make is None and self.taught_by == "all":
            make = densely_guided
        distiller = Distiller(
            teachers[0] if len(teachers) == 1 else Ensemble(teachers),
            student,
            None if make is None else make(teachers),
            hard_weight=self.hard_weight,
        )
        distiller.compile(**self.compile())
        return distiller

    def make_callbacks(self):
        """New callbacks, in a list."""
        return [] if self.callbacks is None else list(self.callbacks())

    def evaluate(self, distiller, fit_arguments):
        """The metrics of a finished student, on the validation data if any.

        Those of the last epoch are not always its own: `EarlyStopping` may
        have put other weights back.
        """
        data = fit_arguments.get("validation_data")
        if data is None:
            return {}
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        # As `fit` does it.
        size = fit_arguments.get("validation_batch_size")
        return distiller.evaluate(
            x,
            y,
            batch_size=size or fit_arguments.get("batch_size"),
            sample_weight=sample_weight,
            steps=fit_arguments.get("validation_steps"),
            verbose=0,
            return_dict=True,
        )


def _checked_name(name):
    ok = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)
    if not ok or name == "teacher":
        raise ValueError(
            "Argument `name` names the stage's files: letters, digits, '_', "
            "'-' and '.', and not 'teacher', which is the chain's first. "
            f"Received: name={name!r}."
        )
    return name


def _checked_epochs(epochs):
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(
            "Argument `epochs` must be a positive integer. Received: "
            f"epochs={epochs!r}."
        )
    return epochs


def _checked_maker(function, argument):
    # Layers can be called, too, but make nothing.
    if callable(function) and not isinstance(function, keras.layers.Layer):
        return function
    raise ValueError(
        f"Argument `{argument}` must be a function that makes it anew, so "
        "that an interrupted chain can begin the stage again. Received: "
        f"{argument}={function!r}. Write `{argument}=lambda: ...`, or pass "
        "the name of your function without calling it."
    )
