"""Approximate likelihood matching: likelihoods of the same bytes."""

import keras
from keras import ops

from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.other_tokens import check_other_classes
from keras_kd._src.losses.other_tokens import entries_of
from keras_kd._src.losses.other_tokens import token_log_likelihoods
from keras_kd._src.losses.tempered_loss import TemperedLoss

# As in the authors' code: what keeps a probability from being 1.
EPSILON = 1e-6
LOG_HALF = -0.6931471805599453
KEYS = "chunks", "teacher_chunks", "teacher_labels"


def likelihood_matching(
    teacher_log_likelihoods, student_log_likelihoods, *, temperature=100.0
):
    """Likelihood matching (ALM): KL of two likelihoods at a temperature.

    The likelihoods of a piece of text, p for the teacher and q for the student,
    are taken as probabilities of a binary event: this piece comes next, or not.
    At a high temperature both are near 1, and the logarithms of p and q are
    compared.

        u = log p / T - 1e-6;  v = log q / T - 1e-6
        value = exp(u) * (u - v)
              + (1 - exp(u)) * (log(1 - exp(u)) - log(1 - exp(v)))

    Args:
        teacher_log_likelihoods: log p, in nats, any shape.
        student_log_likelihoods: log q, in nats, the same shape.
        temperature: T, a positive number.

    Returns:
        Values in nats, the same shape.

    Example:
    >>> value = likelihood_matching([-1.0], [-3.0], temperature=1.0)
    >>> round(float(value[0]), 4)
    0.4781

    Reference: Minixhofer, Vulić and Ponti, 2025, "Universal Cross-Tokenizer
    Distillation via Approximate Likelihood Matching", arXiv 2503.20083.
    """
    teacher, student = (
        ops.minimum(each, 0.0) / temperature - EPSILON
        for each in bounded_logits(
            teacher_log_likelihoods, student_log_likelihoods
        )
    )
    other = -ops.expm1(teacher)
    return ops.exp(teacher) * (teacher - student) + other * (
        _log_of_other(teacher) - _log_of_other(student)
    )


def _log_of_other(log_prob):
    """log(1 - exp(x)) of a negative x, exact at both ends."""
    # Each branch is finite for its argument; outside, its gradient may not be.
    small = log_prob < LOG_HALF
    far = ops.log1p(-ops.exp(ops.minimum(log_prob, LOG_HALF)))
    near = ops.log(-ops.expm1(ops.maximum(log_prob, LOG_HALF)))
    return ops.where(small, far, near)


def chunk_log_likelihoods(logits, labels, chunks, *, num_chunks):
    """Log-likelihoods of chunks of tokens (ALM), of one model.

    One number per chunk is all that `LikelihoodMatching` needs from a teacher:
    store these values instead of its logits.

        value = sum over the tokens of a chunk of log softmax(logits)[label]

    Args:
        logits: shape `(batch, length, classes)`.
        labels: the next token at each position, integers of shape
            `(batch, length)`.
        chunks: the chunk of each of these tokens, integers of shape `(batch,
            length)`, -1 for none; see `keras_kd.text.align`.
        num_chunks: how many values to return for each text.

    Returns:
        Values in nats, shape `(batch, num_chunks)`; 0 for a chunk without
        tokens.

    Example:
    >>> logits, labels = ops.zeros((1, 3, 2)), ops.zeros((1, 3), "int32")
    >>> values = chunk_log_likelihoods(
    ...     logits, labels, ops.array([[0, 0, 1]]), num_chunks=2
    ... )
    >>> [round(float(value), 3) for value in values[0]]
    [-1.386, -0.693]

    Reference: Minixhofer, Vulić and Ponti, 2025, arXiv 2503.20083.
    """
    (logits,) = bounded_logits(logits)
    values = token_log_likelihoods(logits, ops.convert_to_tensor(labels))
    numbers = ops.arange(num_chunks, dtype="int32")[None, :]
    return _sums(values, chunks, numbers)[0]


def _sums(values, chunks, numbers):
    """Sums of the values of some chunks, and which of these chunks have any.

    Args:
        values: shape `(batch, length)`.
        chunks: the chunk of each value, the same shape.
        numbers: the numbers of the chunks to sum, `(batch or 1, chunks)`.
    """
    chunks = ops.cast(chunks, "int32")[:, None, :]
    same = ops.equal(chunks, ops.cast(numbers, "int32")[..., None])
    sums = ops.sum(ops.where(same, values[:, None, :], 0.0), axis=-1)
    return sums, ops.any(same, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class LikelihoodMatching(TemperedLoss):
    """Approximate likelihood matching (ALM): across tokenizers, by chunks.

    For a teacher and a student with different tokenizers. Both split a text
    into tokens at different places, but now and then at the same byte. The
    bytes between two such places are a chunk, and both models' likelihoods of
    it are compared. The student learns only from the tokens of the text, not
    from those that might have come instead, so it needs more texts than
    `SoftTargets` between models of one tokenizer.

        u = log p / T - 1e-6;  v = log q / T - 1e-6
        value = exp(u) * (u - v)
              + (1 - exp(u)) * (log(1 - exp(u)) - log(1 - exp(v)))
        log p, log q: sums of the log-probabilities of a chunk's tokens

    It is the authors' binary cross-entropy without its constant: the gradient
    is the same, and the value is 0 where both agree. Their corrections for
    tokenization bias are left out; `keras_kd.text.align` can restrict chunks to
    whole words, where the bias is small.

    `keras_kd.text.PairedTexts` adds what the loss needs to the student's
    inputs. The gradient is proportional to 1 / T, and the values are small: the
    usual weight is 1 if it is the only loss, and up to T beside labels.

    Args:
        temperature: T, a positive number (the paper's is 100), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, teacher_length, teacher_classes)`; or
            what `chunk_log_likelihoods` returns, shape `(batch, chunks)`.
        student_logits: shape `(batch, length, classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, length)`. A chunk
            has the weight of its last token, or 0 if any of its tokens has
            weight 0.
        mask: optional, shape `(batch, length)`; see `DistillationLoss`.
        labels: the student's next tokens, shape `(batch, length)`.
        inputs: the batch's inputs, by keyword, a dict with `"chunks"`, shape
            `(batch, length)`, `"teacher_chunks"` and `"teacher_labels"`, shape
            `(batch, teacher_length)`: the chunk of each label (-1 for none),
            and the teacher's next tokens. With likelihoods of chunks from the
            teacher, `"chunks"` is enough.

    Returns:
        The weighted mean over chunks, a scalar in nats.

    Raises:
        ValueError: `temperature` is not positive; an entry of the inputs is
            missing.

    Example:
    >>> inputs = {
    ...     "chunks": [[0, 0]], "teacher_chunks": [[0]], "teacher_labels": [[2]]
    ... }
    >>> loss = LikelihoodMatching(temperature=1.0)
    >>> teacher, student = [[[0.0, 0.0, 2.0]]], [[[0.0, 0.0], [0.0, 0.0]]]
    >>> value = loss(teacher, student, labels=[[0, 1]], inputs=inputs)
    >>> round(float(value), 4)
    0.6344

    Reference: Minixhofer, Vulić and Ponti, 2025, arXiv 2503.20083.
    """

    expects_logits = True
    same_tokens = False

    def __init__(self, temperature=100.0, **kwargs):
        super().__init__(temperature, **kwargs)

    def call(self, teacher_logits, student_logits, *, labels, inputs, mask):
        chunks = ops.cast(self._entry(inputs, "chunks"), "int32")
        labels = ops.convert_to_tensor(labels)
        values = token_log_likelihoods(student_logits, labels)
        student, _ = _sums(values, chunks, chunks)
        teacher, found = self._of_teacher(teacher_logits, inputs, chunks)
        values = likelihood_matching(
            teacher, student, temperature=self.temperature_or(None)
        )
        left_out, _ = _sums(ops.cast(~mask, values.dtype), chunks, chunks)
        counts = ops.logical_and(found, left_out == 0.0)
        counts = ops.logical_and(counts, _is_last(chunks))
        set_keras_mask(values, ops.logical_and(counts, chunks >= 0))
        return values

    def _of_teacher(self, teacher, inputs, chunks):
        """The teacher's log-likelihoods at the student's positions."""
        if len(teacher.shape) == 2:
            numbers = ops.arange(teacher.shape[1], dtype="int32")[None, :]
            return _sums(teacher, numbers, chunks)
        labels = ops.convert_to_tensor(self._entry(inputs, "teacher_labels"))
        values = token_log_likelihoods(teacher, labels)
        return _sums(values, self._entry(inputs, "teacher_chunks"), chunks)

    def _entry(self, inputs, name):
        entries = entries_of(inputs, name)
        if entries is None:
            known = list(inputs) if isinstance(inputs, dict) else "no dict"
            raise ValueError(
                "LikelihoodMatching needs the alignment of both tokenizers, "
                f"the inputs {', '.join(map(repr, KEYS))}. Received: inputs "
                f"with the keys {known}. Train on "
                "`keras_kd.text.PairedTexts`, which makes them."
            )
        return ops.convert_to_tensor(entries)

    def check_shapes(self, teacher_shape, student_shape):
        if len(teacher_shape) != 2 or len(student_shape) != 3:
            check_other_classes(self, teacher_shape, student_shape)


def _is_last(chunks):
    """Whether a token is the last one of its chunk."""
    after = ops.concatenate(
        [chunks[:, 1:], ops.full_like(chunks[:, :1], -1)], axis=1
    )
    return ops.not_equal(chunks, after)
