"""Chain: students trained in stages, each the teacher of the next."""

import pathlib
import random
import re
import shutil

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import function_that_makes
from keras_kd._src.arguments import integer
from keras_kd._src.arguments import one_of
from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.atomic_write import write_json
from keras_kd._src.callbacks.epoch_backup import EpochBackup
from keras_kd._src.checked_json import all_of
from keras_kd._src.checked_json import by_name
from keras_kd._src.checked_json import choice
from keras_kd._src.checked_json import fields
from keras_kd._src.checked_json import nothing_or
from keras_kd._src.checked_json import read_json
from keras_kd._src.checked_json import real
from keras_kd._src.checked_json import short
from keras_kd._src.checked_json import text
from keras_kd._src.checked_json import whole
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.folder_lock import FolderLock
from keras_kd._src.own_folder import inside
from keras_kd._src.schemes.densely_guided import densely_guided
from keras_kd._src.teachers.ensemble import Ensemble

NAME = r"\w[\w.-]*"  # The form of a stage's name, and of its files' names.


def _hard_weight(value, place):
    (choice("schedule") if isinstance(value, str) else real)(value, place)


# The content of `report.json`.
FINGERPRINT = text(r"[0-9a-f]{64}", "hexadecimal digits")
STAGE = fields(
    stage=text(NAME, "a stage's name"),
    teachers=all_of(text(NAME, "a stage's name"), least=1),
    file=text(),
    parameters=whole(),
    epochs=whole(),
    seconds=real,
    metrics=by_name(real),
    history=by_name(all_of(nothing_or(real))),
    settings=fields(
        name=text(),
        epochs=whole(),
        teachers=choice("previous", "all"),
        hard_weight=_hard_weight,
    ),
    fingerprint=FINGERPRINT,
)
REPORT = fields(seed=whole(), teacher=FINGERPRINT, stages=all_of(STAGE))


