"""Plan: what each way to have a teacher's answers costs, as a table."""

import dataclasses
import json
import os

from keras_kd._src.cache.planning.choices import Choice
from keras_kd._src.cache.planning.choices import divergence_limit
from keras_kd._src.cache.planning.units import bytes_text
from keras_kd._src.cache.planning.units import seconds_text
from keras_kd._src.cache.planning.units import table_text

HEADER = [
    "choice",
    "a sample",
    "in all",
    "to write",
    "an epoch",
    "pays from",
    "nats",
    "at worst",
]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What each way to have a teacher's answers costs; prints as a table.

    Args:
        choices: list of `Choice`, the live teacher first.
        recommended: `"live"`, `"memory"`, `"disk"` or `"top-k"`.
        choice: the `Choice` that this means.
        samples: how many samples the data has.
        views: how many views of each.
        epochs: of the training to come.
        temperature: T of the divergences.
        probed: on how many samples this was measured.
        batch_size: of the batches that the teacher was asked about.
        free_memory: bytes; 0 where it isn't known.
        free_disk: bytes.
        path: the folder whose disk that is.
        notes: list of sentences on what is not in the table.

    Example:
    >>> live = Choice("live", {}, 0, 0, 0.0, 9.0, None, 0.0, 0.0)
    >>> about = dict(samples=10, views=1, epochs=3, temperature=4.0, probed=8)
    >>> machine = dict(batch_size=2, free_memory=0, free_disk=0, path=".")
    >>> Plan([live], "live", live, **about, **machine, notes=[]).call
    'distiller = kd.Distiller(teacher, student)'
    """

    choices: list
    recommended: str
    choice: Choice
    samples: int
    views: int
    epochs: int
    temperature: float
    probed: int
    batch_size: int
    free_memory: int
    free_disk: int
    path: str
    notes: list

    @property
    def call(self):
        """What to run: the recommended choice, in Python."""
        if self.recommended == "live":
            return "distiller = kd.Distiller(teacher, student)"
        folder = json.dumps(os.path.normpath(f"{self.path}/answers"))
        memory = ", memory=True" if self.recommended == "memory" else ""
        return (
            "kd.cache.write(\n"
            f"    teacher, dataset, {folder}, batch_size={self.batch_size},\n"
            f"    outputs={_source(self.choice.encodings)},\n"
            ")\n"
            f"answers = kd.cache.open({folder}, teacher=teacher{memory})\n"
            "distiller = kd.Distiller(answers, student)"
        )

    def __str__(self):
        call = "\n".join(f"    {line}" for line in self.call.splitlines())
        rows = [_row(choice) for choice in self.choices]
        table = table_text(HEADER, rows)
        return "\n\n".join([self._head(), table, self._advice(), call])

    def _head(self):
        memory = bytes_text(self.free_memory) if self.free_memory else "unknown"
        return (
            f"Samples: {self.samples:,} (measured on {self.probed:,}). "
            f"Views of each: {self.views:,}. Epochs: {self.epochs:,}.\n"
            f"Free memory: {memory}. Free disk: {bytes_text(self.free_disk)}."
        )

    def _advice(self):
        limit = divergence_limit(self.temperature)
        lines = [
            "Nats from the full soft targets at temperature "
            f"{self.temperature:g}: a mean of {limit:.2g} is close enough.",
            *self.notes,
            f"Recommended: {self.recommended} ({self._why()}).",
        ]
        return "\n".join(lines)

    def _why(self):
        if self.recommended == "live":
            return self._why_live()
        size = bytes_text(self.choice.total_bytes)
        reason = {
            "memory": "a quarter of the free memory at most",
            "disk": "half of the free disk at most",
            "top-k": "the smallest k that is close enough",
        }[self.recommended]
        return f"{self.choice.name}, {size}: {reason}"

    def _why_live(self):
        if any(choice.pays_within(self.epochs) for choice in self.choices):
            return (
                "of the others that pay off, none is close enough and takes "
                "half of the free disk at most"
            )
        return f"no other pays off by epoch {self.epochs:,}"


def _row(choice):
    live = not choice.encodings
    pays = choice.pays_from_epoch
    return [
        choice.name,
        "-" if live else bytes_text(choice.bytes_per_sample),
        "-" if live else bytes_text(choice.total_bytes),
        "-" if live else seconds_text(choice.write_seconds),
        seconds_text(choice.seconds_per_epoch),
        "-" if live else "never" if pays is None else f"epoch {pays:,}",
        _nats(choice.divergence_mean),
        _nats(choice.divergence_worst),
    ]


def _nats(value):
    return "-" if value is None else f"{value:.2g}"


def _source(encodings):
    """Encodings as one writes them in Python."""
    texts = {tap: _call_of(encoding) for tap, encoding in encodings.items()}
    if list(texts) == [""]:
        return texts[""]
    entries = [f"{json.dumps(tap)}: {text}" for tap, text in texts.items()]
    return f"{{{', '.join(entries)}}}"


def _call_of(encoding):
    config = encoding.get_config().items()
    settings = [
        f"{name}={json.dumps(value)}" for name, value in config if value
    ]
    return f"kd.cache.{type(encoding).__name__}({', '.join(settings)})"
