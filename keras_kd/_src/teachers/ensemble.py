"""Ensemble: several teachers combined into one, with one set of logits."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.backend import no_gradient
from keras_kd._src.specs import sizes_known
from keras_kd._src.teachers.ensemble_weights import check_known
from keras_kd._src.teachers.ensemble_weights import checked_weights
from keras_kd._src.teachers.ensemble_weights import confidence_weights
from keras_kd._src.teachers.ensemble_weights import entropy_weights
from keras_kd._src.teachers.ensemble_weights import mean_of_probabilities
from keras_kd._src.teachers.member import TINY
from keras_kd._src.teachers.member import checked_members
from keras_kd._src.teachers.member import class_table
from keras_kd._src.teachers.member import in_order
from keras_kd._src.teachers.member import inputs_of


@keras.saving.register_keras_serializable(package="keras_kd")
class Ensemble(keras.Model):
    """An ensemble of teachers, as one teacher (multi-teacher distillation).

    An ensemble is usually more accurate than its members, and its
    probabilities of the other classes are better estimates. A student can
    learn most of that.

        teacher = Ensemble([first, second, third], temperature=4.0)
        distiller = Distiller(teacher, student)

        result = T * log(sum_k weight_k softmax(logits_k / T))  # the default
        result = sum_k weight_k logits_k                        # "logits"

    Set `temperature` to that of the loss: the soft targets are then exactly
    the mean of the members' soft targets, as in Hinton's paper. Taps of a
    member's layers begin with its position in `members`: "members/0/stage3".

    The members run one after another, always in inference mode: a `Distiller`
    that runs eagerly frees the activations of one before the next runs. Their
    weights and `trainable` flags are not changed. Learned weights, one per
    member, are trained beforehand, on data that no member was trained on, at
    temperature 1:

        teacher = Ensemble([first, second], weights="learned")
        teacher.compile("adam", SparseCategoricalCrossentropy(from_logits=True))
        teacher.fit(x_held_out, y_held_out)

    A class that only some members know gets their weighted sum, divided by
    their share of all members; the softmax makes the sum 1 again.
    Vongkulbhisal et al. (2019, arXiv 1904.06062) solve for the distribution
    that agrees with all members, which requires classes in common.

    Args:
        members: list of built Keras models that predict logits of shape
            `(batch, classes)`, or of `Member`s, for models that take or
            predict something else.
        average: `"probabilities"`, or `"logits"`, as they are, of members
            that know all classes.
        weights: None for equal weights; a list of one number per member (they
            are divided by their sum); `"learned"`; or, computed for each
            sample, `"confidence"` (`confidence_weights`, from the labels;
            equal without labels, and not possible in a cache) or `"entropy"`
            (`entropy_weights`).
        temperature: temperature of the averaged probabilities, positive.
        num_classes: number of classes; by default that of the members'
            outputs.
        input_shape: shape of a sample, needed if every member has a
            `preprocess`.
        name: the model's name.

    Call arguments:
        inputs: one tensor, the input of each member (or of its `preprocess`).
        labels: class numbers, shape `(batch,)`, -1 for none; a `Distiller`
            passes them. None if there are none.

    Returns:
        Logits in float32, shape `(batch, classes)`.

    Raises:
        ValueError: a member is not a built Keras model, or occurs twice; the
            members' classes do not agree; an argument is out of range.

    Example:
    >>> first = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> second = keras.models.clone_model(first)
    >>> teacher = Ensemble([first, second], temperature=4.0)
    >>> teacher(ops.ones((2, 4))).shape == (2, 3)
    True

    Reference: Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a
    Neural Network", arXiv 1503.02531.
    """

    def __init__(
        self,
        members,
        *,
        average="probabilities",
        weights=None,
        temperature=1.0,
        num_classes=None,
        input_shape=None,
        name=None,
    ):
        # No autocast: labels stay integers, each model casts its inputs.
        super().__init__(name=name, dtype="float32", autocast=False)
        self._parts = checked_members(members)
        self.average = one_of(average, "average", ("probabilities", "logits"))
        self.weighting = checked_weights(weights, len(self._parts))
        self.temperature = number(temperature, "temperature", least=TINY)
        inputs = inputs_of(self._parts, input_shape)
        self._inputs_spec = inputs
        self._sample_shape = tuple(inputs.shape[1:])
        self._table = class_table(self._parts, inputs, num_classes)
        self.num_classes = self._table.shape[1]
        check_known(self._table, self.average, self.weighting)
        self.member_logits = None
        if self.weighting == "learned":
            self.member_logits = self.add_weight(
                shape=(len(self._parts),),
                initializer="zeros",
                name="member_logits",
            )
        self.build((None, *self._sample_shape))

    @property
    def members(self):
        """The members' models, without their `Member` layers."""
        return [part.model for part in self._parts]

    def build(self, input_shape):
        self.built = True

    def known_inputs(self):
        """The input as a `KerasTensor`; None if its sizes are open."""
        return self._inputs_spec if sizes_known(self._inputs_spec) else None

    def call(self, inputs, training=None, *, labels=None):
        if training:
            # Only the learned weights are trained, so members need no gradient.
            with no_gradient():
                logits = ops.stop_gradient(self._predictions(inputs))
        else:
            logits = self._predictions(inputs)
        weights = self._weights_for(logits, labels)
        if self.average == "logits":
            return ops.sum(logits * ops.expand_dims(weights, -1), axis=-2)
        mean = mean_of_probabilities(logits, weights, self.temperature)
        share = np.mean(self._table >= 0, axis=0).astype("float32")
        return mean - self.temperature * ops.log(share)

    def _predictions(self, inputs):
        logits = [
            in_order(part(inputs, training=False), places)
            for part, places in zip(self._parts, self._table)
        ]
        return ops.stack(logits, axis=1)

    def _weights_for(self, logits, labels):
        if self.weighting == "learned":
            logits = ops.convert_to_tensor(self.member_logits)
            # Not Keras' softmax, which warns if there is only one member.
            return ops.exp(logits - ops.logsumexp(logits))
        if self.weighting == "confidence":
            return confidence_weights(logits, labels)
        if self.weighting == "entropy":
            return entropy_weights(logits)
        return ops.convert_to_tensor(list(self.weighting), "float32")

    @property
    def trainable_variables(self):
        # The members are never trained, whatever their flags.
        learned = self.trainable and self.member_logits is not None
        return [self.member_logits] if learned else []

    @property
    def non_trainable_variables(self):
        return _without(self.trainable_variables, self.variables)

    @property
    def trainable_weights(self):
        return self.trainable_variables

    @property
    def non_trainable_weights(self):
        return _without(self.trainable_variables, self.weights)

    @property
    def needs_labels(self):
        """Whether the weights of its members depend on the labels."""
        return self.weighting == "confidence"

    def fingerprint_bytes(self):
        """Settings that distinguish ensembles of the same members, as bytes."""
        weights = self.weighting
        weights = weights if isinstance(weights, str) else list(weights)
        parts = [self.average, weights, self.temperature, self.num_classes]
        return repr(parts).encode()

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        weights = self.weighting
        return {
            "name": self.name,
            "members": [serialize(part) for part in self._parts],
            "average": self.average,
            "weights": weights if isinstance(weights, str) else list(weights),
            "temperature": self.temperature,
            "num_classes": self.num_classes,
            "input_shape": list(self._sample_shape),
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        members = [deserialize(member) for member in config["members"]]
        return cls(**{**config, "members": members})


def _without(some, variables):
    some = [id(variable) for variable in some]
    return [each for each in variables if id(each) not in some]
