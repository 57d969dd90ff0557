"""Reverse Kullback-Leibler divergence, which seeks the likeliest answers."""

import keras
from keras import ops

from keras_kd._src.losses.class_counts import check_two_classes
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.tempered_loss import TemperedLoss


def reverse_kl(teacher_logits, student_logits, *, temperature=1.0):
    """Divergence of the teacher from the student, in each position.

    The full-vocabulary form: the expectation over the student's answers is a
    sum, where MiniLLM estimates it from sampled sequences.

        p = softmax(teacher_logits / T);  q = softmax(student_logits / T)
        value = T^2 * sum_classes q * (log q - log p)

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        temperature: T, a positive number.

    Returns:
        Values in nats (times T^2), shape `(...)`.

    Example:
    >>> value = reverse_kl([[2.0, 0.0]], [[0.0, 0.0]])
    >>> round(float(value[0]), 4)
    0.4338

    Reference: Gu et al., 2023, "MiniLLM: Knowledge Distillation of Large
    Language Models", arXiv 2306.08543.
    """
    teacher_log_probs, student_log_probs = log_probabilities(
        teacher_logits, student_logits, temperature
    )
    divergence = ops.sum(
        ops.exp(student_log_probs) * (student_log_probs - teacher_log_probs),
        axis=-1,
    )
    return temperature**2 * divergence


def log_probabilities(teacher_logits, student_logits, temperature):
    """Log-probabilities of both sides at a temperature.

    Args:
        teacher_logits: shape `(..., classes)`.
        student_logits: shape `(..., classes)`.
        temperature: a positive number.

    Returns:
        Two tensors in nats, of the shapes of the logits.

    Example:
    >>> teacher, _ = log_probabilities([[0.0, 0.0]], [[0.0, 0.0]], 1.0)
    >>> [round(float(v), 3) for v in teacher[0]]
    [-0.693, -0.693]
    """
    return [
        ops.log_softmax(logits / temperature, axis=-1)
        for logits in in_full_precision(teacher_logits, student_logits)
    ]


@keras.saving.register_keras_serializable(package="keras_kd")
class ReverseKL(TemperedLoss):
    """The student may leave out answers, but is to add none of its own.

    For language models, where a small student can't cover all that a large
    teacher holds to be possible: where `SoftTargets` spreads it over the
    teacher's answers, this draws it to the likeliest of them. MiniLLM takes
    the expectation by sampling sequences from the student (a policy gradient);
    this is the full-vocabulary form at the tokens of the given sequence.
    Usual weight: 1; with labels 0.5 to 1 next to a `hard_weight` that adds up
    to 1.

        value = T^2 * sum_classes q * (log q - log p), in nats
        p = softmax(teacher / T);  q = softmax(student / T)

    Args:
        temperature: T, a positive number (1 for language models), or a
            `LearningRateSchedule` over training steps. A variable that can be
            assigned later.
        reduction, name, dtype: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar.

    Raises:
        ValueError: `temperature` is not positive; class counts differ; there
            is one class only.

    Example:
    >>> loss = ReverseKL()
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)
    0.4338

    Reference: Gu et al., 2023, arXiv 2306.08543.
    """

    expects_logits = True

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)

    def call(self, teacher_logits, student_logits):
        return reverse_kl(
            teacher_logits,
            student_logits,
            temperature=ops.convert_to_tensor(self.temperature),
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)
