"""compare: was it worth it? The teacher, the student alone and distilled."""

import contextlib
import pathlib

import keras

from keras_kd._src.arguments import checked_seeds
from keras_kd._src.arguments import function_that_makes
from keras_kd._src.arguments import integer
from keras_kd._src.compare.cost import cost_of
from keras_kd._src.compare.cost import machine
from keras_kd._src.compare.data import HeldOut
from keras_kd._src.compare.data import checked_data
from keras_kd._src.compare.data import data_of_seed
from keras_kd._src.compare.data import description
from keras_kd._src.compare.data import fit_arguments
from keras_kd._src.compare.models import ModelMaker
from keras_kd._src.compare.models import is_trained
from keras_kd._src.compare.models import student_of
from keras_kd._src.compare.records import Records
from keras_kd._src.compare.records import described
from keras_kd._src.compare.records import without_numbers
from keras_kd._src.compare.report import ComparisonReport
from keras_kd._src.compare.scores import Examiner
from keras_kd._src.compare.statistics import metric_text
from keras_kd._src.compare.training import Progress
from keras_kd._src.compare.training import Run
from keras_kd._src.compare.training import checked_budget
from keras_kd._src.compare.ways import TEACHER
from keras_kd._src.compare.ways import checked_ways
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.own_folder import held

TAKEN = (
    "Another process compares in the folder. Wait for it, or name another "
    "folder."
)


