"""Asks a teacher about batches, outside of any training."""

import inspect

import keras

from keras_kd._src.cache.dense import Dense
from keras_kd._src.cache.encodings import KINDS
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import output_spec


def encodings_by_tap(outputs):
    """What `write` takes as `outputs`, as a dict.

    Args:
        outputs: an encoding, a dict of them, or None.

    Returns:
        Dict, tap text -> encoding, of one or more.

    Raises:
        ValueError: there are none, or others.

    Example:
    >>> encodings_by_tap(None)[""].dtype
    'float16'
    """
    if outputs is None:
        outputs = Dense("float16")
    by_tap = outputs if isinstance(outputs, dict) else {"": outputs}
    known = tuple(KINDS.values())
    if not by_tap or not all(isinstance(e, known) for e in by_tap.values()):
        raise ValueError(
            "Argument `outputs` must be a way to store the teacher's output, "
            '`cache.Dense("float16")`, `cache.TopK(32)` or `cache.Int8()`, or '
            "a dict, tap text -> one of them, such as "
            '`{"": cache.Dense("float16"), "stage3": cache.Int8()}`. Received: '
            f"outputs={outputs!r}."
        )
    return by_tap


def stored_outputs(teacher, outputs, inputs):
    """What is stored of a teacher, with the shapes that it has.

    Args:
        teacher: a built Keras model.
        outputs: an encoding for its output, or a dict, tap text -> encoding;
            None for its output as float16.
        inputs: a batch, for a teacher that doesn't say what it takes.

    Returns:
        List of `StoredOutput`.

    Raises:
        ValueError: a tap does not exist, is no single tensor of known shape,
            or can't be stored so.

    Example:
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> [output.shape for output in stored_outputs(teacher, None, None)]
    [(3,)]
    """
    outputs = encodings_by_tap(outputs)
    taps = [Tap(text) for text in outputs]
    for tap in taps:
        find_layer(teacher, tap.path)
    spec = input_spec(teacher)
    if spec is None:
        spec = keras.tree.map_structure(
            lambda a: keras.KerasTensor((None, *a.shape[1:]), str(a.dtype)),
            inputs,
        )
    views = output_spec(lambda x: _views(teacher, x, taps), spec)
    return [
        StoredOutput(tap.text, _shape_of(tap, views[tap.text]), encoding)
        for tap, encoding in zip(taps, outputs.values())
    ]


def _shape_of(tap, view):
    shape = None if keras.tree.is_nested(view) else tuple(view.shape[1:])
    if shape is None or None in shape:
        received = shape or keras.tree.map_structure(lambda v: v.shape, view)
        raise ValueError(
            "Each output that is stored must be one tensor of a known shape. "
            f"Received: {received} at tap {tap.text or 'output'!r}. Name one "
            "entry of it, as in '[logits]', and give the teacher inputs of "
            "one size."
        )
    return shape


def _views(teacher, inputs, taps, **arguments):
    return run_tapped(teacher, inputs, taps, training=False, **arguments)[1]


class AskedTeacher(keras.Model):
    """A teacher whose answer is what is stored of it.

    Called by `predict_on_batch`: compiled, in inference mode. What the
    encodings can do there is done there, so that less leaves the device.

    Args:
        teacher: a built Keras model.
        outputs: list of `StoredOutput`.

    Example:
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> outputs = stored_outputs(teacher, None, None)
    >>> prepared = AskedTeacher(teacher, outputs).ask(keras.ops.ones((2, 4)))
    >>> prepared["output"]["values"].shape
    (2, 3)
    """

    def __init__(self, teacher, outputs):
        super().__init__(dtype="float32", autocast=False)
        self.teacher = teacher
        self.stored = outputs
        self.taps = [Tap(output.tap) for output in outputs]
        parameters = inspect.signature(teacher.call).parameters
        self.shows_labels = "labels" in parameters
        self.built = True

    def call(self, batch):
        inputs, *labels = batch
        arguments = {"labels": labels[0]} if self.shows_labels else {}
        views = _views(self.teacher, inputs, self.taps, **arguments)
        return {
            output.name: output.encoding.prepare(views[output.tap])
            for output in self.stored
        }

    def check_labels(self, labels):
        """Raises a `ValueError` if the teacher needs labels that are None."""
        if labels is None and getattr(self.teacher, "needs_labels", False):
            raise ValueError(
                f"The answers of the teacher {self.teacher.name!r} depend on "
                "the labels, so without them others would be stored. "
                "Received: a batch without labels; arrays bring none. Give "
                'batches `(x, {"labels": y, "sample_index": i})` or '
                "`cache.AugmentedViews(x, y, ...)`, or take a teacher that "
                'needs none: an Ensemble with `weights="entropy"`, or with '
                "equal ones."
            )

    def ask(self, inputs, labels=None):
        """What is prepared of a batch, as NumPy arrays."""
        self.check_labels(labels)
        shown = [labels] if self.shows_labels else []
        return self.predict_on_batch([inputs, *shown])
