"""SelfDistiller: a model, or several, that learn from their own answers."""

import keras
from keras import ops

from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.steps import Answer
from keras_kd._src.distillation.steps import StudentInputs
from keras_kd._src.distillation.steps import Targets
from keras_kd._src.distillation.steps import split_targets
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.metrics import TeacherMetrics
from keras_kd._src.specs import output_spec


@keras.saving.register_keras_serializable(package="keras_kd")
class SelfDistiller(Distiller):
    """Trains a model that has no teacher but itself.

    For students that learn from one another (`students.peers`,
    `students.gated_branches`), for a model whose last layers teach its first
    ones (`students.Exits`), and for one that learns from what it said earlier
    (`losses.PastPredictions`). Both taps of a transfer name places in the
    student; it runs once in a step, and what the teacher's tap reads comes
    without a gradient.

        loss = hard_weight * compiled loss, summed over all outputs
             + sum over transfers of weight * loss(
                   stop_gradient(view at teacher tap), view at student tap)
             + the student's own losses (regularizers, `add_loss`)

    Where the student has several outputs, one set of labels serves them all,
    and each is given a copy of the metrics: the logs have `<output>_loss` and
    `<output>_accuracy`. All weights have one optimizer; one that adapts each
    weight's step alone, as SGD and Adam do, trains peers as optimizers of
    their own would (clipping by the global norm would not).

    Args:
        student: a Keras model, built, or of known input shape.
        transfers: list of `Transfer`.
        hard_weight: weight of the compiled loss, non-negative, or a
            `LearningRateSchedule` over training steps.
        name: the model's name.

    Raises:
        ValueError: a tap does not exist in the student, or views can't be
            joined; a teacher, or a metric that needs one, is given.

    Example:
    >>> import keras_kd as kd
    >>> peers = kd.students.peers({
    ...     name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    ...     for name in ("first", "second")
    ... })
    >>> distiller = SelfDistiller(peers, kd.schemes.mutual_learning(peers))
    >>> distiller.compile(
    ...     optimizer="adam",
    ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ...     metrics=["accuracy"],
    ... )
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.zeros((8,))
    >>> history = distiller.fit(x, y, verbose=0)
    >>> [key for key in sorted(history.history) if key.startswith("first")]
    ['first_accuracy', 'first_loss', 'first_to_second_loss']

    Reference: Zhang et al., 2018, "Deep Mutual Learning", arXiv 1706.00384,
    for peers; the other methods name theirs.
    """

    _not_saved = {}

    def __init__(self, student, transfers, *, hard_weight=1.0, name=None):
        super().__init__(
            None, student, transfers, hard_weight=hard_weight, name=name
        )
        self._match_views(student)
        self.built = True

    def set_teacher(self, teacher):
        """Refused: the student is its own teacher.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "A SelfDistiller learns from its own student. Received: "
            f"teacher={teacher!r}. With a teacher use "
            "`keras_kd.Distiller(teacher, student, transfers)`."
        )

    def ask_teacher(self, data, state_mapping=None, training=True):
        """Completes a batch; the answer comes with the student's own pass.

        Args:
            data: a batch as `fit` has it.
            state_mapping: not used.
            training: not used.

        Returns:
            `(StudentInputs, Targets, sample_weight)`.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        labels, sample_index, sample_weight = split_targets(y, sample_weight)
        targets = Targets(labels, Answer(None, {}), sample_index)
        return StudentInputs(x), targets, sample_weight

    def _need_teacher(self):
        """It has one."""

    def _run_student(self, inputs, training):
        taps = [
            tap
            for term in self.transfers
            for tap in (*term.student_taps, *term.asked_taps)
        ]
        answer = run_tapped(self.student, inputs, taps, training=training)
        return Answer(*answer)

    def _terms(self, targets, student_features, sample_weight, training):
        told = keras.tree.map_structure(ops.stop_gradient, student_features)
        targets = targets._replace(teacher=Answer(None, told))
        return super()._terms(
            targets, student_features, sample_weight, training
        )

    def _hard_loss(self, labels, output, sample_weight):
        labels = _for_each_output(labels, output)
        return super()._hard_loss(labels, output, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y, Targets):
            y, y_pred = y.labels, y_pred.output
        y, _, sample_weight = split_targets(y, sample_weight)
        y = _for_each_output(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def check_answers(self):
        """Raises a `ValueError` if the student's values aren't finite."""
        for transfer in self.transfers:
            count, *_ = transfer.inspection.read()
            if count:
                raise ValueError(
                    f"The student {self.student.name!r} answered with values "
                    f"that are not finite. Received: NaN or infinity in {count}"
                    f" batches (transfer {transfer.name!r}). Lower the learning"
                    " rate, or look at the data."
                )

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
        if sorted_metrics.all:
            raise ValueError(
                "Metrics that compare with a teacher need one. Received: "
                f"{sorted_metrics.all[0].name!r} in `compile` of a "
                "SelfDistiller, whose student has no teacher but itself."
            )
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=self._metrics_of_outputs(metrics),
            weighted_metrics=self._metrics_of_outputs(weighted_metrics),
            **kwargs,
        )

    def _metrics_of_outputs(self, metrics):
        output = output_spec(self.student, self._student_inputs)
        flat = isinstance(metrics, (list, tuple)) and not any(
            isinstance(metric, (list, tuple, dict)) for metric in metrics
        )
        if not (flat and keras.tree.is_nested(output)):
            return metrics
        return keras.tree.map_structure(
            lambda _: [_copy(metric) for metric in metrics], output
        )


def _for_each_output(labels, output):
    """The labels once for each output, if they are not told apart already."""
    if labels is None or keras.tree.is_nested(labels):
        return labels
    return keras.tree.map_structure(lambda _: labels, output)


def _copy(metric):
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric
