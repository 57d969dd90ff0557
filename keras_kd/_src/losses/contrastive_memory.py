"""Contrastive representation distillation, with a memory of all samples."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.layers.memory_bank import MemoryBank
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.features import unit_length
from keras_kd._src.losses.tempered_loss import TemperedLoss
from keras_kd._src.losses.true_class import one_per_sample


@keras.saving.register_keras_serializable(package="keras_kd")
class ContrastiveMemory(TemperedLoss):
    """Contrastive representation distillation (CRD) with a memory.

    Like `ContrastiveRepresentation`, but a sample is contrasted with 16,384
    others from the whole data set instead of its batch, so batches may be
    small. This is the paper's form, and needs each sample's index:

        Transfer(ContrastiveMemory(num_samples=len(x)),
                 teacher="pool", student="pool",
                 adapter=keras.layers.Dense(128),
                 teacher_adapter=keras.layers.Dense(128), weight=0.8)
        distiller.fit(x, {"labels": y, "sample_index": np.arange(len(x))})

    The last embeddings of all samples are stored for both sides, one row per
    sample. The student's embedding should match its sample among the teacher's
    rows, and the teacher's embedding (its adapter is trained, too) its sample
    among the student's rows. Both losses, by binary noise-contrastive
    estimation, are added.

        score_j = <unit_length(student_i), teacher row_j> / temperature
        p_j = exp(score_j) / Z,   noise = num_negatives / num_samples
        value_i = -log(p_i / (p_i + noise))
                  - sum over negatives j of log(noise / (p_j + noise))
                  + the same with teacher and student exchanged

    Z is estimated on the first training batch and then fixed. Negatives are
    drawn in each step without repetition, as in the "exact" mode of the
    authors' data loader. That draws from other classes only; here samples of
    the same class are drawn, too, but get the weight 0 once their class is
    known, and the others are weighted up. The 1e-7 that the authors add to p +
    noise is left out, as logarithms are finite here. Their "relax" mode, which
    takes the positive from the sample's class, is not offered.

    Usual weight: 0.8, with soft targets (weight 1) or without. Each transfer
    needs its own loss, with one pair of taps. The memory takes
    `8 * num_samples * dim` bytes (51 MB for 50,000 samples), and a step about
    `16 * batch * num_samples` bytes (51 MB for a batch of 64).

    In validation nothing is stored, and the same negatives are drawn each time.
    As its samples have no rows, the term has no meaning there; any index in
    range, such as zeros, will do. In a compiled step an index out of range is
    ignored or an error, depending on the backend.

    Args:
        num_samples: how many samples the data has, at least 2.
        dim: width of the embeddings, as the adapters make them.
        num_negatives: with how many others a sample is contrasted. If the data
            has fewer, they are repeated.
        temperature: temperature of the scores, 0.07 in the paper, or a
            `LearningRateSchedule` over training steps.
        momentum: the share of a row that stays when it is updated, in [0, 1).
        other_classes: whether negatives of the sample's own class are left
            out; False needs no labels.
        seed: an integer, for initial rows and draws; None for a random one.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_embedding: shape `(batch, dim)`.
        student_embedding: shape `(batch, dim)`.
        sample_index: each sample's index in the data, in
            `[0, num_samples)`, integers of shape `(batch,)`, in any order.
        labels: class numbers, shape `(batch,)`; -1 for none.
        sample_weight: optional, shape `(batch,)`.
        training: whether to write to the memory; False by default.

    Returns:
        The weighted mean over samples, a scalar in nats.

    Raises:
        ValueError: an argument is out of its range; the embeddings are not
            `dim` wide; labels or indices are missing, or have another shape.

    Example:
    >>> loss = ContrastiveMemory(
    ...     10, 2, num_negatives=9, other_classes=False, seed=0
    ... )
    >>> index, rows = ops.array([3, 7]), ops.eye(2)
    >>> first = loss(rows, rows, sample_index=index, training=True)
    >>> bool(loss(rows, rows, sample_index=index) < first)  # updated rows
    True

    Reference: Tian, Krishnan and Isola, 2020, arXiv 1910.10699.
    """

    per_sample = True

    def __init__(
        self,
        num_samples,
        dim=128,
        *,
        num_negatives=16384,
        temperature=0.07,
        momentum=0.5,
        other_classes=True,
        seed=None,
        **kwargs,
    ):
        super().__init__(temperature, **kwargs)
        self.num_negatives = integer(num_negatives, "num_negatives")
        self.other_classes = other_classes
        self.memory = MemoryBank(num_samples, dim, momentum=momentum, seed=seed)

    @property
    def required_context(self):
        return [
            name
            for name in super().required_context
            if self.other_classes or name != "labels"
        ]

    def call(
        self,
        teacher_embedding,
        student_embedding,
        *,
        sample_index,
        sample_weight,
        training,
        labels=None,
    ):
        memory, classes = self.memory, None
        index = one_per_sample(sample_index, "sample_index")
        if self.other_classes:
            classes = one_per_sample(labels, "labels")
        teacher, student = (
            unit_length(embedding, -1)
            for embedding in in_full_precision(
                teacher_embedding, student_embedding
            )
        )
        negatives = memory.draw(index, self.num_negatives, training=training)
        share = memory.share(negatives, classes)
        temperature = ops.convert_to_tensor(self.temperature)
        scores = [
            _products(embedding, rows, index, negatives) / temperature
            for embedding, rows in (
                (student, memory.teacher_rows),
                (teacher, memory.student_rows),
            )
        ]
        constants = memory.constants(
            scores, share, sample_weight, training=training
        )
        if training:
            memory.write(teacher, student, index, sample_weight, classes)
        number = memory.num_samples
        return sum(
            _noise_contrastive(each, share, constants[side], number)
            for side, each in enumerate(scores)
        )

    def check_shapes(self, teacher_shape, student_shape):
        for shape in (teacher_shape, student_shape):
            if len(shape) != 2 or shape[1] != self.memory.dim:
                raise ValueError(
                    "ContrastiveMemory compares embeddings of shape (batch, "
                    f"{self.memory.dim}). Received: teacher "
                    f"{tuple(teacher_shape)}, student {tuple(student_shape)}. "
                    "Tap pooled features, and give the transfer "
                    f"`adapter=keras.layers.Dense({self.memory.dim})` and "
                    "`teacher_adapter=` likewise, or the loss another `dim`."
                )

    def options(self):
        return {
            "num_samples": self.memory.num_samples,
            "dim": self.memory.dim,
            "num_negatives": self.num_negatives,
            "momentum": self.memory.momentum,
            "other_classes": self.other_classes,
            "seed": self.memory.seed,
        }


def _products(embedding, rows, sample_index, negative_index):
    # All rows are multiplied, and the drawn ones picked from the result: for
    # each sample num_samples numbers, where gathering the rows would need
    # num_negatives * dim. A copy, as PyTorch's backward pass needs the rows as
    # they were before they are written.
    rows = ops.copy(ops.stop_gradient(ops.convert_to_tensor(rows)))
    products = ops.matmul(embedding, ops.transpose(rows))
    index = ops.concatenate([sample_index[:, None], negative_index], axis=1)
    return ops.take_along_axis(products, index, axis=1)


def _noise_contrastive(scores, share, log_constant, num_samples):
    """Noise-contrastive loss of each sample's own row (the first score)."""
    # `share` is the weight of each of the others.
    log_noise = math.log(share.shape[1] / num_samples)
    # log p - log noise, the logit of the probability that a row is the own.
    logits = scores - log_constant - log_noise
    own = ops.softplus(-logits[:, 0])
    return own + ops.sum(share * ops.softplus(logits[:, 1:]), axis=1)
