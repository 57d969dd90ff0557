"""Metrics of how closely the student follows the teacher."""

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.backend import per_replica
from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.losses.binary_soft_targets import binary_soft_targets
from keras_kd._src.losses.chunked_logits import PositionTerm
from keras_kd._src.losses.distillation_loss import check_flags
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.distillation_loss import logits_of
from keras_kd._src.losses.positions import broadcast_weights
from keras_kd._src.losses.soft_targets import soft_targets


class TeacherMetric(keras.metrics.Mean):
    """Base class of metrics that compare student and teacher, over samples.

    Pass one to `Distiller.compile(metrics=...)` (or `weighted_metrics`): it
    then gets the teacher's output in place of the labels. To write your own,
    implement `values(teacher_output, student_output)`, which returns one value
    per sample (or token). With `expects_logits = True` it gets logits, whatever
    activation the models end in: those of a sigmoid if there is one output or
    the models are known to end in sigmoids (`self.binary`), else those of a
    softmax. With `needs_labels = True` it is
    `values(teacher_output, student_output, labels)`. As one of the
    `weighted_metrics`, values of tokens are weighted by token.

    Args:
        name, dtype: as in `keras.metrics.Metric`.
        teacher_from_logits: False if the teacher ends in a softmax or sigmoid,
            True if in logits. By default the `Distiller` reads it from the
            model, and assumes logits if it is unknown.
        student_from_logits: likewise for the student.

    Raises:
        ValueError: `teacher_from_logits` or `student_from_logits` is given to a
            metric that does not compare logits; in `update_state`, there are
            several outputs, or the two differ in shape.

    Example:
    >>> class LargestGap(TeacherMetric):
    ...     def values(self, teacher_output, student_output):
    ...         return ops.max(teacher_output - student_output, axis=-1)
    >>> metric = LargestGap()
    >>> metric.update_state(ops.array([[1.0, 4.0]]), ops.array([[1.0, 1.0]]))
    >>> float(metric.result())
    3.0
    """

    expects_logits = False
    needs_labels = False

    def __init__(
        self,
        name="mean",
        dtype=None,
        *,
        teacher_from_logits=None,
        student_from_logits=None,
    ):
        super().__init__(name=name, dtype=dtype)
        flags = {
            "teacher_from_logits": teacher_from_logits,
            "student_from_logits": student_from_logits,
        }
        check_flags(self, flags)
        self._flags = flags
        self._activations = None, None  # Those of both models, if known.
        self.binary = False

    def set_activations(self, teacher_activation, student_activation):
        """Sets the activations that the models end in; None if unknown."""
        self._activations = teacher_activation, student_activation

    def update_state(
        self, teacher_output, student_output, sample_weight=None, labels=None
    ):
        outputs = [*_tensors(teacher_output), *_tensors(student_output)]
        if len(outputs) != 2 or outputs[0].shape[1:] != outputs[1].shape[1:]:
            raise ValueError(
                f"{type(self).__name__} compares one output of the teacher "
                "with one of the student, of the same shape. Received: outputs "
                "of the shapes "
                f"{[tuple(output.shape) for output in outputs]}. Pass it in a "
                "flat list, `Distiller.compile(metrics=[...])`, to models with "
                "one output each."
            )
        mask = get_keras_mask(outputs[1])
        values = self._values_of(*outputs, labels)
        if mask is not None and len(mask.shape) == len(values.shape):
            weight = 1.0 if sample_weight is None else sample_weight
            shape = ops.shape(values)
            sample_weight = broadcast_weights(weight, shape) * ops.cast(
                mask, "float32"
            )
        return super().update_state(values, sample_weight)

    def position_mean(self, teacher, student, labels, sample_weight=None):
        """The mean over positions of `ChunkedLogits`, to be computed later.

        Args:
            teacher: `ChunkedLogits`, or a tensor of the same positions.
            student: `ChunkedLogits`.
            labels: one per position, or None.
            sample_weight: per sample or per position, or None.

        Returns:
            A `PositionTerm`, and a function that updates the metric with its
            value.
        """
        weight = 1.0 if sample_weight is None else sample_weight
        weight = broadcast_weights(weight, student.positions)
        mask = get_keras_mask(student)
        if mask is not None:
            weight = weight * ops.cast(mask, "float32")
        total = ops.sum(weight)
        term = PositionTerm(
            self._values_of,
            teacher,
            student,
            labels if self.needs_labels else None,
            ops.divide_no_nan(weight, total),
            trained=False,
        )
        update = super().update_state
        return term, lambda mean: update(mean, total)

    def _values_of(self, teacher_output, student_output, labels):
        outputs = in_full_precision(teacher_output, student_output)
        outputs = self._as_logits(outputs)
        if not self.needs_labels:
            return self.values(*outputs)
        if labels is None:
            raise ValueError(
                f"The metric {self.name!r} needs labels. Received: data "
                "without labels. Leave it out of `compile`, or fit on "
                "`(x, y)`."
            )
        return self.values(*outputs, labels)

    def _as_logits(self, outputs):
        if not self.expects_logits:
            return outputs
        known = set(self._activations) - {"linear", None}
        self.binary = outputs[0].shape[-1] == 1 or known == {"sigmoid"}
        activation = "sigmoid" if self.binary else "softmax"
        return [
            logits_of(output, activation) if probable else output
            for output, probable in zip(outputs, self._probable())
        ]

    def _probable(self):
        """Whether each side's outputs are probabilities."""
        return [
            known in PROBABILITIES if flag is None else not flag
            for flag, known in zip(self._flags.values(), self._activations)
        ]

    def get_config(self):
        stated = {key: f for key, f in self._flags.items() if f is not None}
        return {**super().get_config(), **stated}


