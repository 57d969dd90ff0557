"""Disagreement: samples on which student and teacher predict differently."""

import keras

from keras_kd._src.backend import per_replica
from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.losses.distillation_loss import DistillationLoss


@keras.saving.register_keras_serializable(package="keras_kd")
class Disagreement(SynthesisLoss):
    """Adversarial loss: makes samples on which student and teacher differ.

    The student can still improve on such samples. Any loss on logits can
    measure the difference: `FeatureMatching(distance="l1")` in DFAD,
    `SoftTargets(temperature=1.0)` in ZSKT, `JensenShannon` in adaptive
    DeepInversion.

        value = -loss(teacher_logits, student_logits)

    Args:
        loss: a loss of `keras_kd.losses` that compares logits. If its
            temperature is a schedule, the first value is used throughout.
        weight: usual value 1.
        name: the name in the logs.

    Raises:
        ValueError: `loss` is not a loss of `keras_kd.losses`.

    Example:
    >>> import keras_kd as kd
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> loss = Disagreement(kd.losses.FeatureMatching("l1"))
    >>> logits = ops.array([[3.0, 0.0]]), ops.array([[1.0, 0.0]])
    >>> float(loss(SyntheticBatch(None, *logits)))
    -1.0

    Reference: Fang et al., 2019, "Data-Free Adversarial Distillation" (DFAD),
    arXiv 1912.11006; Micaelli and Storkey, 2019, "Zero-shot Knowledge
    Transfer via Adversarial Belief Matching" (ZSKT), arXiv 1905.09768.
    """

    needs_student = True

    def __init__(self, loss, weight=1.0, *, name=None):
        if not isinstance(loss, DistillationLoss):
            raise ValueError(
                "Argument `loss` must be a loss of `keras_kd.losses` that "
                "compares logits, such as `FeatureMatching('l1')`. Received: "
                f"loss={loss!r}."
            )
        super().__init__(weight, name=name)
        self.loss = loss

    def call(self, batch):
        return -per_replica(
            self.loss(batch.teacher_logits, batch.student_logits)
        )

    def get_config(self):
        return {**super().get_config(), "loss": self.loss}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})
