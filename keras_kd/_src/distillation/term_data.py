"""Chooses the weights, labels and mask of a batch for each term.

The docstring of `Transfer` explains the rule.
"""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.losses.any_loss import positions_of
from keras_kd._src.losses.distillation_loss import first_fitting
from keras_kd._src.losses.positions import expand_to

# The input of KerasHub's models that is the mask of their texts.
PADDING_MASK = "padding_mask"


class TermData(NamedTuple):
    """The parts of a batch besides the features, for all terms."""

    inputs: Any = None
    labels: Any = None
    sample_weight: Any = None
    sample_index: Any = None
    # The student's output names, and the argument `loss` of `compile`.
    output_names: Any = ()
    hard_loss: Any = None

    def of_output(self, structure, outputs):
        """The entry of labels, weights or losses for the first known output.

        Without entries, they hold for all outputs; None where no output has an
        entry.
        """
        if not keras.tree.is_nested(structure):
            return structure
        entries = _entries(structure)
        if len(entries) == 1 and not outputs:
            return next(iter(entries.values()))
        keys = [key for output in outputs for key in self._keys(output)]
        return next((entries[key] for key in keys if key in entries), None)

    def _keys(self, output):
        """The keys an output may have: as given, its position, its name."""
        yield output
        names = list(self.output_names or ())
        if output in names:
            yield str(names.index(output))
        if output.isdigit():
            yield from names[int(output) : int(output) + 1]

    @property
    def text_of_labels(self):
        """The labels' shape or keys, as text for errors."""
        if not keras.tree.is_nested(self.labels):
            return f"of shape {tuple(getattr(self.labels, 'shape', ()))}"
        return f"with the keys {sorted(_entries(self.labels))}"


def _entries(structure):
    """The entries of a dict or list by their keys, as text."""
    if not isinstance(structure, dict):
        structure = dict(enumerate(structure))
    return {str(key): value for key, value in structure.items()}


class FeaturePair(NamedTuple):
    """A feature of each side, with its value before the adapter, its output."""

    teacher: Any
    student: Any
    given_teacher: Any
    given_student: Any
    teacher_output: Any = None
    student_output: Any = None

    @property
    def outputs(self):
        """The outputs that the pair reads, the student's first."""
        both = self.student_output, self.teacher_output
        return [output for output in both if output is not None]


def outputs_at(taps, features):
    """For each feature at some taps, its output's key; None at a layer."""
    found = []
    for tap in taps:
        for path, _ in keras.tree.flatten_with_path(features[tap.text]):
            output = str(path[0]) if path else None
            if tap.key is not None:
                output = tap.key
            found.append(output if tap.is_of_output else None)
    return found


def common_output(pairs):
    """The outputs of all pairs, if they are the same; else an empty list."""
    first, *others = [pair.outputs for pair in pairs]
    return first if all(each == first for each in others) else []


def of_positions(labels):
    """Whether there is a label for each token or pixel, not each sample."""
    shape = tuple(getattr(labels, "shape", ()))
    return len(shape) > 2 or (len(shape) == 2 and shape[-1] != 1)


def without_ignored(sample_weight, labels, ignored):
    """The weights, set to 0 where the label is the ignored one."""
    labels = ops.convert_to_tensor(labels)
    kept = ops.cast(labels != ops.cast(ignored, labels.dtype), "float32")
    if len(kept.shape) > 1 and kept.shape[-1] == 1:
        kept = ops.squeeze(kept, axis=-1)
    if sample_weight is None:
        return kept
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    rank = max(len(weight.shape), len(kept.shape))
    return expand_to(weight, rank) * expand_to(kept, rank)


def find_mask(loss, pair, inputs, name, transfer):
    """The mask of a pair's positions, or None.

    Args:
        loss: the loss that compares the pair.
        pair: a `FeaturePair`.
        inputs: the batch's inputs.
        name: the key of the input that is the mask; None to look for
            KerasHub's, False for none.
        transfer: the transfer's name, for the error.
    """
    loss = positions_of(loss)
    given = [pair.student, pair.given_student]
    if getattr(loss, "same_tokens", True):
        given += [pair.teacher, pair.given_teacher]
    masks = [get_keras_mask(features) for features in given]
    mask = first_fitting(loss, masks, pair.student)
    if mask is not None or name is False:
        return mask
    known = inputs if isinstance(inputs, dict) else {}
    if name is None:
        return first_fitting(loss, [known.get(PADDING_MASK)], pair.student)
    if name not in known:
        raise ValueError(
            f"Transfer {transfer!r} takes its mask from an input. Received: "
            f"mask={name!r}, and inputs with the keys {list(known)}. Set "
            "`mask` to the key of an input that is 1 at positions that count "
            "and 0 at padding."
        )
    return known[name]
