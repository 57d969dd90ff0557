"""Reads the attention maps of Keras' layers and of custom layers."""

import contextlib
import functools
import inspect
import math

import keras
from keras import ops

from keras_kd._src import keras_compat

_RELATIONS = (
    "Distil the relations of its queries, keys and values instead, which need "
    "no maps: `keras_kd.losses.SelfAttentionRelation`."
)


def returns_scores(layer):
    """Whether a layer's call takes `return_attention_scores`."""
    arguments = inspect.signature(layer.call).parameters
    return "return_attention_scores" in arguments


def gives_scores(layer):
    """Whether a layer's attention maps can be read."""
    return returns_scores(layer) or _softmax_of(layer) is not None


def check_scores(layer, tap):
    """Raises a `ValueError` if a layer has no attention maps to read."""
    if gives_scores(layer):
        return
    raise ValueError(
        "Attention scores are read from an attention layer: one such as "
        "`keras.layers.MultiHeadAttention`, that can return them, or one that "
        "makes them with one `keras.layers.Softmax`. Received: tap "
        f"{tap.text!r}, at a layer of type {type(layer).__name__}. If it is an "
        f"attention layer: {_RELATIONS}"
    )


def _softmax_of(layer):
    """The softmax layer directly in a layer; None unless it has just one."""
    found = [
        each
        for each in keras_compat.sublayers(layer)
        if isinstance(each, keras.layers.Softmax)
    ]
    return found[0] if len(found) == 1 else None


@contextlib.contextmanager
def softmax_read(layer, replace):
    """Records what a layer's softmax returns in the `with` block, and masks.

    Yields a list of pairs `(scores, mask)`. `replace(layer, name, value,
    stack)` sets an attribute until the stack is closed.
    """
    softmax, given = _softmax_of(layer), []
    original = softmax.call

    @functools.wraps(original)
    def call(inputs, mask=None):
        scores = original(inputs, mask=mask)
        given.append((scores, mask))
        return scores

    with contextlib.ExitStack() as stack:
        replace(softmax, "call", call, stack=stack)
        stack.enter_context(keras_compat.without_fused_attention(layer))
        yield given


def maps_of(layer, given):
    """The last maps of a softmax, shape `(batch, heads, queries, keys)`."""
    if not given:
        raise ValueError(
            "An attention layer's maps are the outputs of its softmax. "
            f"Received: {layer.name!r} (of type {type(layer).__name__}), which "
            "did not call its softmax, as in fused (flash) attention. "
            f"{_RELATIONS}"
        )
    scores, mask = given[-1]
    if len(scores.shape) > 4:  # Grouped-query attention: two axes of heads.
        scores = _joined_heads(scores)
        mask = None if mask is None else _joined_heads(mask)
    if mask is not None:
        keras_compat.set_keras_mask(scores, mask)
    return scores


def _joined_heads(maps):
    heads = math.prod(maps.shape[1:-2])
    sizes = ops.shape(maps)
    return ops.reshape(maps, (sizes[0], heads, *sizes[-2:]))


def mask_queries(scores):
    """Applies the mask of the keys to the queries, too, in self-attention."""
    mask = keras_compat.get_keras_mask(scores)
    if mask is None:
        return
    mask = ops.cast(mask, "bool")
    # A token that no query may attend to is padding.
    present = ops.any(mask, axis=-2)
    keras_compat.set_keras_mask(
        scores, ops.logical_and(mask, ops.expand_dims(present, axis=-1))
    )
