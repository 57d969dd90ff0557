"""SelfDistiller: trains one or more models on their own predictions."""

import keras

from keras_kd._src import keras_compat
from keras_kd._src.distillation.distiller import METRICS
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.teacher import StudentAsTeacher
from keras_kd._src.metrics import TeacherMetrics
from keras_kd._src.specs import check_student


@keras.saving.register_keras_serializable(package="keras_kd")
class SelfDistiller(Distiller):
    """Self- and online distillation: trains a model that is its own teacher.

    For students that learn from one another (DML, KDCL: `students.peers`; ONE:
    `students.gated_branches`), for a model whose early layers learn from its
    last ones (BYOT: `students.Exits`), and for one that learns from its
    previous-epoch predictions (PS-KD: `losses.PastPredictions`). Both taps of
    a transfer name places in the student. The student runs once in a step, and
    no gradient flows through the features at the teacher's tap.

        loss = hard_weight * compiled loss, summed over all outputs
             + sum over transfers of weight * loss(
                   stop_gradient(features at teacher tap),
                   features at student tap)
             + the student's own losses (regularizers, `add_loss`)

    If the student has several outputs, one set of labels is used for all of
    them, and each gets a copy of the metrics: the logs have `<output>_loss`
    and `<output>_accuracy`. One optimizer updates all weights. With an
    optimizer that treats each weight by itself, such as SGD or Adam, peers
    train as with separate optimizers (with clipping by the global norm they
    would not).

    Args:
        student: a Keras model.
        transfers: as in `Distiller`.
        hard_weight: weight of the compiled loss, non-negative, or a
            `LearningRateSchedule` over training steps.
        input_shape: as in `Distiller`.
        name: the model's name.

    Raises:
        ValueError: a tap does not exist in the student, or features don't fit
            each other; a teacher is given, or a metric that needs one.

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

    def __init__(
        self,
        student,
        transfers,
        *,
        hard_weight=1.0,
        input_shape=None,
        name=None,
    ):
        check_student(student)
        super().__init__(
            StudentAsTeacher(student),
            student,
            transfers,
            hard_weight=hard_weight,
            input_shape=input_shape,
            name=name,
        )

    def get_config(self):
        config = super().get_config()
        del config["chunk_size"]  # It takes none.
        return config

    def _labels_for(self, labels, output):
        if labels is None or keras.tree.is_nested(labels):
            return labels  # The outputs are separate already.
        return keras.tree.map_structure(lambda _: labels, output)

    @keras_compat.as_in_keras
    def compile(self, **arguments):
        given = {name: arguments.get(name) for name in METRICS}
        self._teacher.check_output(TeacherMetrics(*given.values()).all)
        each = {name: self._for_each_output(given[name]) for name in METRICS}
        super().compile(**{**arguments, **each})

    def meet_data(self, batch):
        super().meet_data(batch)
        keras_compat.change_metrics(self, self._for_each_output)

    def _for_each_output(self, metrics):
        """A copy of the metrics for each output, unless given by output."""
        output = self._student_output
        flat = isinstance(metrics, (list, tuple)) and not any(
            isinstance(metric, (list, tuple, dict)) for metric in metrics
        )
        if not (flat and keras.tree.is_nested(output)):
            return metrics
        return keras.tree.map_structure(
            lambda _: [_copy(metric) for metric in metrics], output
        )


def _copy(metric):
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric
