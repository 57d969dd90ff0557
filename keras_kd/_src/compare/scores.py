"""Measures a model's predictions on the test data."""

import math
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.backend import no_gradient
from keras_kd._src.compare.statistics import calibration_error
from keras_kd._src.distillation.batch import Batch
from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.specs import data_spec

TASKS = "classification", "binary", "regression"


class Metric(NamedTuple):
    """The metric that models are compared by."""

    name: str
    function: Any  # A function of labels and outputs; None for the accuracy.
    lower_is_better: bool = False

    @property
    def percent(self):
        """Whether it is a share, which is shown in percent."""
        return self.function is None


def outputs_of(model, batches):
    """The outputs of a teacher or student, in inference mode.

    Args:
        model: a built Keras model, or a `keras_kd.teachers.Teacher`.
        batches: iterable of batches of inputs.

    Returns:
        NumPy array `(samples, ...)`.
    """
    model, outputs = as_teacher(model), []
    with no_gradient():
        for inputs in batches:
            x = keras.tree.map_structure(ops.convert_to_tensor, inputs)
            found = model.predictions(Batch(x), [], training=False)
            outputs.append(_one_output(model, found))
    return np.concatenate(outputs)


def _one_output(model, found):
    output = None if found is None else found.output
    if output is None or isinstance(output, (dict, list, tuple)):
        raise ValueError(
            "Models that predict one output for the test data are compared. "
            f"Received: {model.name!r}, which returns "
            f"{'nothing' if output is None else type(output).__name__}. Wrap "
            "a model with several outputs in one that returns one of them; "
            "give the teacher itself in place of its cached predictions."
        )
    return ops.convert_to_numpy(output)


def find_task(outputs, labels, task):
    """The task, found from outputs and labels if the user doesn't give it."""
    if task is not None:
        return one_of(task, "task", TASKS)
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if outputs.shape[-1] == 1:
        yes_no = np.isin(labels, (0, 1)).all()
        return "binary" if yes_no else "regression"
    one_hot = labels.shape[1:] == outputs.shape[1:]
    one_hot = one_hot and np.isin(labels, (0, 1)).all()
    one_hot = one_hot and (labels.sum(axis=-1) == 1).all()
    whole = whole and labels.shape[1:] != outputs.shape[1:]
    return "classification" if whole or one_hot else "regression"


def classes_of(labels, shape, task):
    """The labels as one class number for each prediction.

    Args:
        labels: the labels of all samples.
        shape: the outputs' shape, `(some samples, ...)`.
        task: "classification" or "binary".
    """
    count = 2 if task == "binary" else shape[-1]
    one_hot = task == "classification" and labels.shape[1:] == shape[1:]
    classes = (labels.argmax(axis=-1) if one_hot else labels).reshape(-1)
    expected = len(labels) * math.prod(shape[1:-1])
    if len(classes) != expected or not np.isin(classes, range(count)).all():
        raise ValueError(
            f"For the task {task!r} the labels must be classes from 0 to "
            f"{count - 1}, one for each of {expected} predictions (or one-hot "
            f"vectors). Received: labels of shape {labels.shape}, from "
            f"{labels.min()} to {labels.max()}. If it is another task, pass "
            f"it as `task`: {', '.join(map(repr, TASKS))}."
        )
    return classes.astype(int)


def probabilities_of(model, outputs, inputs, task):
    """Class probabilities `(predictions, classes)`, in float64."""
    spec = data_spec(inputs)
    activation = as_teacher(model).activation_at(Tap(""), spec)
    known = activation in PROBABILITIES
    rows = outputs.reshape(-1, outputs.shape[-1]).astype("float64")
    if task == "binary":
        yes = rows if known else 0.5 + 0.5 * np.tanh(rows / 2)
        return np.concatenate([1.0 - yes, yes], axis=-1)
    if known:
        return rows
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def checked_metric(metric, task, lower_is_better):
    """The `Metric` of the argument; the accuracy by default."""
    if metric in (None, "accuracy") and task != "regression":
        return Metric("accuracy", None)
    if isinstance(metric, str):
        metric = keras.metrics.get(metric)
    if not callable(metric):
        raise ValueError(
            "Argument `metric` must be a function `(labels, outputs)` that "
            "returns a number, or a Keras metric"
            f"{'; for regression there is no default' * (metric is None)}. "
            f"Received: metric={metric!r}."
        )
    if lower_is_better not in (True, False):
        raise ValueError(
            "With a `metric` of your own, say which values are better: "
            "`lower_is_better=True`, as for errors, or False. Received: "
            f"lower_is_better={lower_is_better!r}."
        )
    if isinstance(metric, keras.metrics.Metric):
        return Metric(metric.name, _of_keras(metric), lower_is_better)
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, _mean_of(metric), lower_is_better)