class Stage:
    """One student of a `Chain`, with its teachers and training settings.

    Everything with a state (the student, transfers, an optimizer, callbacks)
    is given as a function that makes it. A stage then starts in the same way
    in a new process as in the first one.

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
        student: function without arguments that returns the student, a built
            Keras model.
        epochs: number of epochs, a positive integer.
        compile: function without arguments that returns the arguments of
            `compile`, a dict with `"optimizer"`, `"loss"`, `"metrics"` ....
        transfers: function from the list of the stage's teachers, oldest
            first, to the list of `Transfer`s. By default Hinton's soft
            targets, or `keras_kd.schemes.densely_guided` for
            `teachers="all"`.
        hard_weight: weight of the compiled loss, as in the `Distiller`.
        callbacks: function without arguments that returns a list of
            callbacks.
        teachers: `"previous"`, the student of the stage before (or the
            chain's teacher); or `"all"`, the chain's teacher and the students
            of all stages before: the members of an `Ensemble`, at the taps
            "members/0", "members/1", ....

    Raises:
        ValueError: an argument has the wrong type or value.

    Example:
    >>> def make_student():
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> stage = Stage("student", make_student, epochs=20, compile=dict)
    >>> stage.name, stage.epochs, stage.teachers
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
        teachers="previous",
    ):
        self.name = _checked_name(name)
        self.student = function_that_makes(student, "student")
        self.epochs = integer(epochs, "epochs")
        self.compile = function_that_makes(compile, "compile")
        self.transfers = transfers and function_that_makes(
            transfers, "transfers"
        )
        self.hard_weight = hard_weight
        self.callbacks = callbacks and function_that_makes(
            callbacks, "callbacks"
        )
        self.teachers = one_of(teachers, "teachers", ("previous", "all"))


class Chain:
    """Teacher assistants (TAKD): each trained student is the next teacher.

    A student that is much smaller than its teacher may learn more from a
    teacher assistant: a model of a size in between, distilled from the teacher:

        chain = Chain(
            teacher,
            [
                Stage("assistant", make_assistant, epochs=30, compile=settings),
                Stage("student", make_student, epochs=30, compile=settings),
            ],
            folder="runs/assistant",
        )
        chain.fit(x, y, validation_data=(x_valid, y_valid), batch_size=64)
        chain.student.save("student.keras")

        student_k = Distiller(student_{k-1}, new student).fit(...)

    The same loop makes born-again generations (`born_again`) and densely
    guided distillation (stages with `teachers="all"`).

    The folder holds everything that is needed to resume a run. After an
    interruption, run the same program again: finished stages are loaded, the
    stage that was in training continues after its last finished epoch, and the
    remaining stages follow. With the same data the students are the same bit
    for bit as without the interruption (see `keras_kd.callbacks.EpochBackup`,
    also for data whose order it can't restore).

    The folder holds `report.json` (see `report`), the finished students as
    `1_assistant.keras`, `2_student.keras`, ..., and the backup of the stage
    in training.

    Each stage first sets Keras' random seed to a number computed from the
    chain's seed and the stage's position. Stages thus start from different
    weights, and from the same ones again after an interruption.

    Args:
        teacher: a built Keras model, the first teacher.
        stages: list of `Stage`, largest student first; names must differ.
        folder: path of a folder for this run only. An empty or a new one
            starts a new run.
        seed: seed of the run, a non-negative integer. By default one is drawn
            from Python's `random` when the run starts, and saved.

    Raises:
        ValueError: an argument has the wrong type or value; from `fit`: the
            folder is of another run (another teacher, seed, or setting of a
            finished stage), or another process is using it.

    Example:
    >>> import tempfile
    >>> import keras_kd as kd
    >>> def model(units):
    ...     return keras.Sequential([
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(units, activation="relu"),
    ...         keras.layers.Dense(3),
    ...     ])
    >>> def compiled():
    ...     cross_entropy = keras.losses.SparseCategoricalCrossentropy
    ...     return {"optimizer": "adam", "loss": cross_entropy(True)}
    >>> chain = Chain(
    ...     model(16),
    ...     [
    ...         Stage("middle", lambda: model(8), epochs=2, compile=compiled),
    ...         Stage("small", lambda: model(2), epochs=1, compile=compiled),
    ...     ],
    ...     folder=tempfile.mkdtemp(),
    ... )
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.zeros((8,))
    >>> for stage in chain.fit(x, y, verbose=0):
    ...     print(stage["stage"], stage["teachers"], stage["parameters"])
    middle ['teacher'] 67
    small ['middle'] 19

    Reference: Mirzadeh et al., 2019, "Improved Knowledge Distillation via
    Teacher Assistant", arXiv 1902.03393.
    """

    def __init__(self, teacher, stages, *, folder, seed=None):
        self.teacher = _checked_teacher(teacher)
        self.stages = _checked_stages(stages)
        self.folder = pathlib.Path(folder)
        self.seed = None if seed is None else integer(seed, "seed", least=0)
        self.students = []

    @property
    def student(self):
        """The last stage's student."""
        if len(self.students) < len(self.stages):
            raise ValueError(
                "The chain is not finished, and has no student yet. Received: "
                f"{len(self.students)} trained of {len(self.stages)} stages. "
                "Call `fit`; earlier students are in `students`."
            )
        return self.students[-1]

    @property
    def report(self):
        """The report of the finished stages, read from the folder.

        Returns:
            List of dicts, one per stage: `"stage"`, its name; `"teachers"`,
            their names; `"file"`, the student's file; `"parameters"`, their
            number; `"epochs"`, the number trained; `"seconds"`, the time of
            the epochs, before and after interruptions; `"metrics"`, of the
            finished student on the validation data, if there is any;
            `"history"`, the logs of all epochs; `"settings"`; and the
            student's `"fingerprint"`.
        """
        path = self.folder / "report.json"
        return self._read(path)["stages"] if path.exists() else []

    def _read(self, path):
        """The content of the report's file; an error names a wrong entry."""
        damaged = (
            f"The report {str(path)!r} is damaged or not that of a chain. "
            "Restore the report of the run, or start a new run in another "
            "folder."
        )
        report = read_json(path, REPORT, damaged)
        for place, stage in enumerate(report["stages"], start=1):
            # Never another path: nothing outside the folder is loaded.
            if stage["file"] != f"{place}_{stage['stage']}.keras":
                raise ValueError(
                    f"{damaged} Received: stages[{place - 1}].file="
                    f"{short(stage['file'])}, expected that of its stage."
                )
        return report

    def fit(self, x=None, y=None, **kwargs):
        """Trains the stages that are not finished yet.

        Args:
            x: as in `keras.Model.fit`, for every stage.
            y: labels, as in `keras.Model.fit`.
            **kwargs: further arguments of `keras.Model.fit`, such as
                `validation_data` and `batch_size`; `epochs` and `callbacks`
                belong to the stages.

        Returns:
            The report.
        """
        _check_fit_arguments(kwargs)
        if hasattr(x, "__next__") and len(self.stages) > 1:
            raise ValueError(
                "Each stage reads the data again. Received: a generator, which "
                "is empty after the first stage. Give `fit` arrays, a "
                "`tf.data.Dataset`, a `DataLoader` or a "
                "`keras.utils.PyDataset`."
            )
        lock = FolderLock(self.folder)
        lock.take()
        try:
            return self._fit(x, y, kwargs)
        finally:
            lock.release()

    def _fit(self, x, y, kwargs):
        report = self._begin()
        self.students = []
        for place, stage in enumerate(self.stages):
            seed = np.random.SeedSequence([report["seed"], place])
            keras.utils.set_random_seed(int(seed.generate_state(1)[0]))
            student = self._make_student(stage)
            if place < len(report["stages"]):
                self._load(student, place, report["stages"][place])
            else:
                begun = _random_states(student)
                entry = self._train(student, stage, x, y, kwargs)
                # As in a student that is loaded, whose file holds no states.
                for variable, state in begun:
                    variable.assign(state)
                report["stages"].append(entry)
                # The stage counts as finished only once its files are written.
                write_json(self.folder / "report.json", report)
                shutil.rmtree(self._file(stage, "_backup"), ignore_errors=True)
            self.students.append(student)
        return self.report

    def _begin(self):
        """The report of this run, new or found in the folder."""
        path, teacher = self.folder / "report.json", _hexadecimal(self.teacher)
        if not path.exists():
            seed = random.randrange(2**31) if self.seed is None else self.seed
            write_json(path, {"seed": seed, "teacher": teacher, "stages": []})
        report = self._read(path)
        self._check("teacher", report["teacher"], teacher)
        if self.seed is not None:
            self._check("seed", report["seed"], self.seed)
        settings = [_settings(stage) for stage in self.stages]
        for place, finished in enumerate(report["stages"]):
            now = settings[place] if place < len(settings) else None
            self._check(f"stage {place + 1}", finished["settings"], now)
        return report

    def _check(self, what, before, now):
        if before != now:
            raise ValueError(
                f"The folder {str(self.folder)!r} holds another run: its "
                f"{what} differs, and finished stages are not trained again. "
                f"Received: {what} {now!r}; in the folder: {before!r}. Use the "
                "one in the folder, or start a new run in another folder."
            )

    def _make_student(self, stage):
        student = stage.student()
        if any(student is model for model in [self.teacher, *self.students]):
            raise ValueError(
                f"The function `student` of stage {stage.name!r} must make a "
                f"new model. Received: {student.name!r}, a model that the "
                "chain has already. Build the model inside the function."
            )
        return student

    def _load(self, student, place, finished):
        student.load_weights(inside(self.folder, finished["file"]))
        now = _hexadecimal(student)
        self._check(f"student {place + 1}", finished["fingerprint"], now)

    def _train(self, student, stage, x, y, fit_arguments):
        """Trains and saves a student; returns its entry in the report."""
        distiller = self._distiller(student, stage)
        backup = EpochBackup(
            self._file(stage, "_backup"), (stage.callbacks or list)()
        )
        distiller.fit(
            x,
            y,
            epochs=stage.epochs,
            callbacks=[backup],
            **fit_arguments,
        )
        path = self._file(stage, ".keras")
        atomic_write(path, student.save)
        earlier = self.stages[: self.stages.index(stage)]
        names = ["teacher", *(each.name for each in earlier)]
        return {
            "stage": stage.name,
            "teachers": names if stage.teachers == "all" else names[-1:],
            "file": path.name,
            "parameters": student.count_params(),
            "epochs": len(backup.history["loss"]),
            "seconds": backup.seconds,
            "metrics": _evaluate(distiller, fit_arguments),
            "history": backup.history,
            "settings": _settings(stage),
            "fingerprint": _hexadecimal(student),
        }

    def _distiller(self, student, stage):
        teachers, make = [self.teacher, *self.students], stage.transfers
        if stage.teachers == "previous":
            teachers = teachers[-1:]
        elif make is None:
            make = densely_guided
        distiller = Distiller(
            teachers[0] if len(teachers) == 1 else Ensemble(teachers),
            student,
            None if make is None else make(teachers),
            hard_weight=stage.hard_weight,
        )
        distiller.compile(**stage.compile())
        return distiller

    def _file(self, stage, ending):
        place = self.stages.index(stage) + 1
        return self.folder / f"{place}_{stage.name}{ending}"


def _settings(stage):
    """The settings that must not change once a stage is finished."""
    number = isinstance(stage.hard_weight, (int, float))
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "teachers": stage.teachers,
        "hard_weight": stage.hard_weight if number else "schedule",
    }