def compare(
    teacher,
    build_student,
    train_data,
    test_data,
    *,
    compile,
    epochs=None,
    steps=None,
    seconds=None,
    batch_size=32,
    validation_data=None,
    seeds=(0, 1, 2),
    ways=None,
    metric=None,
    lower_is_better=None,
    task=None,
    folder=None,
    verbose=1,
):
    """Was distillation worth it? Trains in several ways, and reports.

    The teacher, the student alone, the student distilled (Hinton's soft
    targets) and further ways get the same budget, over several seeds, and are
    measured on the same test data:

        report = keras_kd.compare(
            teacher,
            build_student,
            (x, y),
            (x_test, y_test),
            compile=lambda: {"optimizer": Adam(1e-3), "loss": make_loss()},
            epochs=20,
        )
        print(report)
        report.to_html("report.html")

    With a seed, the students of all ways start from the same weights and, of
    arrays, see the samples in the same order; nothing else is shared between
    runs, and the order of ways changes nothing. The last step is tested: none
    is chosen by the test data. What is reported is described in
    `ComparisonReport`.

    With a `folder`, each finished run is kept there. When it was interrupted,
    run the same program again: only the unfinished runs are made, and the
    result is that of a comparison that was not interrupted. Seeds and ways may
    be added. A folder of other data, models or settings is refused, as far as
    they can be told apart: a function's code can't be.

    Args:
        teacher: a trained Keras model, or another trained teacher that a
            `Distiller` takes and that predicts the test data; or a function
            without arguments that builds a model, which is then trained for
            each seed, with the same settings.
        build_student: function without arguments that returns a new, built
            Keras model. Its weights are drawn with the seed of the run.
        train_data: `(x, y)` or `(x, y, sample_weight)`, or what else `fit`
            takes and can be read again; or a function of the seed that returns
            it, called for each run. Data that shuffles by a state of its own
            (a `tf.data.Dataset`, a `DataLoader`) needs such a function to be
            the same in each way and after an interruption.
        test_data: `(x, y)`, or a data set of such batches in a fixed order.
            Labels are classes, one-hot vectors, yes and no (0 and 1), or
            numbers.
        compile: function without arguments that returns the arguments of
            `compile`, a dict with `"optimizer"`, `"loss"`, ...; called for
            each run, so that no optimizer has a past.
        epochs: the budget, for how many epochs each student is trained; or
        steps: for how many steps; or
        seconds: for how many seconds of training on this machine. The first
            step, which compiles, is left out of it, and so are the last step
            of the first epoch, which may compile for a smaller batch, and
            validation.
        batch_size: of arrays, in training and tests.
        validation_data: as in `fit`, for the learning curves in the report's
            `runs`; none by default.
        seeds: two to ten are usual; with one there is no spread.
        ways: dict, name -> function of teacher and student that returns what
            is fitted, such as a `Distiller`; or a `Way`, which may have other
            training data, settings or budget. The names "teacher", "student
            alone" and "student distilled" change these.
        metric: what is compared: a function of labels and outputs (NumPy
            arrays) that returns a number, or a Keras metric or its name. The
            accuracy by default; for regression there is no default.
        lower_is_better: of a metric of your own, which must be said: True for
            an error, False for a score.
        task: "classification", "binary" or "regression"; found by outputs and
            labels by default.
        folder: path of this comparison's own folder; nothing is kept by
            default.
        verbose: 1 for progress, 0 for none: the description of each way, then
            a line a run, with the seconds of training that are left. What
            compiles and what tests is not part of these seconds.

    Returns:
        A `ComparisonReport`.

    Raises:
        ValueError: an argument is not of its kind, a function returns the
            model or optimizer of an earlier run, or the folder holds another
            comparison.

    Example:
    >>> import numpy as np
    >>> import keras_kd as kd
    >>> def build(units):
    ...     return keras.Sequential([
    ...         keras.Input((2,)),
    ...         keras.layers.Dense(units, activation="relu"),
    ...         keras.layers.Dense(2),
    ...     ])
    >>> def settings():
    ...     cross_entropy = keras.losses.SparseCategoricalCrossentropy
    ...     return {"optimizer": "adam", "loss": cross_entropy(True)}
    >>> random = np.random.default_rng(0)
    >>> x = random.normal(size=(60, 2)).astype("float32")
    >>> y = (x[:, 0] > x[:, 1]).astype("int32")
    >>> report = kd.compare(
    ...     lambda: build(8), lambda: build(2), (x[:40], y[:40]),
    ...     (x[40:], y[40:]), compile=settings, epochs=2, seeds=(0, 1),
    ...     verbose=0,
    ... )
    >>> report.ways
    ['teacher', 'student alone', 'student distilled']
    >>> report.values("student alone").shape
    (2,)

    Reference: of the setting, Hinton, Vinyals and Dean, 2015, "Distilling the
    Knowledge in a Neural Network", arXiv 1503.02531; of what to report beside
    the accuracy, Stanton et al., 2021, "Does Knowledge Distillation Really
    Work?", arXiv 2106.05945.
    """
    budget = checked_budget(epochs, steps, seconds)
    held_out = HeldOut(test_data, integer(batch_size, "batch_size"))
    seeds, ways = checked_seeds(seeds), checked_ways(ways)
    maker = ModelMaker(
        teacher
        if is_trained(teacher)
        else function_that_makes(teacher, "teacher"),
        function_that_makes(build_student, "build_student"),
    )
    examiner = Examiner(
        held_out, maker.any_teacher(), task, metric, lower_is_better
    )
    defaults = {
        "train_data": checked_data(train_data, "train_data"),
        "compile": function_that_makes(compile, "compile"),
        "budget": budget,
    }
    comparison = _Comparison(
        maker,
        examiner,
        {
            name: way.completed(name, examiner.task, **defaults)
            for name, way in ways.items()
        },
        Records(folder, ways),
        {"batch_size": batch_size, "validation_data": validation_data},
    )
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(held(pathlib.Path(folder), TAKEN))
        comparison.run(seeds, verbose)
    about = {
        "budget": str(budget),
        "batch_size": batch_size,
        "seeds": seeds,
        "samples": len(held_out.labels),
        "trained_teacher": is_trained(teacher),
        "machine": machine(),
        **examiner.about(),
    }
    return ComparisonReport(about, comparison.runs, comparison.costs)


