"""Distiller: a Keras model that trains a student with a teacher's help."""

import keras
from keras import ops

from keras_kd._src.distillation.checkpoint import TrainingState
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.loss_parts import LossParts
from keras_kd._src.distillation.monitor import Monitored
from keras_kd._src.distillation.steps import Steps
from keras_kd._src.distillation.steps import Targets
from keras_kd._src.distillation.steps import one_for_all
from keras_kd._src.distillation.steps import split_targets
from keras_kd._src.distillation.studying import Studying
from keras_kd._src.distillation.teaching import Teaching
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.metrics import TeacherMetrics
from keras_kd._src.naming import distinct
from keras_kd._src.specs import check_student


@keras.saving.register_keras_serializable(package="keras_kd")
class Distiller(
    Monitored, Teaching, Studying, TrainingState, Steps, keras.Model
):
    """Trains a student on labels and on what a teacher knows.

    `Distiller(teacher, student)` alone is Hinton's method with the usual
    values: soft targets at temperature 4, weight 0.9, labels 0.1. It is
    compiled and fitted like any Keras model, and `distiller.student` is a
    plain model throughout.

        loss = hard_weight * compiled loss
             + sum over transfers of weight * loss(teacher view, student view)
             + the student's own losses (regularizers, `add_loss`)

    In each step the teacher runs once, in inference mode and outside of the
    gradient, and the student runs once. Each part is in the logs, weighted,
    so that the parts add up to `loss`: `hard_loss`, one `<name>_loss` for
    each transfer, and `student_losses`.

    Where only some samples have labels, give the others the label -1 and the
    compiled loss `ignore_class=-1` (a `sample_weight` of 0 would silence the
    teacher). Metrics of labels then count only in validation.

    Methods that keep something of each sample need its index in the data: give
    `y` as a dict of `"labels"` (if any) and `"sample_index"`, whole numbers
    of shape `(batch,)`.

    The teacher is left as it was, `trainable` included, and is never saved:
    the training state holds its fingerprint, and refuses another teacher.

    Args:
        teacher: a built Keras model, or its answers (`keras_kd.cache.open`).
            (None only until `set_teacher`.)
        student: a Keras model that takes the same inputs.
        transfers: list of `Transfer`; soft targets by default.
        hard_weight: weight of the compiled loss, non-negative, or a
            `LearningRateSchedule` over training steps.
        name: the model's name.

    Raises:
        ValueError: teacher or student is not fit for it, a tap does not
            exist, or views can't be joined.

    Example:
    >>> import keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> distiller = kd.Distiller(teacher, student)
    >>> distiller.compile(
    ...     optimizer="adam",
    ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ... )
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.zeros((8,))
    >>> history = distiller.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['hard_loss', 'loss', 'soft_targets_loss', 'student_losses']

    Reference: Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a
    Neural Network", arXiv 1503.02531.
    """

    def __init__(
        self, teacher, student, transfers=None, *, hard_weight=0.1, name=None
    ):
        check_student(student)
        # The student's policy: Keras scales the loss by it. No autocast: each
        # model casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        if transfers is None:
            transfers = [Transfer(SoftTargets(temperature=4.0), weight=0.9)]
        self.student = student
        self.transfers = list(transfers)
        self._hard_weight = Hyperparameter(hard_weight, "hard_weight")
        self._training_step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="training_step",
        )
        self._loss_parts = LossParts(
            ["hard_loss", *self._term_names(), "student_losses"]
        )
        self._teacher_metrics = TeacherMetrics()
        self.look_for_probabilities = True
        if teacher is not None:
            self.set_teacher(teacher)
        self.built = all(part.built for part in [student, *self.transfers])

    # --- one step: compute_loss, compute_metrics ----------------------------

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not isinstance(y, Targets):
            # Keras builds the compiled loss and metrics with bare batches.
            labels, _, sample_weight = split_targets(y, sample_weight)
            return self._hard_loss(labels, y_pred, sample_weight)
        if training:
            self._advance_schedules()
        parts = [
            self._hard_loss(y.labels, y_pred.output, sample_weight),
            *self._terms(y, y_pred.views, sample_weight, training),
            self._student_losses(),
        ]
        samples = ops.shape(keras.tree.flatten(x)[0])[0]
        self._loss_parts.update_state(parts, samples)
        return sum(parts)

    def _advance_schedules(self):
        step = ops.convert_to_tensor(self._training_step)
        for hyperparameter in self.hyperparameters().values():
            hyperparameter.advance(step)
        self._training_step.assign_add(1)

    def _hard_loss(self, labels, output, sample_weight):
        if self._compile_loss is None:
            return ops.zeros(())
        if labels is None:
            raise ValueError(
                "The distiller was compiled with a loss, and the data has no "
                "labels. Received: batches without `y`. Compile with "
                "`loss=None` and without metrics to train without labels."
            )
        hard_loss = self._compile_loss(labels, output, sample_weight)
        return hard_loss * ops.convert_to_tensor(self.hard_weight)

    def _terms(self, targets, student_features, sample_weight, training):
        if targets.teacher is None:
            return [ops.zeros(()) for _ in self.transfers]
        return [
            transfer.term(
                targets.teacher.views,
                student_features,
                one_for_all(sample_weight),
                labels=targets.labels,
                sample_index=targets.sample_index,
                training=training,
                look=self.look_for_probabilities,
            )
            for transfer in self.transfers
        ]

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y, Targets):
            if y.teacher is not None:
                self._teacher_metrics.update(
                    y.teacher.output, y_pred.output, one_for_all(sample_weight)
                )
            y, y_pred = y.labels, y_pred.output
        y, _, sample_weight = split_targets(y, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    # --- what Keras asks of a model -----------------------------------------

    @property
    def hard_weight(self):
        return self._hard_weight.variable

    @hard_weight.setter
    def hard_weight(self, value):
        self._hard_weight.assign(value)

    @property
    def training_step(self):
        """How many training steps have been made, over all calls of `fit`."""
        return int(ops.convert_to_numpy(self._training_step.value))

    def hyperparameters(self):
        """The numbers that may move, by the key that they have in the logs.

        Returns:
            Dict of `Hyperparameter`s: `"hard_weight"`, `"<transfer>_weight"`,
            `"<transfer>_temperature"`: what its loss and its rules have.
        """
        found = {"hard_weight": self._hard_weight}
        for term, transfer in zip(self._term_names(), self.transfers):
            prefix = term.removesuffix("loss")
            for hyperparameter in transfer.hyperparameters():
                found[prefix + hyperparameter.name] = hyperparameter
        return found

    def _term_names(self):
        names = distinct(transfer.name for transfer in self.transfers)
        return [f"{name}_loss" for name in names]

    @property
    def metrics(self):
        return [*super().metrics, *self._teacher_metrics.all]

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        **kwargs,
    ):
        sorted_metrics = TeacherMetrics(metrics, weighted_metrics)
        self._compile_loss = None  # Keras would go on with an earlier one.
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=sorted_metrics.others,
            weighted_metrics=sorted_metrics.weighted_others,
            **kwargs,
        )
        self._teacher_metrics = sorted_metrics
        self.look_for_probabilities = True
