"""LearnedTemperature: a temperature trained adversarially."""

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.rules.difficulty import log_probabilities
from keras_kd._src.rules.rule import Rule


@keras.saving.register_keras_serializable(package="keras_kd")
class LearnedTemperature(Rule):
    """Trains the temperature adversarially: curriculum temperature (CTKD).

    For long runs, instead of tuning the temperature. The temperature is trained
    with the student, by the same optimizer and on the same loss, but with a
    reversed gradient: the student minimizes the loss, the temperature maximizes
    it. The strength of the reversal grows over the first epochs, so that the
    task is easy at first:

        LearnedTemperature(Annealing(0.0, 1.0, steps=10 * steps_per_epoch,
                                     curve="cosine"))

        logit = one trainable number, or with per_sample=True
                dense(relu(dense([softmax(teacher), softmax(student)])))
        T = low + (high - low) * sigmoid(logit)
        gradient of the logit = -reversal * gradient of the loss

    The logit starts at 1, as in the authors' code, so T starts at 15.6. The
    learning rate is that of the optimizer. Adam normalizes the size of the
    gradient, and so removes most of the curriculum; the authors train with SGD.
    The weights belong to the distiller, are saved with it, and are not part of
    the student. `rule.temperature` is the current value.

    The authors' repository has the form with one temperature for all. The form
    with one per sample follows the paper: two layers on top of both
    predictions. That these are probabilities, and give the student no gradient,
    is this library's choice. There is no batch normalization, as samples of
    weight 0 would count in it. The last layer's kernel starts at zero, so that
    all samples start with the same temperature.

    Args:
        reversal: strength of the reversal, non-negative, or a
            `LearningRateSchedule` over training steps; from 0 to 1 over 10
            epochs along a cosine in the authors' code. A variable that can be
            assigned later, logged as `<transfer>_reversal` if it changes.
        per_sample: whether each sample gets its own temperature.
        low: the lowest temperature, positive.
        high: the highest temperature, at least `low`. 1 and 21 in the authors'
            code.
        units: units of the hidden layer, with `per_sample=True`.
        name: the rule's name.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> from keras_kd.rules import RuleInputs
    >>> rule = LearnedTemperature(1.0)
    >>> rule.build((None, 3))
    >>> logits = ops.zeros((2, 3))
    >>> inputs = RuleInputs(logits, logits, ops.ones((2,)))
    >>> rule.apply(inputs).temperature.shape == (2,), round(rule.temperature, 2)
    (True, 15.62)

    Reference: Li et al., 2022, "Curriculum Temperature for Knowledge
    Distillation", arXiv 2211.16231 (CTKD).
    """

    sets_temperature = True

    def __init__(
        self,
        reversal,
        *,
        per_sample=False,
        low=1.0,
        high=21.0,
        units=256,
        name=None,
    ):
        super().__init__(name=name)
        self.per_sample = per_sample
        self.needs_student = per_sample
        self.low = number(low, "low", least=1e-6)
        self.high = number(high, "high", least=self.low)
        self.units = integer(units, "units")
        self._reversal = Hyperparameter(reversal, "reversal")

    @property
    def reversal(self):
        return self._reversal.variable

    @reversal.setter
    def reversal(self, value):
        self._reversal.assign(value)

    @property
    def temperature(self):
        """The current temperature, if it is the same for all samples."""
        if self.per_sample:
            raise ValueError(
                "With per_sample=True each sample has a temperature of its "
                "own. Received: a read of `rule.temperature`, which is for one "
                "temperature. Read those of a batch: "
                "`rule.apply(inputs).temperature`."
            )
        logit = ops.convert_to_tensor(self.logit)
        return float(ops.convert_to_numpy(self._between(logit)))

    def build(self, shape):
        if not self.per_sample:
            self.logit = self.add_weight(
                shape=(), initializer="ones", name="logit"
            )
            return
        self.hidden = keras.layers.Dense(
            self.units, "relu", dtype="float32", name="hidden"
        )
        self.hidden.build((None, 2 * shape[-1]))
        self.head = keras.layers.Dense(
            1,
            kernel_initializer="zeros",
            bias_initializer="ones",
            dtype="float32",
            name="head",
        )
        self.head.build((None, self.units))

    def apply(self, inputs):
        logits = _reverse_gradient(
            self._logits(inputs), ops.convert_to_tensor(self.reversal)
        )
        return inputs._replace(temperature=self._between(logits))

    def _logits(self, inputs):
        if not self.per_sample:
            logit = ops.convert_to_tensor(self.logit)
            return logit * ops.ones_like(inputs.sample_weight)
        sides = inputs.teacher_logits, inputs.student_logits
        sides = [ops.exp(log_probabilities(side)) for side in sides]
        both = ops.stop_gradient(ops.concatenate(sides, axis=-1))
        return self.head(self.hidden(both))[:, 0]

    def _between(self, logit):
        return self.low + (self.high - self.low) * ops.sigmoid(logit)

    def get_config(self):
        return {
            **super().get_config(),
            "reversal": self._reversal.config(),
            "per_sample": self.per_sample,
            "low": self.low,
            "high": self.high,
            "units": self.units,
        }

    @classmethod
    def from_config(cls, config):
        reversal = keras.saving.deserialize_keras_object(config["reversal"])
        return cls(**{**config, "reversal": reversal})


def _reverse_gradient(value, strength):
    """The same value, with its gradient times -strength."""
    # Ganin and Lempitsky, 2014, arXiv 1409.7495.
    reversed_value = -strength * value
    return ops.stop_gradient(value - reversed_value) + reversed_value
