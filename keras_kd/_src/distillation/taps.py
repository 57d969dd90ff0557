"""Taps: name a layer by its path, and read it while its model runs (hooks)."""

import contextlib
import functools
import re

import keras

from keras_kd._src import keras_compat
from keras_kd._src.distillation.attention_scores import check_scores
from keras_kd._src.distillation.attention_scores import maps_of
from keras_kd._src.distillation.attention_scores import mask_queries
from keras_kd._src.distillation.attention_scores import returns_scores
from keras_kd._src.distillation.attention_scores import softmax_read
from keras_kd._src.distillation.batch import Batch
from keras_kd._src.distillation.last_activation import ActivationRecord
from keras_kd._src.distillation.last_activation import common_name
from keras_kd._src.distillation.last_activation import last_activation
from keras_kd._src.distillation.last_activation import watch
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.specs import output_spec

_GRAMMAR = re.compile(
    r"^(?P<path>[^:\[\]]*)(:(?P<end>input|output|scores|logits))?(\[(?P<key>[^\[\]]+)\])?$"
)
ATTENTION = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention


class Tap:
    """One place in a model to read (a hook): an output, input, logits, scores.

    Written as a string, `PATH[:END][KEY]`, all of it optional:

        ""                    the model's own output
        "stage3"              the output of the layer named stage3
        "backbone/stage2"     a layer inside a nested model or layer
        "blocks/0/attention"  attribute names work, too, with list positions
        "stage3:input"        the layer's input
        "predictions:logits"  the input of its activation: of a `Softmax` or
                              `Activation` layer, or of `activation=`
        ":logits"             the input of the model's last activation
        "attention:scores"    an attention layer's attention maps: of Keras'
                              layers, and of those with one `Softmax` layer,
                              as in KerasHub's Llama and Gemma
        "[logits]" "mha[1]"   one entry of an output that is a dict or tuple

    Of a layer that is called more than once in a pass, the last call is read.
    Logits are found where the layer (or model) returns the result of an
    activation as it is.

    Args:
        text: a string of the form above.

    Raises:
        ValueError: `text` is not of this form.

    Example:
    >>> tap = Tap("backbone/stage2:input")
    >>> tap.path, tap.end
    ('backbone/stage2', 'input')
    """

    def __init__(self, text):
        match = _GRAMMAR.match(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                "A tap is a string `PATH`, `PATH:input`, `PATH:scores`, "
                "`PATH:logits` or `PATH[KEY]` (with both, `PATH:logits[KEY]`), "
                f"such as 'backbone/stage2'. Received: {text!r}."
            )
        self.text = text
        self.path = match["path"].strip("/")
        self.end = match["end"] or "output"
        self.key = match["key"]

    @property
    def is_of_output(self):
        """Whether it reads the model's output, or the output's logits."""
        return not self.path and self.end in ("output", "logits")

    @property
    def is_output(self):
        """Whether it reads the model's output itself."""
        return not self.path and self.end == "output"

    def before_activation(self):
        """The tap of the input of the last activation at this tap."""
        key = "" if self.key is None else f"[{self.key}]"
        return Tap(f"{self.path}:logits{key}")

    def select(self, value):
        """The entry that the tap's `[KEY]` names; the value without a key."""
        if self.key is None:
            return value
        # A tensor has no entries: [0] would take its first sample.
        keys = list(value) if isinstance(value, dict) else []
        if isinstance(value, (list, tuple)):
            keys = list(range(len(value)))
        for key in keys:
            if str(key) == self.key:
                return value[key]
        raise ValueError(
            f"Tap {self.text!r} names the entry {self.key!r}. Received: a "
            f"value with the entries {keys}."
        )


@contextlib.contextmanager
def tapped(model, taps):
    """Reads taps while the model runs in the `with` block; yields a dict.

    Each tapped layer's `call` is wrapped meanwhile. Unlike sub-models made from
    `layer.output`, this works for models of any kind, in a single pass. The
    projections of Keras' attention layers get the masks of the layer's inputs,
    and the maps of self-attention get a mask of valid queries and keys.
    """
    record, taps_of, activations = {}, {}, ActivationRecord()
    for tap in taps:
        layer = find_layer(model, tap.path)
        if tap.end == "scores":
            check_scores(layer, tap)
        taps_of.setdefault(id(layer), (layer, []))[1].append(tap)
    with contextlib.ExitStack() as stack:
        replace = functools.partial(_replace, stack=stack)
        for tap in taps:
            if tap.end == "logits":
                watch(model, tap, activations, replace)
        for layer, layer_taps in taps_of.values():
            _tap(layer, layer_taps, record, stack)
        for tap in taps:
            _pass_mask_on(model, tap, record, stack)
        yield record
    for tap in taps:
        if tap.end == "logits" and tap.text in record:
            record[tap.text] = keras.tree.map_structure(
                functools.partial(_logits, model, tap, activations),
                record[tap.text],
            )


def _logits(model, tap, activations, output):
    logits = activations.input_for(output)
    if logits is None:
        layer = find_layer(model, tap.path)
        raise ValueError(
            f"Tap {tap.text!r} reads the input of the last activation. "
            f"Received: {layer.name!r} (of type {type(layer).__name__}), whose "
            "output does not come from a layer's activation. Tap the layer "
            "that computes the logits by its name, as in 'predictions:logits'; "
            "if its output is logits already, leave out ':logits'."
        )
    mask = keras_compat.get_keras_mask(output)
    if mask is not None:
        keras_compat.set_keras_mask(logits, mask)
    return logits


def called_method(layer):
    """The name of the method that runs a layer."""
    quantized = getattr(layer, "quantization_mode", None) is not None
    return "quantized_call" if quantized else "call"


@contextlib.contextmanager
def replaced(layer, name, value):
    """Replaces an attribute of a layer in the `with` block."""
    with contextlib.ExitStack() as stack:
        _replace(layer, name, value, stack)
        yield


def _replace(layer, name, value, stack):
    restore = [object.__delattr__, layer, name]
    if name in vars(layer):
        restore = [object.__setattr__, layer, name, vars(layer)[name]]
    stack.callback(*restore)
    # Not by Keras' and PyTorch's own __setattr__, which would track it.
    object.__setattr__(layer, name, value)


def _tap(layer, taps, record, stack):
    name = called_method(layer)
    original = getattr(layer, name)
    wants_scores = any(tap.end == "scores" for tap in taps)
    if wants_scores:
        original = _with_scores(layer, original, stack)

    @functools.wraps(original)
    def call(*args, **kwargs):
        result = original(*args, **kwargs)
        result, scores = result if wants_scores else (result, None)
        given = args[0] if args else next(iter(kwargs.values()))
        ends = {"input": given, "scores": scores}
        for tap in taps:
            record[tap.text] = tap.select(ends.get(tap.end, result))
        return result

    _replace(layer, name, call, stack)


def _with_scores(layer, original, stack):
    """An attention layer's call that returns `(result, scores)`."""
    if not returns_scores(layer):
        return functools.partial(_softmax_scores, layer, original)
    if getattr(layer, keras_compat.FLASH_ATTENTION, False):
        # Fused attention keeps no scores, and Keras raises an error.
        _replace(layer, keras_compat.FLASH_ATTENTION, False, stack)
    return functools.partial(_returned_scores, original)


def _softmax_scores(layer, original, *args, **kwargs):
    with softmax_read(layer, _replace) as given:
        result = original(*args, **kwargs)
    scores = maps_of(layer, given)
    mask_queries(scores)
    return result, scores


def _returned_scores(original, *args, **kwargs):
    more = {**kwargs, "return_attention_scores": True}
    result = original(*args, **more)
    scores = result[1]
    given = dict(zip(("query", "value"), args), **kwargs)
    if given.get("query") is given.get("value"):
        mask_queries(scores)
    wanted = kwargs.get("return_attention_scores")
    return result if wanted else result[0], scores


