"""Choices: ways to store predictions, with their bytes and accuracy."""

import dataclasses

import numpy as np
from keras import ops

from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.encodings import Int8
from keras_kd._src.cache.encodings import TopK
from keras_kd._src.cache.encodings import round_trip
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.losses.probabilities import like_probabilities

DENSE = "float16", "bfloat16", "float32"  # The first close enough is chosen.
MOST_KEPT = 2, 4, 8, 32, 128, 512  # Values of k; the largest three that fit.
KEY_BYTES = 8  # Each stored prediction holds its sample index.
OWN = "yours"  # The name of the user's own choice.


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to provide the teacher's predictions, and what it costs.

    Made by `keras_kd.cache.plan`.

    Args:
        name: `"live"`, or how the predictions are stored.
        encodings: dict, tap text -> encoding; empty for the live teacher.
        bytes_per_sample: bytes of one augmented view of one sample, with its
            sample index.
        total_bytes: bytes of all augmented views of all samples; where they do
            not come in the order of their sample indices, with an index.
        divergence_mean: KL divergence of the stored soft targets from the full
            ones, in nats, at the plan's temperature T (without the factor
            T^2); the mean over the samples. None if no output is stored.
        divergence_worst: the same for the sample with the largest divergence.

    Example:
    >>> import keras, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    >>> plan = kd.cache.plan(teacher, np.ones((64, 8)), epochs=9, verbose=0)
    >>> live, float16, *others = plan.choices
    >>> float16.name, float16.bytes_per_sample, float16.total_bytes
    ('float16', 28, 1792)
    """

    name: str
    encodings: dict
    bytes_per_sample: int
    total_bytes: int
    divergence_mean: float | None
    divergence_worst: float | None

    @property
    def keeps_top_k(self):
        """Whether the less likely classes are stored as one value."""
        return any(isinstance(e, TopK) for e in self.encodings.values())


def choices_for(measured, own, records, temperature):
    """`(choices, notes)`: the live teacher first; notes on what is left out."""
    # `own` is the user's dict, tap text -> encoding, or None; `records` is how
    # many predictions are stored.
    trials = _Trials(measured.outputs, temperature)
    index_bytes = round(records * measured.index_bytes)
    notes = []
    if trials.probabilities:
        notes.append(
            "The teacher predicts probabilities: nats are from their logs, and "
            "top-k, which is of logits, is left out."
        )
    if index_bytes:
        notes.append(
            "Samples do not come in the order of their indices: an index of "
            f"{index_bytes:,} B is counted in."
        )
    exact = 0.0 if trials.scores else None
    choices = [Choice("live", {}, 0, 0, exact, exact)]
    for name, encodings in trials.candidates(own).items():
        try:
            stored, mean, worst = trials.tried(encodings)
        except ValueError as error:
            if name == OWN:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        total = records * stored + index_bytes
        choices.append(Choice(name, encodings, stored, total, mean, worst))
    return choices, notes


class _Trials:
    """Encodings tried on some of the teacher's predictions, in memory."""

    def __init__(self, outputs, temperature):
        self.outputs, self.temperature = outputs, temperature
        self.scores = [
            tap
            for tap, values in outputs.items()
            if _is_output(tap) and values.ndim > 1 and values.shape[-1] > 1
        ]
        self.probabilities = [
            tap
            for tap in self.scores
            if ops.all(like_probabilities(ops.convert_to_tensor(outputs[tap])))
        ]
        self._found = {}

    def candidates(self, own):
        """The encodings to try: `name -> {tap text: encoding}`."""
        shapes = {tap: each.shape[1:] for tap, each in self.outputs.items()}
        outputs = list(filter(_is_output, shapes))
        # A scale for each channel needs features that have channels.
        small = {
            tap: Int8() if shape else Dense("float16")
            for tap, shape in shapes.items()
            if tap not in outputs
        }
        found = {dtype: dict.fromkeys(shapes, Dense(dtype)) for dtype in DENSE}
        if small:
            name = "float16 + int8" if outputs else "int8"
            found[name] = {**found["float16"], **small}
        kept = [] if self.probabilities else _kept([shapes[t] for t in outputs])
        for k in kept:
            name = f"top-{k} + int8" if small else f"top-{k}"
            top_k = dict.fromkeys(outputs, TopK(k, self.temperature))
            found[name] = {tap: {**top_k, **small}[tap] for tap in shapes}
        return found if own is None else {**found, OWN: own}

    def tried(self, encodings):
        """Bytes of a prediction, and its divergence: the mean and the worst."""
        stored = KEY_BYTES + sum(
            encoding.bytes_per_sample(self.outputs[tap].shape[1:])
            for tap, encoding in encodings.items()
        )
        found = [self._divergences(*each) for each in encodings.items()]
        found = [each for each in found if each is not None]
        if not found:
            return stored, None, None
        # With several outputs, the largest divergence counts.
        mean = max(float(np.mean(each)) for each in found)
        return stored, mean, max(float(np.max(each)) for each in found)

    def _divergences(self, tap, encoding):
        """Divergence of each sample's soft targets; None for features."""
        # Several choices share an encoding.
        key = repr((tap, encoding.kind, encoding.get_config()))
        if key not in self._found:
            full = self.outputs[tap]
            restored = round_trip(encoding, full)
            self._found[key] = (
                divergences(
                    full, restored, self.temperature, tap in self.probabilities
                )
                if tap in self.scores
                else None
            )
        return self._found[key]


def _is_output(tap):
    """Whether a tap is the model's output, or one entry of it."""
    return not Tap(tap).path


def _kept(shapes):
    """Values of k that take less than float16 of all classes."""
    if not shapes or not all(shapes):
        return []
    shape = min(shapes, key=lambda shape: shape[-1])
    dense = Dense("float16").bytes_per_sample(shape)
    return [
        k
        for k in MOST_KEPT
        if k < shape[-1] and TopK(k).bytes_per_sample(shape) < dense
    ][-3:]


def divergences(full, restored, temperature, probabilities):
    """KL divergence of restored soft targets from the full ones, in nats."""
    # p = softmax(full / T);  q = softmax(restored / T)
    # value = sum_classes p * (log p - log q), not times T^2
    log_p, log_q = (
        _log_softmax(np.asarray(scores, "float64"), temperature, probabilities)
        for scores in (full, restored)
    )
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def _log_softmax(scores, temperature, probabilities):
    if probabilities:
        scores = np.log(np.maximum(scores, 1e-30))
    scores = scores / temperature
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