class _Comparison:
    """The runs of all ways, one seed after another."""

    def __init__(self, maker, examiner, ways, records, fit):
        self.maker, self.examiner, self.ways = maker, examiner, ways
        self.records, self.fit = records, fit
        self.runs, self.costs = [], {}
        self._measured = {}  # Costs by kind of model.
        self._taught = None  # The classes that the teacher predicts.
        self._texts = {}  # By function: what it described last, and the text.

    def run(self, seeds, verbose):
        """Makes all runs, or finds them in the folder."""
        ways = dict(self.ways)
        if self.maker.trained is not None:
            del ways[TEACHER]
            self._examine_trained()
        progress = Progress(ways, len(seeds), verbose)
        for seed in seeds:
            for name, way in ways.items():
                progress.begin(name, way.description)
                run = self._one(name, way, seed, progress.of(name, seed))
                self.runs.append(run)
                text = self._result(run)
                progress.finish(name, seed, text, run["seconds"])

    def _examine_trained(self):
        """Measures a teacher that was trained before."""
        teacher = self.maker.trained
        found, self._taught = self.examiner.examine(teacher)
        self.runs.append({"way": TEACHER, "seed": None, **found})
        self.costs[TEACHER] = cost_of(teacher, self.examiner.inputs)

    def _one(self, name, way, seed, show):
        """One run, made or found; the teacher's is the next ones' teacher."""
        data = data_of_seed(way.train_data, seed)
        keras.utils.set_random_seed(seed)
        student, model = self.maker.make(name, way)
        arguments = self.maker.settings(name, way)
        settings = self._settings(way, data, model, arguments)
        run = self.records.find(name, seed, settings)
        if run is None:
            model.compile(**arguments)
            run = {"way": name, "seed": seed}
            # As for each way, whatever it drew when it was made.
            keras.utils.set_random_seed(seed)
            run |= self._train(model, way.budget, data, show)
            run |= self._examine(name, student, model)
            self.records.save(name, seed, settings, run, student_of(model))
        elif name == TEACHER:
            self.records.load(name, seed, model)
            _, self._taught = self.examiner.examine(model)
        if name == TEACHER:
            self.maker.teacher = model
        cost = run.pop("cost")
        self._measured.setdefault(_kind(name, student, model), cost)
        self.costs.setdefault(name, cost)
        return run

    def _train(self, model, budget, data, show):
        run = Run(budget, show)
        history = model.fit(
            **fit_arguments(data, self.fit["batch_size"]),
            epochs=budget.epochs(),
            validation_data=self.fit["validation_data"],
            verbose=0,
            callbacks=[run],
        )
        return {
            "steps": run.steps,
            "timed_steps": run.timed_steps,
            "seconds": run.seconds,
            "cpu_seconds": run.cpu_seconds,
            "compile_seconds": run.compile_seconds,
            "history": {
                key: [float(value) for value in values]
                for key, values in history.history.items()
            },
        }

    def _examine(self, name, student, model):
        taught = None if name == TEACHER else self._taught
        found, predicted = self.examiner.examine(student_of(model), taught)
        if name == TEACHER:
            self._taught = predicted
        kind = _kind(name, student, model)
        if kind not in self._measured:
            inputs = self.examiner.inputs
            self._measured[kind] = cost_of(student_of(model), inputs)
        return {**found, "cost": self._measured[kind]}

    def _settings(self, way, data, model, arguments):
        """By which another comparison is noticed in a folder."""
        if self.records.folder is None:
            return {}
        teacher = self.maker.teacher
        taught = model is not teacher and teacher is not None
        return {
            **self.examiner.about(),
            "backend": keras.backend.backend(),
            "budget": str(way.budget),
            "batch size": self.fit["batch_size"],
            "set of training data": self._text(data, description),
            "set of test data": self.examiner.held_out.digest,
            "set of compile arguments": described(arguments),
            "model": without_numbers(repr(model)),
            "set of initial weights": _fingerprint(student_of(model)),
            "teacher": self._text(teacher, _fingerprint) if taught else None,
        }

    def _text(self, value, function):
        known = self._texts.get(function)
        if known is None or known[0] is not value:
            known = self._texts[function] = value, function(value)
        return known[1]

    def _result(self, run):
        metric = self.examiner.metric
        text = metric_text([run["metric"]], metric.percent)
        return f"{metric.name} {text}, {run['seconds']:.1f} s"


def _kind(name, student, model):
    """Ways that train the same student have one latency, not two."""
    own = name == TEACHER or student_of(model) is not student
    return name if own else "student"


def _fingerprint(model):
    return hexadecimal(as_teacher(model).fingerprint())
