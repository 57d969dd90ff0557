"""Weighs the choices of a plan, by what a part of the data shows."""

import numpy as np

from keras_kd._src.cache.planning.choices import Choice
from keras_kd._src.cache.planning.choices import encodings_of
from keras_kd._src.cache.planning.choices import is_output
from keras_kd._src.cache.planning.choices import pays_from
from keras_kd._src.cache.planning.trials import divergences
from keras_kd._src.cache.planning.trials import like_probabilities
from keras_kd._src.cache.planning.trials import tried
from keras_kd._src.cache.planning.units import bytes_text
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import record_type

KEY_BYTES = record_type([]).fields[SAMPLE_INDEX][0].itemsize
OWN = "yours"


def weighed(probed, own, samples, views, temperature, batch_size):
    """The choices, each with its bytes, times and divergence.

    Args:
        probed: a `Probe`.
        own: the user's dict, tap text -> encoding, or None.
        samples: how many samples the data has.
        views: how many views of each are stored.
        temperature: T of top-k and of the divergences.
        batch_size: of a batch that is read.

    Returns:
        `(choices, notes)`: list of `Choice`, the live teacher first, and
        sentences on what is not among them.

    Example:
    >>> from keras_kd._src.cache.planning.probing import Probe
    >>> probed = Probe({"": np.zeros((8, 3), "float32")}, 1e-4, 8, 8)
    >>> choices, notes = weighed(probed, None, 100, 1, 4.0, batch_size=4)
    >>> [(choice.name, choice.total_bytes) for choice in choices[:2]]
    [('live', 0), ('float16', 1400)]
    """
    sure = _probabilities(probed.views)
    weighing = _Weighing(probed, samples, views, temperature, batch_size, sure)
    shapes = {tap: view.shape[1:] for tap, view in probed.views.items()}
    notes = (
        []
        if not sure
        else [
            "The teacher answers probabilities: nats are from their logs, and "
            "top-k, which is of logits, is left out."
        ]
    )
    if weighing.index_bytes:
        notes.append(
            "Samples do not come in the order of their ids: an index of "
            f"{bytes_text(weighing.index_bytes)} is counted in."
        )
    choices = [weighing.live()]
    for name, encodings in encodings_of(shapes, temperature, sure).items():
        try:
            choices.append(weighing.stored(name, encodings))
        except ValueError as error:
            notes.append(f"{name} is left out: {error}")
    if own is not None:
        choices.append(weighing.stored(OWN, own))
    return choices, notes


def _probabilities(views):
    """Taps at which a model's output is probabilities."""
    return [
        tap
        for tap, view in views.items()
        if _has_classes(tap, view) and like_probabilities(view)
    ]


def _has_classes(tap, view):
    return is_output(tap) and view.ndim > 1 and view.shape[-1] > 1


class _Weighing:
    """What was measured, and how much of it the data makes."""

    def __init__(
        self, probed, samples, views, temperature, batch_size, probabilities
    ):
        self.probed = probed
        self.samples = samples
        self.views = views
        self.temperature = temperature
        self.batch_size = batch_size
        self.probabilities = probabilities
        self.trials = {}
        self.index_bytes = round(samples * views * probed.index_bytes)

    def live(self):
        classes = any(_has_classes(*each) for each in self.probed.views.items())
        exact = 0.0 if classes else None
        seconds = self.samples * self.probed.seconds
        return Choice("live", {}, 0, 0, 0.0, seconds, None, exact, exact)

    def stored(self, name, encodings):
        trials = {tap: self._trial(tap, e) for tap, e in encodings.items()}
        stored = KEY_BYTES + sum(trial.bytes for trial in trials.values())
        pack = sum(trial.pack_seconds for trial in trials.values())
        read = sum(trial.read_seconds for trial in trials.values())
        records = self.samples * self.views
        live_seconds = self.samples * self.probed.seconds
        write_seconds = records * (self.probed.seconds + pack)
        return Choice(
            name,
            encodings,
            bytes_per_sample=stored,
            total_bytes=records * stored + self.index_bytes,
            write_seconds=write_seconds,
            seconds_per_epoch=self.samples * read,
            pays_from_epoch=pays_from(
                live_seconds, write_seconds, self.samples * read
            ),
            divergence_mean=self._divergence(trials, np.mean),
            divergence_worst=self._divergence(trials, np.max),
        )

    def _trial(self, tap, encoding):
        # Several choices have one in common.
        key = repr((tap, encoding.kind, encoding.get_config()))
        if key not in self.trials:
            view = self.probed.views[tap]
            self.trials[key] = tried(tap, encoding, view, self.batch_size)
        return self.trials[key]

    def _divergence(self, trials, over_samples):
        """Of several outputs that of the one that is furthest off."""
        found = [
            over_samples(
                divergences(
                    self.probed.views[tap],
                    trial.restored,
                    self.temperature,
                    probabilities=tap in self.probabilities,
                )
            )
            for tap, trial in trials.items()
            if _has_classes(tap, self.probed.views[tap])
        ]
        return float(max(found)) if found else None
