"""Synthesis losses on the teacher's class predictions and features."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.data_free.teacher_layers import head_path


def _log_softmax(logits, temperature=1.0):
    return ops.log_softmax(ops.cast(logits, "float32") / temperature, axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class ClassCertainty(SynthesisLoss):
    """One-hot loss of DAFL: the teacher is certain of each sample's class.

    A network usually classifies its training data with high confidence.

        value = mean over samples of -log max softmax(teacher_logits)

    Args:
        weight: usual value 1.
        name: the name in the logs.

    Example:
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> loss = ClassCertainty()
    >>> round(float(loss(SyntheticBatch(None, ops.array([[0.0, 0.0]])))), 4)
    0.6931

    Reference: Chen et al., 2019, "Data-Free Learning of Student Networks"
    (DAFL), arXiv 1904.01186.
    """

    def call(self, batch):
        return -ops.mean(ops.max(_log_softmax(batch.teacher_logits), axis=-1))


@keras.saving.register_keras_serializable(package="keras_kd")
class ClassBalance(SynthesisLoss):
    """Information entropy loss of DAFL: a batch has equally many of each class.

    It prevents a generator that makes one class only (mode collapse). The mean
    is over the batch, so the batch size should be many times the number of
    classes.

        p = mean over samples of softmax(teacher_logits)
        value = sum_classes p log p, in nats: -log(classes) at best, 0 at worst

    The authors' code takes the logarithm to base 10: their weight of 5 is
    2.17 here.

    Args:
        weight: usual value 2.
        name: the name in the logs.

    Example:
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> loss = ClassBalance()
    >>> logits = ops.array([[50.0, 0.0], [0.0, 50.0]])
    >>> round(float(loss(SyntheticBatch(None, logits))), 4)
    -0.6931

    Reference: Chen et al., 2019, arXiv 1904.01186.
    """

    def call(self, batch):
        return -class_entropy(batch.teacher_logits)


def class_entropy(logits):
    """Entropy of the mean class probabilities of a batch, in nats."""
    log_probs = _log_softmax(logits)
    samples = ops.cast(ops.shape(logits)[0], "float32")
    # The logarithm of the mean, which never takes the logarithm of 0.
    log_mean = ops.logsumexp(log_probs, axis=0) - ops.log(samples)
    return -ops.sum(ops.exp(log_mean) * log_mean)


@keras.saving.register_keras_serializable(package="keras_kd")
class FeatureActivation(SynthesisLoss):
    """Activation loss of DAFL: the teacher's last features are large.

    Trained filters respond more strongly to data like the training data.

        value = -mean |features|

    Args:
        weight: usual value 0.1.
        layer: tap of the teacher at which the features are read; by default
            the input of its last `Dense` or convolution.
        name: the name in the logs.

    Raises:
        ValueError: there is no such layer.

    Example:
    >>> FeatureActivation(0.1, layer="pool").layer
    'pool'

    Reference: Chen et al., 2019, arXiv 1904.01186.
    """

    def __init__(self, weight=1.0, layer=None, *, name=None):
        super().__init__(weight, name=name)
        self.layer = layer

    def taps(self, teacher):
        self._tap = self.layer
        if self._tap is None:
            self._tap = f"{head_path(teacher)}:input"
        return [self._tap]

    def call(self, batch):
        features = ops.cast(batch.features[self._tap], "float32")
        return -ops.mean(ops.abs(features))

    def get_config(self):
        return {**super().get_config(), "layer": self.layer}


@keras.saving.register_keras_serializable(package="keras_kd")
class TargetClasses(SynthesisLoss):
    """Class loss: the teacher predicts given class probabilities (ZSKD).

    It makes samples of chosen classes, as in ZSKD, KegNet and DeepInversion.

        value = mean of cross-entropy(targets, softmax(teacher_logits / T))

    Args:
        weight: usual value 1.
        temperature: T, a positive number; 20 in ZSKD.
        name: the name in the logs.

    Raises:
        ValueError: the temperature is not positive.

    Example:
    >>> from keras import ops
    >>> from keras_kd.data_free import SyntheticBatch
    >>> logits, targets = ops.array([[0.0, 0.0]]), ops.array([[1.0, 0.0]])
    >>> batch = SyntheticBatch(None, logits, targets=targets)
    >>> round(float(TargetClasses()(batch)), 4)
    0.6931

    Reference: Nayak et al., 2019, "Zero-Shot Knowledge Distillation in Deep
    Networks" (ZSKD), arXiv 1905.08114; Yoo et al., 2019 (KegNet),
    "Knowledge Extraction with No Observable Data".
    """

    needs_targets = True

    def __init__(self, weight=1.0, *, temperature=1.0, name=None):
        super().__init__(weight, name=name)
        self.temperature = number(temperature, "temperature", above=0.0)

    def call(self, batch):
        log_probs = _log_softmax(batch.teacher_logits, self.temperature)
        return -ops.mean(ops.sum(batch.targets * log_probs, axis=-1))

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
