"""compare: measures whether distillation was worth it."""

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
from keras_kd._src.compare.scores import Evaluator
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
    """Measures whether distillation was worth it, and reports.

    It trains the teacher, the student alone, the student distilled (with
    Hinton's soft targets), and in any further ways you give, all with the same
    budget and several seeds. All are measured on the same test data:

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

    With the same seed, the students of all ways start from the same weights
    and, with arrays, get the samples in the same order. Runs share nothing
    else, so the order of ways doesn't matter. The weights of the last step are
    tested; none is chosen by the test data. `ComparisonReport` describes what
    is reported.

    With a `folder`, each finished run is kept there. After an interruption, run
    the same program again: only unfinished runs are made, and the result is
    that of an uninterrupted comparison. Seeds and ways may be added. A folder
    of a comparison with other data, models or settings is refused, as far as
    these can be compared; a change in a function's code is not noticed.

    Args:
        teacher: a trained Keras model, or another trained teacher that a
            `Distiller` takes and that predicts the test data; or a function
            without arguments that builds a Keras model, which is then trained
            for each seed, with the same settings.
        build_student: function without arguments that returns a new, built
            Keras model. Its weights are drawn with the seed of the run.
        train_data: `(x, y)` or `(x, y, sample_weight)`, or any other data that
            `fit` takes and that can be read again; or a function of the seed
            that returns it, called for each run. Data that shuffles with a
            state of its own (a `tf.data.Dataset`, a `DataLoader`) needs such a
            function to be the same for all ways and after an interruption.
        test_data: `(x, y)`, or a data set of such batches in a fixed order.
            Labels are class numbers, one-hot vectors, 0 and 1 for binary
            classification, or real numbers for regression.
        compile: function without arguments that returns the arguments of
            `compile`, a dict with `"optimizer"`, `"loss"`, ...; called for
            each run, so that each gets a new optimizer.
        epochs: integer, the budget of each student in epochs; or
        steps: integer, the budget in training steps; or
        seconds: number, the budget in seconds of training on this machine.
            Validation doesn't count, nor do steps that may compile: the first
            one, and the last one of the first epoch, which may be smaller.
        batch_size: integer, samples in a batch of arrays, for training and
            testing.
        validation_data: as in `fit`, for the learning curves in the report's
            `runs`; none by default.
        seeds: list of integers; two to ten are usual, and one gives no spread.
        ways: dict, name -> function of teacher and student that returns the
            model to fit, such as a `Distiller`; or a `Way`, which may also
            have other training data, settings or budget. The names "teacher",
            "student alone" and "student distilled" change these ways.
        metric: what is compared: a function of labels and outputs (NumPy
            arrays) that returns a number; or a Keras metric or its name. The
            accuracy by default; regression has no default.
        lower_is_better: whether a smaller value of your own `metric` is
            better: True for an error, False for a score. Needed with `metric`.
        task: "classification", "binary" or "regression"; by default found from
            outputs and labels.
        folder: path of a folder for this comparison alone; nothing is kept by
            default.
        verbose: 1 for progress, 0 for none. It prints each way's description,
            and a line for each run with the seconds of training that are left,
            without compiling and testing.

    Returns:
        A `ComparisonReport`.

    Raises:
        ValueError: an argument is of the wrong kind; a function returns the
            model or optimizer of an earlier run; the folder holds another
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

    Reference: for the setting, Hinton, Vinyals and Dean, 2015, "Distilling the
    Knowledge in a Neural Network", arXiv 1503.02531; for what to report besides
    accuracy, Stanton et al., 2021, "Does Knowledge Distillation Really Work?",
    arXiv 2106.05945.
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
    evaluator = Evaluator(
        held_out, maker.any_teacher(), task, metric, lower_is_better
    )
    defaults = {
        "train_data": checked_data(train_data, "train_data"),
        "compile": function_that_makes(compile, "compile"),
        "budget": budget,
    }
    comparison = _Comparison(
        maker,
        evaluator,
        {
            name: way.completed(name, evaluator.task, **defaults)
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
        **evaluator.about(),
    }
    return ComparisonReport(about, comparison.runs, comparison.costs)


class _Comparison:
    """The runs of all ways, one seed after another."""

    def __init__(self, maker, evaluator, ways, records, fit):
        self.maker, self.evaluator, self.ways = maker, evaluator, ways
        self.records, self.fit = records, fit
        self.runs, self.costs = [], {}
        self._measured = {}  # Costs by kind of model.
        self._teacher_classes = None  # The teacher's predicted classes.
        self._texts = {}  # Each function's last argument and text.

    def run(self, seeds, verbose):
        """Makes all runs, or finds them in the folder."""
        ways = dict(self.ways)
        if self.maker.trained is not None:
            del ways[TEACHER]
            self._evaluate_trained()
        progress = Progress(ways, len(seeds), verbose)
        for seed in seeds:
            for name, way in ways.items():
                progress.begin(name, way.description)
                run = self._one(name, way, seed, progress.of(name, seed))
                self.runs.append(run)
                text = self._result(run)
                progress.finish(name, seed, text, run["seconds"])

    def _evaluate_trained(self):
        """Measures a teacher that is trained already."""
        teacher = self.maker.trained
        found, self._teacher_classes = self.evaluator.evaluate(teacher)
        self.runs.append({"way": TEACHER, "seed": None, **found})
        self.costs[TEACHER] = cost_of(teacher, self.evaluator.inputs)

    def _one(self, name, way, seed, show):
        """One run, made or found in the folder.

        The model of the teacher's run is the teacher of the runs after it.
        """
        data = data_of_seed(way.train_data, seed)
        keras.utils.set_random_seed(seed)
        student, model = self.maker.make(name, way)
        arguments = self.maker.settings(name, way)
        settings = self._settings(way, data, model, arguments)
        run = self.records.find(name, seed, settings)
        if run is None:
            model.compile(**arguments)
            run = {"way": name, "seed": seed}
            # The same for each way, whatever was drawn when it was built.
            keras.utils.set_random_seed(seed)
            run |= self._train(model, way.budget, data, show)
            run |= self._evaluate(name, student, model)
            self.records.save(name, seed, settings, run, student_of(model))
        elif name == TEACHER:
            self.records.load(name, seed, model)
            _, self._teacher_classes = self.evaluator.evaluate(model)
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

    def _evaluate(self, name, student, model):
        expected = None if name == TEACHER else self._teacher_classes
        found, predicted = self.evaluator.evaluate(student_of(model), expected)
        if name == TEACHER:
            self._teacher_classes = predicted
        kind = _kind(name, student, model)
        if kind not in self._measured:
            inputs = self.evaluator.inputs
            self._measured[kind] = cost_of(student_of(model), inputs)
        return {**found, "cost": self._measured[kind]}

    def _settings(self, way, data, model, arguments):
        """The settings that tell comparisons in a folder apart."""
        if self.records.folder is None:
            return {}
        teacher = self.maker.teacher
        has_teacher = model is not teacher and teacher is not None
        return {
            **self.evaluator.about(),
            "backend": keras.backend.backend(),
            "budget": str(way.budget),
            "batch size": self.fit["batch_size"],
            "set of training data": self._text(data, description),
            "set of test data": self.evaluator.held_out.digest,
            "set of compile arguments": described(arguments),
            "model": without_numbers(repr(model)),
            "set of initial weights": _fingerprint(student_of(model)),
            "teacher": (
                self._text(teacher, _fingerprint) if has_teacher else None
            ),
        }

    def _text(self, value, function):
        known = self._texts.get(function)
        if known is None or known[0] is not value:
            known = self._texts[function] = value, function(value)
        return known[1]

    def _result(self, run):
        metric = self.evaluator.metric
        text = metric_text([run["metric"]], metric.percent)
        return f"{metric.name} {text}, {run['seconds']:.1f} s"


def _kind(name, student, model):
    """The kind of a run's model: ways with the same student share its cost."""
    own = name == TEACHER or student_of(model) is not student
    return name if own else "student"


def _fingerprint(model):
    return hexadecimal(as_teacher(model).fingerprint())
