"""SynthesisLoss: what samples that are made up are to be like."""

from typing import Any
from typing import NamedTuple

from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.naming import snake_case


class SyntheticBatch(NamedTuple):
    """A batch that was made up, and what the models make of it.

    What the losses by which samples are made are given.

    Attributes:
        samples: shape `(batch, ...)`.
        teacher_logits: shape `(batch, classes)`.
        student_logits: the same of the student; None if no loss needs them.
        features: dict, tap text -> the teacher's features there.
        latents: what the generator was given, shape `(batch, latent_size)`.
        targets: the class probabilities that are wanted, or None.

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
    """Base class of the losses by which samples are made without data.

    A generator, or the samples themselves, are trained to lower the weighted
    sum of some of these; to write one, implement `call`. A positive weight
    says how much it counts.

    Args:
        weight: non-negative number.
        name: the name in the logs; that of the class by default.

    Attributes:
        needs_student: whether it looks at the student's logits.
        needs_targets: whether it looks at the wanted class probabilities.
        needs_latents: whether it looks at what a generator was given.
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
        """The texts of the taps at which it reads the teacher.

        Args:
            teacher: a Keras model.

        Returns:
            List of texts; `call` finds the features by them.
        """
        return []

    def call(self, batch):
        """Its value for a batch.

        Args:
            batch: a tuple of `samples`, `teacher_logits`, `student_logits`,
                `features` (by tap), `latents` and `targets`.

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
