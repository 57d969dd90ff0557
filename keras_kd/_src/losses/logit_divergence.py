"""What the losses between class logits share."""

from keras_kd._src.losses.probabilities import check_two_classes
from keras_kd._src.losses.tempered_loss import TemperedLoss


class LogitDivergence(TemperedLoss):
    """Base class of losses that are a divergence of tempered class logits.

    To write your own, set `divergence` to a static function
    `(teacher_logits, student_logits, *, temperature)` that returns one value
    for each sample (or token, or pixel). If it takes more arguments, return
    them from `options()`: they are passed to it, and saved with the loss.

        value = divergence(teacher_logits, student_logits, temperature=T)

    Both sides must have the same classes, two or more.

    Args:
        temperature: T, a positive number, or a `LearningRateSchedule` over
            training steps. A variable that can be assigned later.
        kwargs: as in `DistillationLoss`.

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
    >>> from keras import ops
    >>> class TotalVariation(LogitDivergence):
    ...     @staticmethod
    ...     def divergence(teacher_logits, student_logits, *, temperature):
    ...         teacher = ops.softmax(teacher_logits / temperature)
    ...         student = ops.softmax(student_logits / temperature)
    ...         return 0.5 * ops.sum(ops.abs(teacher - student), axis=-1)
    >>> loss = TotalVariation()
    >>> round(float(loss([[99.0, 0.0]], [[0.0, 0.0]])), 4)
    0.5
    """

    expects_logits = True
    # Static: tensors, `temperature=` and the options -> values.
    divergence = None

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)

    def call(self, teacher_logits, student_logits):
        return self.tempered_divergence(teacher_logits, student_logits)

    def tempered_divergence(self, *tensors, temperature=None):
        """The divergence, at the loss's temperature if none is given."""
        return self.divergence(
            *tensors,
            temperature=self.temperature_or(temperature),
            **self.options(),
        )

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)
