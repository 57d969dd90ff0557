"""Chain: students trained one after another, each taught by earlier ones."""

import keras

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.schemes.epoch_backup import EpochBackup
from keras_kd._src.schemes.run_folder import RunFolder
from keras_kd._src.schemes.run_folder import seed_of_stage
from keras_kd._src.schemes.stage import Stage


class Chain:
    """Trains students in stages: each finished one teaches the next.

    A student that is much smaller than its teacher may learn more from a
    teacher assistant, a model in between, that learned from the teacher:

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
    guided distillation (stages with `taught_by="all"`).

    All that a run needs to go on is in its folder. When it was interrupted,
    run the same program again: finished stages are loaded, the one that was
    being trained goes on after its last whole epoch, and the rest follows.
    Over the same data in the same order the students end up the same, bit for
    bit (as far as the backend's own arithmetic repeats itself). A callback
    that counts epochs, such as `EarlyStopping`, begins its count anew.

    The folder holds `report.json` (see `report`), the finished students as
    `1_assistant.keras`, `2_student.keras`, ..., and the state of the stage
    in training.

    Each stage begins by setting Keras' random seed, to a number made of the
    chain's seed and the stage's place. Stages thus start from different
    weights, and from the same ones after an interruption.

    Args:
        teacher: a built Keras model, the first teacher.
        stages: list of `Stage`, largest student first; names must differ.
        folder: path of this run's own folder. An empty or a new one begins a
            new run.
        seed: of the run, a non-negative integer. By default one is drawn
            from Python's `random` when the run begins, and kept.

    Raises:
        ValueError: an argument is not of its kind; `fit`: the folder is of
            another run (teacher, seed, or a finished stage's settings).

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
        self.folder = RunFolder(folder)
        self.seed = _checked_seed(seed)
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
        """What is known of each finished stage, as read from the folder.

        Returns:
            List of dicts: `"stage"`, the name; `"teachers"`, their names;
            `"file"`, the student's; `"parameters"`, their number;
            `"epochs"`, those made; `"seconds"`, of the epochs, over all
            interruptions; `"metrics"`, of the finished student, on the
            validation data if there is any; `"history"`, the logs of all
            epochs; `"settings"`; and the student's `"fingerprint"`.
        """
        report = self.folder.read_report()
        return report["stages"] if report else []

    def fit(self, x=None, y=None, **kwargs):
        """Trains what is not finished yet.

        Args:
            x: as in `keras.Model.fit`, for every stage.
            y: likewise.
            **kwargs: further arguments of `keras.Model.fit`, such as
                `validation_data` and `batch_size`; `epochs` and `callbacks`
                belong to the stages.

        Returns:
            The report.
        """
        _check_fit_arguments(kwargs)
        if hasattr(x, "__next__") and len(self.stages) > 1:
            raise ValueError(
                "Each stage needs the data anew. Received: a generator, which "
                "is empty after the first one. Give `fit` arrays, a "
                "`tf.data.Dataset`, a `DataLoader` or a "
                "`keras.utils.PyDataset`."
            )
        report = self.folder.begin(
            fingerprint(self.teacher),
            self.seed,
            [stage.settings for stage in self.stages],
        )
        self.students = []
        for place, finished in enumerate(report["stages"]):
            self.students.append(self._load(place, finished))
        for place in range(len(self.students), len(self.stages)):
            self.students.append(self._train(place, report, x, y, kwargs))
        return self.report

    def _models(self):
        return [self.teacher, *self.students]

    def _load(self, place, finished):
        student = self.stages[place].make_student(self._models())
        student.load_weights(self.folder.path / finished["file"])
        self.folder.check(
            f"student {place + 1}",
            finished["fingerprint"],
            hexadecimal(fingerprint(student)),
        )
        return student

    def _train(self, place, report, x, y, kwargs):
        stage = self.stages[place]
        keras.utils.set_random_seed(seed_of_stage(report["seed"], place))
        student = stage.make_student(self._models())
        distiller = stage.distiller(stage.choose(self._models()), student)
        backup = EpochBackup(self.folder.backup_path(place, stage.name))
        distiller.fit(
            x,
            y,
            epochs=stage.epochs,
            initial_epoch=backup.done,
            callbacks=[*stage.make_callbacks(), backup],
            **kwargs,
        )
        path = self.folder.student_path(place, stage.name)
        atomic_write(path, student.save)
        metrics = stage.evaluate(distiller, kwargs)
        report["stages"].append(self._entry(place, student, backup, metrics))
        self.folder.write_report(report)
        backup.delete()
        return student

    def _entry(self, place, student, backup, metrics):
        stage = self.stages[place]
        names = ["teacher", *(stage.name for stage in self.stages[:place])]
        return {
            "stage": stage.name,
            "teachers": stage.choose(names),
            "file": self.folder.student_path(place, stage.name).name,
            "parameters": student.count_params(),
            "epochs": len(backup.epochs),
            "seconds": backup.seconds,
            "metrics": metrics,
            "history": backup.history,
            "settings": stage.settings,
            "fingerprint": hexadecimal(fingerprint(student)),
        }


def _checked_stages(stages):
    stages = list(stages)
    odd = [stage for stage in stages if not isinstance(stage, Stage)]
    names = [stage.name for stage in stages if isinstance(stage, Stage)]
    if not stages or odd or len(set(names)) < len(names):
        raise ValueError(
            "Argument `stages` must be a list of at least one "
            "`keras_kd.schemes.Stage`, all of different names. Received: "
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


def _checked_seed(seed):
    if seed is None or (isinstance(seed, int) and seed >= 0):
        return seed
    raise ValueError(
        "Argument `seed` must be a non-negative integer, or None to draw one. "
        f"Received: seed={seed!r}."
    )


def _check_fit_arguments(kwargs):
    taken = {"epochs", "initial_epoch", "callbacks"} & set(kwargs)
    if taken:
        raise ValueError(
            "Each stage has its own epochs and callbacks. Received: "
            f"{sorted(taken)} in `Chain.fit`. Give them to the stages: "
            "`Stage(..., epochs=20, callbacks=lambda: [...])`."
        )
