"""Exits: classifiers at a model's earlier layers, for self-distillation."""

import keras

from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import output_spec

FINAL = "final"


@keras.saving.register_keras_serializable(package="keras_kd")
class Exits(keras.Model):
    """A model with classifiers at earlier layers, named by taps (BYOT).

    For a model that is its own teacher (`schemes.be_your_own_teacher`): its
    early layers learn from its last ones through exits, which are needed only
    in training. The model may be of any kind. It is not copied, and
    `exits.model` is the plain model without the exits.

        output = {"final": model(inputs),
                  tap: head(features of the model at the tap), for each exit}

    Args:
        model: a Keras model whose inputs are known.
        exits: dict, tap -> Keras layer or model from the features there to
            logits, `(batch, classes)`, such as a small network that ends in
            one unit per class. See `keras_kd.Tap` for the forms of a tap.
        name: the name of the model with its exits.

    Call arguments:
        inputs: the model's inputs.

    Returns:
        Dict: the model's output under "final", each exit's logits under its
        tap.

    Raises:
        ValueError: there is no exit, a tap does not exist, or the model's
            inputs are not known.

    Example:
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.Dense(3),
    ... ])
    >>> student = Exits(model, {"hidden": keras.layers.Dense(3)})
    >>> sorted(student(keras.ops.ones((2, 4))))
    ['final', 'hidden']

    Reference: Zhang et al., 2019, "Be Your Own Teacher: Improve the
    Performance of Convolutional Neural Networks via Self Distillation",
    arXiv 1905.08094.
    """

    def __init__(self, model, exits, *, name=None):
        super().__init__(name=name, autocast=False)
        if not isinstance(exits, dict) or not exits or FINAL in exits:
            raise ValueError(
                "Argument `exits` must be a dict of taps and layers, such as "
                "{'stage1': keras.layers.Dense(10)}, with no tap called "
                f"{FINAL!r}. Received: exits={exits!r}."
            )
        self.model = model
        self.taps = [_checked_tap(text) for text in exits]
        self.heads = list(exits.values())
        inputs = input_spec(model)
        if inputs is None:
            raise ValueError(
                "The shape of the inputs is not known. Received: the model "
                f"{model.name!r}, which is not built. Give it a "
                "`keras.Input`, or call it on a batch first."
            )
        sizes = [n for x in keras.tree.flatten(inputs) for n in x.shape[1:]]
        if None not in sizes:  # Otherwise the first data builds the heads.
            output_spec(lambda x: self.call(x, training=False), inputs)
        self.build(keras.tree.map_structure(lambda each: each.shape, inputs))

    def build(self, input_shape):
        self.built = True

    def known_inputs(self):
        """The model's inputs; None if only data can show them."""
        return known_inputs(self.model)

    def call(self, inputs, training=None):
        inputs = inputs_for("student", self.model, inputs)
        output, features = run_tapped(
            self.model, inputs, self.taps, training=training
        )
        outputs = {FINAL: output}
        for tap, head in zip(self.taps, self.heads):
            outputs[tap.text] = head(features[tap.text], training=training)
        return outputs

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        exits = zip(self.taps, self.heads)
        return {
            "model": serialize(self.model),
            "exits": {tap.text: serialize(head) for tap, head in exits},
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        exits = config["exits"].items()
        return cls(
            deserialize(config["model"]),
            {text: deserialize(head) for text, head in exits},
            name=config["name"],
        )


def _checked_tap(text):
    tap = Tap(text)
    if not tap.path or tap.key is not None:
        raise ValueError(
            "An exit must be at a layer's output or input, such as 'stage1' or "
            f"'stage1:input'. Received: the tap {text!r}."
        )
    return tap
