"""Finds the last layer of a language model, and runs the model without it."""

import contextlib
import functools
from typing import Any
from typing import NamedTuple

import keras

from keras_kd._src.distillation.taps import called_method
from keras_kd._src.distillation.taps import replaced
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.specs import output_spec


class Head(NamedTuple):
    """The layer that computes a model's logits, position by position."""

    layer: keras.layers.Layer
    arguments: dict  # Of its call, such as {"reverse": True}.
    chunk_size: int

    def run(self, model, inputs, taps, **arguments):
        """Like `run_tapped`, with `ChunkedLogits` in place of logits."""
        with self._left_out():
            hidden, features = run_tapped(model, inputs, taps, **arguments)
        logits = ChunkedLogits(
            hidden,
            self.layer,
            arguments=self.arguments,
            chunk_size=self.chunk_size,
        )
        set_keras_mask(logits, get_keras_mask(hidden))
        outer = {tap.text: logits for tap in taps if tap.is_output}
        return logits, {**features, **outer}

    @contextlib.contextmanager
    def _left_out(self):
        """A context in which the head returns its input unchanged."""
        name = called_method(self.layer)
        original = getattr(self.layer, name)

        @functools.wraps(original)
        def call(hidden, *args, **kwargs):
            if not args and _without_training(kwargs) == self.arguments:
                return hidden
            return original(hidden, *args, **kwargs)

        with replaced(self.layer, name, call):
            yield


def find_head(role, model, inputs, chunk_size):
    """The head of a model, found in a symbolic forward pass.

    Args:
        role: "teacher" or "student", for the error.
        model: a Keras model.
        inputs: its inputs, as `KerasTensor`s.
        chunk_size: how many positions have logits at once.

    Raises:
        ValueError: the model does not end in a layer that is known to take
            each position by itself.
    """
    calls = []

    def run(inputs):
        calls.clear()  # Keras may run it twice.
        with contextlib.ExitStack() as stack:
            for layer in filter(_may_be_head, all_layers(model)):
                stack.enter_context(_recorded(layer, calls))
            output = model(inputs, training=False)
        heads[:] = [call for call in calls if call.result is output]
        return output

    heads = []
    output_spec(run, inputs)
    if not heads:
        raise _no_head(
            role, model, "whose output does not come from such a layer"
        )
    head = heads[-1]
    same = [
        call
        for call in calls
        if call.layer is head.layer and call.arguments == head.arguments
    ]
    if len(same) > 1 or not head.plain:
        raise _no_head(
            role, model, f"which calls {head.layer.name!r} more than once"
        )
    return Head(head.layer, head.arguments, chunk_size)


class _Call(NamedTuple):
    layer: keras.layers.Layer
    arguments: dict
    plain: bool  # Whether hidden states are its only positional argument.
    result: Any


def _may_be_head(layer):
    # Both Keras and KerasHub have a ReversibleEmbedding.
    names = {each.__name__ for each in type(layer).__mro__}
    activation = getattr(layer, "activation", keras.activations.linear)
    linear = activation is keras.activations.linear
    return linear and bool(names & {"Dense", "ReversibleEmbedding"})


@contextlib.contextmanager
def _recorded(layer, calls):
    name = called_method(layer)
    original = getattr(layer, name)

    @functools.wraps(original)
    def call(*args, **kwargs):
        result = original(*args, **kwargs)
        own = _without_training(kwargs)
        calls.append(_Call(layer, own, len(args) == 1, result))
        return result

    with replaced(layer, name, call):
        yield


def _without_training(arguments):
    # A head computes the same in training.
    return {key: arguments[key] for key in arguments if key != "training"}


def _no_head(role, model, found):
    return ValueError(
        f"The logits of the {role} can't be computed in chunks: the model "
        "must end in a `Dense` layer without an activation, or in a "
        f"`ReversibleEmbedding`. Received: {model.name!r} (of type "
        f"{type(model).__name__}), {found}. Leave out `chunk_size`: about 4 to "
        "6 arrays of all logits (batch x length x classes, 4 bytes each) are "
        "then in memory."
    )