def _tensors(output):
    tensors = keras.tree.flatten(output)
    if all(hasattr(tensor, "shape") for tensor in tensors):
        return tensors
    return [ops.convert_to_tensor(output)]  # of nested lists of numbers


@keras.saving.register_keras_serializable(package="keras_kd")
class TeacherAgreement(TeacherMetric):
    """Share of samples for which student and teacher predict the same class.

    Shows how well the student reproduces the teacher, right or wrong, without
    labels. With a single output, both have the same class if both are on the
    same side of 0 (of 1/2, for probabilities).

        value = mean over samples of [argmax(teacher) == argmax(student)]

    Args:
        name, dtype: as in `keras.metrics.Metric`.
        teacher_from_logits, student_from_logits: as in `TeacherMetric`.

    Call arguments:
        teacher_output: shape `(batch, ..., classes)`, logits or probabilities.
        student_output: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Example:
    >>> metric = TeacherAgreement()
    >>> metric.update_state([[1.0, 0.0], [1.0, 0.0]], [[3.0, 2.0], [2.0, 3.0]])
    >>> float(metric.result())
    0.5

    Reference: Stanton et al., 2021, "Does Knowledge Distillation Really
    Work?", arXiv 2106.05945.
    """

    expects_logits = True

    def __init__(self, name="teacher_agreement", dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)

    def values(self, teacher_output, student_output):
        """Whether the classes are the same, as 1.0 or 0.0 for each sample."""
        if teacher_output.shape[-1] == 1:
            same = (teacher_output > 0) == (student_output > 0)
            return ops.cast(ops.squeeze(same, axis=-1), "float32")
        same = ops.argmax(teacher_output, -1) == ops.argmax(student_output, -1)
        return ops.cast(same, "float32")