def _pass_mask_on(model, tap, record, stack):
    outer, _, name = tap.path.rpartition("/")
    attention = find_layer(model, outer)
    if tap.end != "output" or not isinstance(attention, ATTENTION):
        return
    original = attention.call

    @functools.wraps(original)
    def call(*args, **kwargs):
        # The layer removes the masks before the projections.
        result = original(*args, **kwargs)
        mask = kwargs.get(f"{name}_mask")
        if name == "key" and mask is None:
            mask = kwargs.get("value_mask")  # keys are values by default
        if mask is not None and tap.text in record:
            keras_compat.set_keras_mask(record[tap.text], mask)
        return result

    _replace(attention, "call", call, stack)


def run_tapped(model, inputs, taps, **arguments):
    """Runs a model once; returns `(output, features)`, features by tap text."""
    inner = [tap for tap in taps if not tap.is_output]
    with tapped(model, inner) as features:
        output = model(inputs, **arguments)
    for tap in inner:
        if tap.text not in features:
            raise ValueError(
                f"A tap of model {model.name!r} was not reached. Received: "
                f"{tap.text!r}, whose layer was not called when the model "
                "ran. Tap a layer that the model's output depends on."
            )
    outer = {tap.text: tap.select(output) for tap in taps if tap.is_output}
    return output, {**features, **outer}


def activation_at(model, tap, inputs):
    """The name of the activation whose values a tap reads, or None.

    Where it depends on the model's code, a forward pass is traced.

    Args:
        model: a Keras model.
        tap: a `Tap`.
        inputs: the model's inputs, as `KerasTensor`s.
    """
    known = last_activation(model, tap)
    if known is not None or tap.end != "output":
        return known
    names = []

    def run(inputs):
        record = ActivationRecord()
        with contextlib.ExitStack() as stack:
            replace = functools.partial(_replace, stack=stack)
            watched = watch(model, tap, record, replace)
            if not watched:
                return inputs
            output, features = run_tapped(model, inputs, [tap], training=False)
        found = keras.tree.flatten(features[tap.text])
        names.extend(record.name_of(each) for each in found)
        return output

    output_spec(run, inputs)
    return common_name(names)


def extract_features(model, inputs, taps, **arguments):
    """Reads the activations at some taps of a model, in one forward pass.

    Shows what a transfer would compare, or checks a layer's name and shape
    before training.

    Args:
        model: a Keras model of any kind, or a `keras_kd.teachers.Teacher`.
        inputs: the model's inputs.
        taps: a tap's text, such as `"backbone/stage2"`, a `keras_kd.Tap`, or
            a list of them.
        arguments: further arguments of a Keras model's call. `training` is
            False by default.

    Returns:
        Dict, tap text -> value, in the order of the taps.

    Raises:
        ValueError: there is no such layer, or it is not called in the pass.

    Example:
    >>> head = keras.layers.Dense(2, name="head")
    >>> model = keras.Sequential([keras.Input((4,)), head])
    >>> features = extract_features(model, keras.ops.ones((1, 4)), "head:input")
    >>> features["head:input"].shape == (1, 4)
    True
    """
    taps = [
        tap if isinstance(tap, Tap) else Tap(tap or "") for tap in listed(taps)
    ]
    if isinstance(model, keras.layers.Layer):
        arguments = {"training": False, **arguments}
        _, features = run_tapped(model, inputs, taps, **arguments)
    else:
        features = model.predictions(Batch(inputs), taps).features
    return {tap.text: features[tap.text] for tap in taps}


def listed(value):
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def taps_of(texts):
    """The taps that a text, a list of texts or None (the output) names."""
    return [Tap("" if text is None else text) for text in listed(texts)]


def text_of(taps):
    """The taps as text for errors."""
    return ", ".join(repr(tap.text or "output") for tap in taps)


def features_at(taps, features):
    """A flat list of the features at some taps, from a dict of all."""
    return keras.tree.flatten([features[tap.text] for tap in taps])
