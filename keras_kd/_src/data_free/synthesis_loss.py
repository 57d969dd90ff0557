"""SynthesisLoss: base class of losses that train synthetic samples."""

from typing import Any
from typing import NamedTuple

from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.naming import snake_case


class SyntheticBatch(NamedTuple):
    """A batch of synthetic samples, with the models' outputs for them.

    A `SynthesisLoss` gets it in `call`.

    Attributes:
        samples: the synthetic samples, shape `(batch, ...)`.
        teacher_logits: shape `(batch, classes)`.
        student_logits: shape `(batch, classes)`; None if no loss needs them.
        features: dict, tap text -> the teacher's features there.
        latents: the generator's latents, shape `(batch, latent_size)`, or
            None.
        targets: the target class probabilities `(batch, classes)`, or None.

    Example:
    >>> from keras import ops
    >>> batch = SyntheticBatch(ops.zeros((2, 4)), ops.zeros((2, 3)))
    >>> batch.student_logits is None
    True
    """

    samples: Any
    teacher_logits: Any
    student_logits: Any = None
    features: Any = None
    latents: Any = None
    targets: Any = None


class SynthesisLoss:
    """Base class of the losses that train synthetic samples, without data.

    A generator, or the samples themselves, are trained to minimize the weighted
    sum of such losses. To write one, implement `call`, and `taps` if it reads
    features of the teacher.

    Args:
        weight: non-negative number, the loss's factor in the sum.
        name: the name in the logs; by default that of the class.

    Attributes:
        needs_student: whether it uses the student's logits.
        needs_targets: whether it uses the target class probabilities.
        needs_latents: whether it uses the generator's latents.
        layers: Keras layers that are trained with the generator.

    Raises:
        ValueError: the weight is negative.

    Example:
    >>> from keras import ops
    >>> class Dark(SynthesisLoss):
    ...     def call(self, batch):
    ...         return ops.mean(batch.samples)
    >>> loss = Dark(weight=2.0)
    >>> loss.name
    'dark'
    """

    needs_student = False
    needs_targets = False
    needs_latents = False
    layers = ()

    def __init__(self, weight=1.0, *, name=None):
        self.weight = number(weight, "weight", least=0.0)
        self.name = name or snake_case(type(self).__name__)

    def taps(self, teacher):
        """The taps at which the loss reads the teacher's features.

        Args:
            teacher: a Keras model.

        Returns:
            List of tap texts, which are the keys of `features` in `call`.
        """
        return []

    def call(self, batch):
        """The loss's value for a batch, without its weight.

        Args:
            batch: a `SyntheticBatch`.

        Returns:
            A scalar.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `call(batch)`."
        )

    def __call__(self, batch):
        return self.weight * ops.cast(self.call(batch), "float32")

    def get_config(self):
        return {"weight": self.weight, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
