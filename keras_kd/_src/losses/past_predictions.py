"""Progressive self-distillation: previous-epoch predictions as targets."""

import keras
from keras import ops

from keras_kd._src.layers.prediction_bank import PredictionBank
from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.losses.distillation_loss import bounded_logits
from keras_kd._src.losses.probabilities import check_two_classes
from keras_kd._src.losses.true_class import one_per_sample
from keras_kd._src.losses.true_class import true_class


def divergence_from(probabilities, logits):
    """KL divergence from probabilities, some of which may be exactly 0."""
    logs = ops.log(ops.where(probabilities > 0, probabilities, 1.0))
    return ops.sum(probabilities * (logs - ops.log_softmax(logits)), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class PastPredictions(DistillationLoss):
    """Progressive self-distillation (PS-KD): previous-epoch predictions.

    For a model without a teacher. As it gets better, its own predictions of the
    previous epoch, which show how hard each sample is, get more weight. In the
    paper that makes it as accurate as distillation from a teacher would, and
    far better calibrated. It takes a `SelfDistiller`, each sample's index, and
    two weights that add up to 1:

        steps = epochs * steps_per_epoch
        distiller = SelfDistiller(
            model,
            [Transfer(PastPredictions(len(x), num_classes=10),
                      weight=Annealing(0.0, 0.8, steps=steps))],
            hard_weight=Annealing(1.0, 0.2, steps=steps),
        )
        distiller.fit(x, {"labels": y, "sample_index": np.arange(len(x))})

        value = sum_classes p * (log p - log softmax(student_logits)), in nats
        p = the model's last prediction for the sample; its label until there
            is one

    With weight alpha and labels 1 - alpha, the gradient is that of the
    cross-entropy with (1 - alpha) * label + alpha * p, as in the paper. There
    alpha grows linearly with the epochs to 0.8; here with the steps.

    Keras takes no `class_weight` with such a dict of labels and indices: give
    `sample_weight` instead. Each output needs a transfer and a loss of its own.

    In validation nothing is stored, and the term is compared with rows of
    training samples. Its value there has no meaning, and any index in range,
    such as zeros, will do.

    Args:
        num_samples: how many samples the training data has.
        num_classes: how many classes there are.
        teacher_from_logits, student_from_logits, reduction, name, dtype: as
            in `DistillationLoss`.

    Call arguments:
        teacher_logits: the model's current output, which is stored, shape
            `(batch, classes)`; a `SelfDistiller` passes its own.
        student_logits: the same, with a gradient.
        sample_index: each sample's index in the data, in `[0, num_samples)`,
            integers of shape `(batch,)`.
        labels: class numbers, shape `(batch,)`; for a sample with -1 the value
            is 0 until a prediction is stored.
        sample_weight: optional, shape `(batch,)`; predictions for samples of
            weight 0 are not stored.
        training: whether to store the predictions; False by default.

    Returns:
        The weighted mean over samples, a scalar in nats.

    Raises:
        ValueError: an argument is out of its range; the logits are not of
            `num_classes`; labels or indices are missing, or have another shape.

    Example:
    >>> loss = PastPredictions(num_samples=10, num_classes=2)
    >>> logits, index = ops.array([[0.0, 0.0]]), ops.array([3])
    >>> batch = dict(sample_index=index, labels=ops.array([0]), training=True)
    >>> round(float(loss(logits, logits, **batch)), 4)  # the label
    0.6931
    >>> round(float(loss(logits, logits, **batch)), 4)  # its own prediction
    0.0

    Reference: Kim et al., 2021, "Self-Knowledge Distillation with Progressive
    Refinement of Targets", arXiv 2006.12000.
    """

    expects_logits = True
    per_sample = True

    def __init__(self, num_samples, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.bank = PredictionBank(num_samples, num_classes)

    def call(
        self,
        teacher_logits,
        student_logits,
        *,
        sample_index,
        labels,
        sample_weight,
        training,
    ):
        logits, now = bounded_logits(student_logits, teacher_logits)
        index = one_per_sample(sample_index, "sample_index")
        past, known = self.bank.read(index)
        label = ops.cast(true_class(labels, logits), past.dtype)
        target = ops.where(known[:, None], past, label)
        if training:
            self.bank.write(ops.softmax(now), index, sample_weight)
        return divergence_from(target, logits)

    def check_shapes(self, teacher_shape, student_shape):
        check_two_classes(self, teacher_shape, student_shape)
        known = self.bank.num_classes
        if len(student_shape) != 2 or student_shape[-1] != known:
            raise ValueError(
                f"{type(self).__name__} stores one row of {known} classes per "
                f"sample. Received: logits of shape {tuple(student_shape)}. "
                "Set `num_classes` to the model's number of classes, and tap "
                "an output with one prediction per sample."
            )

    def options(self):
        return {
            "num_samples": self.bank.num_samples,
            "num_classes": self.bank.num_classes,
        }