def _mean_of(function):
    """A function's mean value, as Keras' own return one for each sample."""

    def measure(labels, outputs):
        values = ops.convert_to_numpy(function(labels, outputs))
        return np.mean(values, dtype="float64")

    return measure


def _of_keras(metric):
    def measure(labels, outputs):
        metric.reset_state()
        metric.update_state(labels, outputs)
        return metric.result()

    return measure


class Evaluator:
    """Measures each model on the same test data.

    Args:
        held_out: the `HeldOut` data.
        teacher: a teacher, trained or not, to see its outputs.
        task: one of `TASKS`; None to find it.
        metric: the user's argument.
        lower_is_better: whether smaller values of the metric are better.
    """

    def __init__(self, held_out, teacher, task, metric, lower_is_better):
        self.held_out, self.inputs = held_out, held_out.first
        outputs, labels = outputs_of(teacher, [self.inputs]), held_out.labels
        self.task = find_task(outputs, labels, task)
        self.metric = checked_metric(metric, self.task, lower_is_better)
        self._classes = None
        if self.task != "regression":
            self._classes = classes_of(labels, outputs.shape, self.task)

    def about(self):
        """The task and metric, for a report."""
        return {
            "task": self.task,
            "metric": self.metric.name,
            "lower_is_better": self.metric.lower_is_better,
            "percent": self.metric.percent,
        }

    def evaluate(self, model, teacher_classes=None):
        """Measures a model.

        Args:
            model: a built Keras model or a teacher.
            teacher_classes: the teacher's predicted classes, `(predictions,)`;
                None for the teacher itself.

        Returns:
            Dict of numbers, NaN if predictions are not finite; and the
            predicted classes (None in regression).
        """
        outputs = outputs_of(model, self.held_out.batches())
        found = {}
        if not self.metric.percent:
            value = self.metric.function(self.held_out.labels, outputs)
            found["metric"] = float(value)
        if self.task == "regression":
            return found, None
        if not np.isfinite(outputs).all():
            failed = self._not_finite(model, outputs.shape[-1], teacher_classes)
            return failed, None
        probabilities = probabilities_of(model, outputs, self.inputs, self.task)
        predicted = probabilities.argmax(axis=-1)
        right = predicted == self._classes
        if teacher_classes is None:
            teacher_classes = predicted
        found.setdefault("metric", float(right.mean()))
        found |= {
            "agreement": float(np.mean(predicted == teacher_classes)),
            "calibration_error": calibration_error(
                probabilities, self._classes
            ),
            "class_accuracy": self._by_class(right, probabilities.shape[-1]),
        }
        return found, predicted

    def _not_finite(self, model, classes, teacher_classes):
        """The measurements of a model whose training failed."""
        if teacher_classes is None:
            raise ValueError(
                "There is nothing to compare with, as the teacher predicts "
                "NaN or infinity for the test data. Received: "
                f"{as_teacher(model).name!r}. Look at its weights, its "
                "learning rate and the test data."
            )
        nothing = ("metric", "agreement", "calibration_error")
        known = dict.fromkeys(nothing, math.nan)
        return {**known, "class_accuracy": [math.nan] * max(2, classes)}

    def _by_class(self, right, classes):
        """The accuracy within each class; None for a class without samples."""
        counts = np.bincount(self._classes, minlength=classes)
        hits = np.bincount(self._classes, weights=right, minlength=classes)
        return [float(h / n) if n else None for h, n in zip(hits, counts)]
