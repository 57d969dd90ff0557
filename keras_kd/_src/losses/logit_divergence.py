"""The base class of losses between class logits."""

from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.probabilities import check_classes_given
from keras_kd._src.losses.probabilities import check_two_classes
from keras_kd._src.losses.tempered_loss import TemperedLoss


class LogitDivergence(TemperedLoss):
    """Base class of losses that are a divergence of logits at a temperature.

    To write your own, set `divergence` to a static function
    `(teacher_logits, student_logits, *, temperature)` that returns one value
    for each sample (or token, or pixel). If it takes more arguments, return
    them from `options()`: they are passed to it, and saved with the loss.

        value = divergence(teacher_logits, student_logits, temperature=T)

    Both sides must have the same classes, two or more. Vocabularies of one
    tokenizer may be padded or extended at their end, so that two language
    models differ in their number of classes: `classes=n` then compares the
    first n, with a softmax over these on each side.
    `keras_kd.text.check_same_ids` finds n. For losses that take labels, these
    must then be below n.

    Args:
        temperature: T, a positive number, or a `LearningRateSchedule` over
            training steps. A variable that can be assigned later.
        classes: how many classes to compare, the first ones, if a side has
            more. By default all, and both sides must have the same number.
        kwargs: as in `DistillationLoss`.

    Call arguments:
        teacher_logits: shape `(batch, ..., classes)`.
        student_logits: shape `(batch, ..., classes)`.
        sample_weight: optional, shape `(batch,)` or `(batch, ...)`.

    Returns:
        The weighted mean over samples (and tokens or pixels), a scalar.

    Raises:
        ValueError: `temperature` is not positive; class counts differ, and
            there is no `classes`; a side has fewer than `classes`; there is
            one class only.

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

    def __init__(self, temperature=1.0, *, classes=None, **kwargs):
        super().__init__(temperature, **kwargs)
        self.classes = (
            classes if classes is None else integer(classes, "classes")
        )

    def call(self, teacher_logits, student_logits):
        return self.divergence_at_temperature(teacher_logits, student_logits)

    def divergence_at_temperature(self, *tensors, temperature=None):
        """The divergence, at the loss's own temperature if none is given."""
        return self.divergence(
            *tensors,
            temperature=self.temperature_or(temperature),
            **self.options(),
        )

    def as_logits(self, teacher_features, student_features):
        """Both sides as logits of the classes that are compared."""
        sides = super().as_logits(teacher_features, student_features)
        return tuple(map(self._first_classes, sides))

    def _first_classes(self, logits):
        if self.classes is None:
            return logits
        logits = ops.convert_to_tensor(logits)
        if logits.shape[-1] <= self.classes:
            return logits
        first = logits[..., : self.classes]
        mask = get_keras_mask(logits)
        if mask is not None:
            set_keras_mask(first, mask)
        return first

    def check_shapes(self, teacher_shape, student_shape):
        shapes = self.compared(teacher_shape), self.compared(student_shape)
        check_two_classes(self, *shapes)

    def compared(self, shape):
        """The shape of the logits that are compared, from that of all."""
        if self.classes is None:
            return shape
        check_classes_given(self, shape)
        return (*shape[:-1], self.classes)

    def get_config(self):
        own = {} if self.classes is None else {"classes": self.classes}
        return {**super().get_config(), **own}