@keras.saving.register_keras_serializable(package="keras_kd")
class TeacherDivergence(TeacherMetric):
    """Divergence of the student's class probabilities from the teacher's.

    By default at temperature 1, whatever the temperature of training, so that
    runs can be compared. It is 0 for a perfect copy. For a single output, or
    outputs that are known to be sigmoids, the divergences of yes and no are
    summed.

        value = mean over samples of sum_classes p log(p / q), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        temperature: T, a positive number, for both sides; there is no factor
            T^2.
        teacher_from_logits, student_from_logits: as in `TeacherMetric`.
        name, dtype: as in `keras.metrics.Metric`.

    Call arguments:
        teacher_output: shape `(batch, ..., classes)`.
        student_output: the same shape.
        sample_weight: optional, shape `(batch,)`.

    Example:
    >>> metric = TeacherDivergence()
    >>> metric.update_state([[2.0, 0.0]], [[2.0, 0.0]])
    >>> float(metric.result())
    0.0

    Reference: Stanton et al., 2021, arXiv 2106.05945.
    """

    expects_logits = True

    def __init__(self, temperature=1.0, *, name="teacher_divergence", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def values(self, teacher_output, student_output):
        """The divergence of each sample, in nats."""
        divergence = binary_soft_targets if self.binary else soft_targets
        scaled = divergence(
            teacher_output, student_output, temperature=self.temperature
        )
        return scaled / self.temperature**2

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="keras_kd")
class Perplexity(TeacherMetric):
    """Perplexity of a language model, of the student or of the teacher.

    The effective number of tokens between which the model is undecided: 1 is
    best, and a uniform prediction has the size of the vocabulary. Pass it to
    `weighted_metrics`, so that padding (weight 0) does not count and all other
    tokens count equally. Its logarithm is the cross-entropy in nats.

        value = exp(sum(weight * -log softmax(logits)[label]) / sum(weight))

    Args:
        of: whose perplexity, `"student"` or `"teacher"`.
        name: by default `"perplexity"` or `"teacher_perplexity"`.
        dtype: as in `keras.metrics.Metric`.
        teacher_from_logits, student_from_logits: as in `TeacherMetric`.

    Call arguments:
        teacher_output: shape `(batch, length, classes)`.
        student_output: the same shape.
        sample_weight: optional, shape `(batch,)` or `(batch, length)`.
        labels: the tokens to predict, shape `(batch, length)`.

    Raises:
        ValueError: `of` is neither of these, or the data has no labels.

    Example:
    >>> metric = Perplexity()
    >>> logits = ops.zeros((1, 2, 5))
    >>> metric.update_state(logits, logits, labels=ops.array([[3, 1]]))
    >>> round(float(metric.result()), 4)
    5.0

    Reference: Jelinek et al., 1977, "Perplexity: a measure of the difficulty
    of speech recognition tasks", doi 10.1121/1.2016299.
    """

    expects_logits = True
    needs_labels = True

    def __init__(self, of="student", *, name=None, **kwargs):
        self.of = one_of(of, "of", ("student", "teacher"))
        default = {"student": "perplexity", "teacher": "teacher_perplexity"}
        super().__init__(name=name or default[of], **kwargs)

    def values(self, teacher_output, student_output, labels):
        """The cross-entropy of each position, in nats."""
        logits = student_output if self.of == "student" else teacher_output
        labels = ops.cast(labels, "int32")
        labels = ops.reshape(labels, ops.shape(logits)[:-1])
        return ops.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )

    def result(self):
        return ops.exp(super().result())

    def get_config(self):
        return {**super().get_config(), "of": self.of}


class TeacherMetrics:
    """Separates the teacher metrics among those given to `compile`.

    Keras would pass them the labels in place of the teacher's output.
    """

    def __init__(self, metrics=None, weighted_metrics=None):
        self.given = {
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        self.plain, self.others = _sort(metrics)
        self.weighted, self.weighted_others = _sort(weighted_metrics)

    @property
    def all(self):
        return [*self.plain, *self.weighted]

    def get_config(self):
        """The metrics given to `compile`, serialized."""
        return {
            name: keras.saving.serialize_keras_object(metrics)
            for name, metrics in self.given.items()
        }

    def update(self, targets, student_output, sample_weight):
        outputs = targets.teacher.output, student_output
        for metric, weight in self._weights(sample_weight):
            labels = {"labels": targets.labels} if metric.needs_labels else {}
            metric.update_state(*outputs, weight, **labels)

    def position_means(self, targets, logits, sample_weight):
        """Each metric's `position_mean` of `ChunkedLogits`."""
        if targets.teacher is None:
            return []
        outputs = targets.teacher.output, logits
        return [
            metric.position_mean(*outputs, targets.labels, weight)
            for metric, weight in self._weights(sample_weight)
        ]

    def _weights(self, sample_weight):
        """Pairs of a metric and its sample weights."""
        pairs = [(metric, None) for metric in self.plain]
        return pairs + [(metric, sample_weight) for metric in self.weighted]


def _sort(metrics):
    metrics = [metrics] if isinstance(metrics, TeacherMetric) else metrics
    if not isinstance(metrics, (list, tuple)):
        return [], metrics
    teachers = [each for each in metrics if isinstance(each, TeacherMetric)]
    others = [each for each in metrics if not isinstance(each, TeacherMetric)]
    return teachers, others or None


class LossParts(keras.metrics.Metric):
    """The mean of each part of the loss, over samples.

        mean_part = sum_batches(samples * part) / sum_batches(samples)

    One metric for all parts: separate ones would make the step of a small
    student one or two percent slower on PyTorch.
    """

    def __init__(self, names, name="loss_parts"):
        super().__init__(name=name)
        self.names = list(names)
        # The last entry is the number of samples.
        self.sums = self.add_variable(
            shape=(len(self.names) + 1,), initializer="zeros", name="sums"
        )

    def update_state(self, parts, batch_size):
        parts = ops.stack([*map(per_replica, parts), 1.0])
        self.sums.assign_add(parts * ops.cast(batch_size, self.dtype))

    def result(self):
        sums = ops.convert_to_tensor(self.sums)
        means = ops.divide_no_nan(sums, sums[-1])
        return {name: means[i] for i, name in enumerate(self.names)}
