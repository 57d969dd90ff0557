"""MemoryBank: the last embeddings of each sample, of teacher and student."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.backend import of_all_replicas
from keras_kd._src.layers.sample_rows import SampleRows


@keras.saving.register_keras_serializable(package="keras_kd")
class MemoryBank(keras.layers.Layer):
    """A memory bank: one embedding per sample, for contrastive losses.

    It lets a loss contrast a sample with thousands of others that are not in
    its batch. It holds a row of unit length for each sample and side (teacher
    and student). Rows are not trained but updated from the embeddings in
    training steps, and are saved and restored with the distiller.

        row = unit_length(momentum * row + (1 - momentum) * embedding)

    A sample that is in a batch more than once is written once, with the mean of
    its embeddings; one of weight 0 is not written. Besides the rows, the bank
    stores each sample's class (-1 until it is known), the two constants that
    turn scores into probabilities, and the state of the random generator. It
    takes `8 * num_samples * dim` bytes, and twice that during a step; with
    several replicas (TensorFlow) each takes that much, as each writes the
    samples of all.

    Args:
        num_samples: how many samples the data has, at least 2.
        dim: width of the embeddings.
        momentum: the share of a row that stays when it is updated, in [0, 1).
        seed: an integer, for initial rows and draws; None for a random one.
        kwargs: as in `keras.layers.Layer`.

    Raises:
        ValueError: `num_samples`, `dim` or `momentum` is not in its range.

    Example:
    >>> bank = MemoryBank(num_samples=5, dim=2, momentum=0.0)
    >>> embedding = ops.array([[0.6, 0.8]])
    >>> bank.write(embedding, embedding, ops.array([2]), ops.ones(1))
    >>> [round(float(entry), 3) for entry in bank.student_rows[2]]
    [0.6, 0.8]

    Reference: Wu et al., 2018, "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination", arXiv 1805.01978.
    """

    def __init__(
        self, num_samples, dim=128, *, momentum=0.5, seed=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.num_samples = integer(num_samples, "num_samples", least=2)
        self.dim = integer(dim, "dim")
        self.momentum = number(momentum, "momentum", least=0.0, below=1.0)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)
        rows = self.num_samples, self.dim
        # Entries of variance 1 / dim: rows of about unit length.
        start = (3.0 / self.dim) ** 0.5
        start = keras.initializers.RandomUniform(-start, start, self.draws)
        self.teacher_rows = self._kept("teacher_rows", rows, start)
        self.student_rows = self._kept("student_rows", rows, start)
        self.classes = self._kept("classes", rows[:1], -1, "int32")
        self.log_constants = self._kept("log_constants", (2,), 0.0)
        self.constants_set = self._kept("constants_set", (), 0, "int32")
        self.built = True

    def _kept(self, name, shape, start, dtype="float32"):
        if isinstance(start, (int, float)):
            start = keras.initializers.Constant(start)
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=start,
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def draw(self, sample_index, num_negatives, *, training=True):
        """Draws other samples for each sample, uniformly, without repetition.

        If there are fewer others than `num_negatives`, they are repeated,
        equally often up to a difference of one. A batch's samples share one
        shuffled list of index differences: the draws of each sample are
        uniform, but those of different samples are not independent.

        Args:
            sample_index: sample indices, int32 of shape `(batch,)`.
            num_negatives: how many to draw for each.
            training: if False, the draws are the same each time, and the
                generator's state does not change.

        Returns:
            Sample indices, int32 of shape `(batch, num_negatives)`.
        """
        others = self.num_samples - 1
        keys = keras.random.uniform(
            (others,), dtype="float32", seed=self.draws if training else 0
        )
        order = ops.cast(ops.argsort(keys), "int32")
        turns = ops.arange(num_negatives, dtype="int32") % others
        distance = 1 + ops.take(order, turns)
        return (sample_index[:, None] + distance[None, :]) % self.num_samples

    def share(self, negatives, classes=None):
        """The weight of each draw; those of the sample's own class get 0.

        Args:
            negatives: sample indices, of shape `(batch, num_negatives)`.
            classes: classes of the batch, int32 of shape `(batch,)`; -1 or None
                if unknown.

        Returns:
            Shape `(batch, num_negatives)`; each row sums to `num_negatives`, or
            to 0 if all are of the sample's own class.
        """
        if classes is None:
            return ops.ones_like(negatives, dtype="float32")
        drawn = ops.take(ops.convert_to_tensor(self.classes), negatives)
        other = ops.logical_or(drawn < 0, drawn != classes[:, None])
        other = ops.cast(other, "float32")
        number = ops.sum(other, axis=1, keepdims=True)
        return other * negatives.shape[1] / ops.maximum(number, 1.0)

    def constants(self, scores, share, weight, *, training=False):
        """The two constants, estimated on the first training batch, then fixed.

            Z = num_samples * mean over samples and their rows of exp(score)

        Args:
            scores: the scores of both sides, each `(batch, 1 + num_negatives)`,
                a sample's own score first.
            share: the weights of the others, as `share` returns them.
            weight: the samples' weights in the mean, shape `(batch,)`.
            training: whether to store them.

        Returns:
            Their logarithms, shape `(2,)`, without a gradient.
        """
        estimates = [_log_mean(each, share, weight) for each in scores]
        estimates = ops.stop_gradient(ops.stack(estimates))
        estimates = estimates + math.log(self.num_samples)
        known = ops.convert_to_tensor(self.constants_set) > 0
        kept = ops.copy(ops.convert_to_tensor(self.log_constants))
        constants = ops.where(known, kept, estimates)
        if training:
            (weight,) = of_all_replicas(weight)
            known = ops.logical_or(known, ops.any(weight > 0))
            self.log_constants.assign(ops.where(known, constants, kept))
            self.constants_set.assign(ops.cast(known, "int32"))
        return constants

    def write(self, teacher, student, sample_index, weight, classes=None):
        """Moves the rows of the batch's samples toward their embeddings.

        Args:
            teacher: embeddings of unit length, shape `(batch, dim)`.
            student: likewise.
            sample_index: sample indices, int32 of shape `(batch,)`.
            weight: shape `(batch,)`; a sample of weight 0 is not written.
            classes: None, or int32 of shape `(batch,)`.
        """
        teacher, student, sample_index, weight, classes = of_all_replicas(
            teacher, student, sample_index, weight, classes
        )
        batch = SampleRows(sample_index, weight)
        for rows, embeddings in (
            (self.teacher_rows, teacher),
            (self.student_rows, student),
        ):
            mean = batch.mean(ops.stop_gradient(embeddings))
            new = self.momentum * batch.read(rows) + (1 - self.momentum) * mean
            batch.write(rows, ops.normalize(new, axis=-1))
        if classes is not None:
            # All entries of a sample have the same class: the largest is it.
            batch.write(self.classes, batch.largest(classes))

    def get_config(self):
        return {
            **super().get_config(),
            "num_samples": self.num_samples,
            "dim": self.dim,
            "momentum": self.momentum,
            "seed": self.seed,
        }


def _log_mean(scores, share, weight):
    """Log of the mean of exp(scores); finite if all weights are 0."""
    own = ops.ones_like(scores[:, :1])
    weight = ops.concatenate([own, share], axis=1) * weight[:, None]
    present = weight > 0
    log_weight = ops.log(ops.where(present, weight, 1.0))
    total = ops.logsumexp(ops.where(present, scores + log_weight, -1e9))
    both = total, ops.sum(weight)
    total, weight = of_all_replicas(*(ops.reshape(x, (1,)) for x in both))
    total = ops.logsumexp(total)
    return total - ops.log(ops.maximum(ops.sum(weight), 1e-12))