def _random_states(model):
    """Pairs of variables and values: the random states, as of Dropout."""
    others = [*model.weights, *model.metrics_variables]
    known = {id(variable) for variable in others}
    return [
        (variable, ops.convert_to_numpy(variable))
        for variable in model.variables
        if id(variable) not in known
    ]


def _evaluate(distiller, fit_arguments):
    """The metrics of a finished student, on the validation data if any."""
    # Not those of the last epoch: `EarlyStopping` may have restored the weights
    # of an earlier one.
    data = fit_arguments.get("validation_data")
    if data is None:
        return {}
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    # As in `fit`.
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


def _hexadecimal(model):
    return hexadecimal(fingerprint(model))


def _checked_name(name):
    ok = isinstance(name, str) and re.fullmatch(NAME, name)
    if not ok or name == "teacher":
        raise ValueError(
            "Argument `name` must consist of letters, digits, '_', '-' and "
            "'.', as it names the stage's files, and must not be 'teacher', "
            f"the chain's first teacher. Received: name={name!r}."
        )
    return name


def _checked_stages(stages):
    stages = list(stages)
    odd = [stage for stage in stages if not isinstance(stage, Stage)]
    names = [stage.name for stage in stages if isinstance(stage, Stage)]
    if not stages or odd or len(set(names)) < len(names):
        raise ValueError(
            "Argument `stages` must be a list of at least one "
            "`keras_kd.schemes.Stage`, with different names. Received: "
            f"{odd or names}."
        )
    return stages


def _checked_teacher(teacher):
    if isinstance(teacher, keras.layers.Layer) and teacher.built:
        return teacher
    raise ValueError(
        "Argument `teacher` must be a built Keras model. Received: "
        f"teacher={teacher!r}. Train it first, or load it with "
        "`keras.saving.load_model`."
    )


def _check_fit_arguments(kwargs):
    taken = {"epochs", "initial_epoch", "callbacks"} & set(kwargs)
    if taken:
        raise ValueError(
            "Each stage has its own epochs and callbacks. Received: "
            f"{sorted(taken)} in `Chain.fit`. Give them to the stages: "
            "`Stage(..., epochs=20, callbacks=lambda: [...])`."
        )
