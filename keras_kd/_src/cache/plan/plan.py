"""plan: estimates what caching costs, and recommends how to store."""

import dataclasses
import os

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import received
from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.data.batches import check_list
from keras_kd._src.cache.data.batches import texts_as_array
from keras_kd._src.cache.plan.choices import OWN
from keras_kd._src.cache.plan.choices import choices_for
from keras_kd._src.cache.plan.measuring import free_disk
from keras_kd._src.cache.plan.measuring import free_memory
from keras_kd._src.cache.plan.measuring import measured
from keras_kd._src.cache.remote import local_path
from keras_kd._src.cache.writer import encodings_by_tap
from keras_kd._src.distillation.taps import listed
from keras_kd._src.distillation.teacher import as_teacher

LOSS_LIMIT = 0.05  # Nats times T^2, as in the loss.
MEMORY_SHARE, DISK_SHARE = 4, 2  # A quarter of the memory, half of the disk.
ROWS = 6  # Lines that are printed.


def plan(
    teacher,
    dataset,
    *,
    epochs,
    outputs=None,
    views=1,
    temperature=4.0,
    path=".",
    samples=None,
    batch_size=256,
    probe_samples=1024,
    verbose=1,
):
    """Estimates what a cache would cost, and recommends how to store it.

    Call it before the teacher runs on all of the data. It reports how many
    bytes each way to store the predictions takes, how far the stored soft
    targets are from the full ones, how long writing takes, and the break-even
    epoch, from which a cache is faster than running the teacher in each epoch.
    Nothing is written.

    For n samples with K augmented views each, and t seconds that the teacher
    takes for a sample, measured on a part of the data:

        live(e) = e * n * t
        cached(e) = K * n * t
        pays from: the smallest e with live(e) > cached(e), so K + 1

    t includes copying the predictions from the device. The time of the disk, of
    reading, and of the student's own step is not counted: if the teacher is
    about as fast as those, a cache is not worth it.

    It recommends, in this order:

        "memory"  all classes are kept, in a quarter of the free memory at most
        "disk"    all classes are kept
        "top-k"   the smallest k that is close enough
        "live"    no cache: none fits, or pays off within the epochs

    The first three are written to disk, and take half of its free space at
    most.

    "Close enough" is a mean KL divergence of 0.05 / T^2 nats from the full soft
    targets (0.05 in the loss, which has a factor T^2). float16 comes first;
    bfloat16 or float32 if the teacher's values don't fit into it. At a high
    temperature much of the dark knowledge is in unlikely classes, and possibly
    no k is close enough. For features in int8 no divergence is measured. (In
    Hinton's experiment on MNIST, the top 8 of 10 classes gave as good a student
    at T = 4, with 0.005 nats, and a worse one at T = 20, with 0.08 nats.)

    For a language model it also reports the bytes and time of 1 M and 1 G
    tokens. Padded tokens count, as they are stored.

    With random augmentation a cache of the clean samples is wrong, however
    small it is: the student would get the predictions for another image. Give
    `keras_kd.cache.AugmentedViews`, whose predictions are stored instead.

    Args:
        teacher: as in `keras_kd.cache.write`.
        dataset: as in `keras_kd.cache.write`. With arrays and
            `AugmentedViews`, samples spread over the data are measured; with
            batches, the first ones (which are used up if it is a generator).
            The teacher runs twice on the first batch.
        epochs: integer, epochs of the training to come.
        outputs: tap text or a list of them, where `""` is the model's output,
            the default. Or what `keras_kd.cache.write` takes, which is then
            listed as the choice `"yours"`.
        views: integer, how many augmented views of each sample will be stored;
            not needed for `AugmentedViews`.
        temperature: T of the training to come, for top-k and the divergences.
        path: the local folder that would hold the cache; the free space on its
            disk counts.
        samples: integer, how many samples (not augmented views) there are;
            needed for batches, and where `dataset` is only a part of the data.
        batch_size: integer, size of the batches that the teacher runs on.
        probe_samples: integer, how many samples to measure on; fewer if their
            predictions take more than 128 MB.
        verbose: 1 prints the plan, 0 doesn't.

    Returns:
        A `keras_kd.cache.Plan`.

    Raises:
        ValueError: an argument is out of range; a tap does not exist; the
            teacher needs labels that are not given; a sample occurs twice; the
            number of samples is not known.

    Example:
    >>> import keras, numpy as np
    >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    >>> found = plan(teacher, np.ones((64, 8)), epochs=30, verbose=0)
    >>> for choice in found.choices[1:]:
    ...     print(choice.name, choice.bytes_per_sample)
    float16 28
    bfloat16 28
    float32 48
    top-2 16
    top-4 22

    Reference: Hinton et al., 2015, "Distilling the Knowledge in a Neural
    Network", arXiv 1503.02531, for the loss that the limit refers to.
    """
    teacher = as_teacher(teacher)
    dataset = texts_as_array(dataset)
    check_list(dataset, teacher)
    local_path(path)  # Refuses a url.
    epochs = integer(epochs, "epochs")
    views = integer(views, "views")
    temperature = number(temperature, "temperature", above=0)
    taps, own = _taps_of(outputs)
    if isinstance(dataset, AugmentedViews):
        views = dataset.count
    found = measured(
        teacher,
        dataset,
        taps,
        integer(batch_size, "batch_size"),
        integer(probe_samples, "probe_samples"),
        views,
    )
    samples = _number_of(found.samples if samples is None else samples, dataset)
    choices, notes = choices_for(found, own, samples * views, temperature)
    made = Plan(
        choices=choices,
        samples=samples,
        views=views,
        epochs=epochs,
        temperature=temperature,
        probed=found.probed,
        seconds_per_epoch=samples * found.seconds,
        batch_size=batch_size,
        free_memory=free_memory(),
        free_disk=free_disk(path),
        path=str(path),
        notes=notes,
        tokens_per_sample=_tokens_of(found.outputs),
    )
    if verbose:
        print(made)
    return made


def _taps_of(outputs):
    """The taps that are stored, and the encodings if the user has chosen."""
    if isinstance(outputs, dict) or hasattr(outputs, "bytes_per_sample"):
        own = encodings_by_tap(outputs)
        return list(own), own
    texts = listed(outputs)
    if not texts:
        raise ValueError(
            "Argument `outputs` must name what is stored of the teacher, such "
            f'as "" (its output) or "stage3". {received("outputs", outputs)}'
        )
    return [text or "" for text in texts], None


def _tokens_of(outputs):
    """Tokens per sample if the output is a language model's, else None."""
    shapes = [value.shape for tap, value in outputs.items() if tap == ""]
    return shapes[0][1] if shapes and len(shapes[0]) == 3 else None


def _number_of(samples, dataset):
    if samples is None:
        raise ValueError(
            "How many samples there are decides what a cache takes, and "
            "batches do not show it. Received: samples=None, and a dataset of "
            f"type {type(dataset).__name__}. Pass their number as `samples`."
        )
    return integer(samples, "samples")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What each way to cache predictions costs, with a recommendation.

    Made by `keras_kd.cache.plan`, which prints it in six lines.

    Args:
        choices: list of `Choice`, the live teacher first.
        samples: how many samples the data has.
        views: how many augmented views each sample has.
        epochs: epochs of the training to come.
        temperature: T of the divergences.
        probed: how many samples this was measured on.
        seconds_per_epoch: seconds that the live teacher takes for all samples.
        batch_size: size of the batches that the teacher ran on.
        free_memory: bytes; 0 where it isn't known.
        free_disk: bytes.
        path: the folder on that disk.
        notes: list of sentences on what is not among the choices, and why.
        tokens_per_sample: tokens of a language model's sample, with padded
            ones, which are stored as well; None for other outputs.

    Example:
    >>> import keras, numpy as np, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    >>> found = kd.cache.plan(teacher, np.ones((64, 8)), epochs=1, verbose=0)
    >>> found.recommended, found.pays_from_epoch, found.call
    ('live', 2, 'kd.Distiller(teacher, student)')
    """

    choices: list
    samples: int
    views: int
    epochs: int
    temperature: float
    probed: int
    seconds_per_epoch: float
    batch_size: int
    free_memory: int
    free_disk: int
    path: str
    notes: list
    tokens_per_sample: int | None = None

    @property
    def write_seconds(self):
        """Seconds the teacher takes for all augmented views of all samples."""
        return self.views * self.seconds_per_epoch

    def of_tokens(self, tokens, choice):
        """What a language model's cache of some number of tokens costs.

        Args:
            tokens: number of tokens, with padded ones, such as 1e9.
            choice: one of `choices`.

        Returns:
            `(bytes, seconds)`: the cache's size, and the time to write it.
        """
        samples = tokens / self.tokens_per_sample
        seconds = self.write_seconds / self.samples
        stored = choice.bytes_per_sample * self.views
        return samples * stored, samples * seconds

    @property
    def pays_from_epoch(self):
        """The break-even epoch: from its end on, a cache takes less time."""
        return self.views + 1

    @property
    def divergence_limit(self):
        """The largest mean KL divergence that is close enough, in nats."""
        return LOSS_LIMIT / self.temperature**2

    @property
    def choice(self):
        """The recommended `Choice`."""
        live, *stored = self.choices
        # The first that keeps all classes, or else the smallest k.
        fitting = sorted(
            filter(self._fits, stored), key=lambda choice: choice.keeps_top_k
        )
        return fitting[0] if fitting else live

    def _fits(self, choice):
        close = (choice.divergence_mean or 0.0) <= self.divergence_limit
        small = choice.total_bytes * DISK_SHARE <= self.free_disk
        return close and small and self.pays_from_epoch <= self.epochs

    @property
    def recommended(self):
        """The recommendation: `"live"`, `"memory"`, `"disk"` or `"top-k"`."""
        if not self.choice.encodings:
            return "live"
        if self.choice.keeps_top_k:
            return "top-k"
        needed = self.choice.total_bytes * MEMORY_SHARE
        return "memory" if needed <= self.free_memory else "disk"

    @property
    def call(self):
        """The recommended choice as a line of Python to run."""
        if self.recommended == "live":
            return "kd.Distiller(teacher, student)"
        folder = os.path.normpath(f"{self.path}/predictions")
        return (
            f"kd.cache.write(teacher, dataset, {folder!r}, "
            f"outputs={_source(self.choice.encodings)}, "
            f"batch_size={self.batch_size})"
        )

    def __str__(self):
        rows = [
            f"Recommended: {self.recommended} ({self._reason()}).",
            f"Run: {self.call}",
            self._measured(),
        ]
        notes = [" ".join(self.notes)] if self.notes else []
        # Types that only keep more digits come last.
        shown = sorted(
            (choice for choice in self.choices if choice.encodings),
            key=lambda choice: (
                choice is not self.choice,
                choice.name != OWN,
                choice.name in ("bfloat16", "float32"),
            ),
        )
        room = ROWS - len(rows) - len(notes)
        return "\n".join([*rows, *map(self._row, shown[:room]), *notes])

    def _row(self, choice):
        row = _row(choice)
        if self.tokens_per_sample is None:
            return row
        each, million, billion = (
            self.of_tokens(tokens, choice)[0] for tokens in (1, 1e6, 1e9)
        )
        return (
            f"{row}; {each:,.4g} B a token, {_bytes(million)} for 1 M, "
            f"{_bytes(billion)} for 1 G"
        )

    def _reason(self):
        memory, disk = _bytes(self.free_memory), _bytes(self.free_disk)
        if self.recommended == "live":
            if self.epochs < self.pays_from_epoch:
                return f"no other pays off by epoch {self.epochs:,}"
            return (
                "of the others, none is close enough and takes half of the "
                f"free disk, {disk}, at most"
            )
        reason = {
            "memory": f"a quarter of the free memory, {memory}, at most; open "
            "it with memory=True",
            "disk": f"half of the free disk, {disk}, at most",
            "top-k": "the smallest k that is close enough",
        }[self.recommended]
        size = _bytes(self.choice.total_bytes)
        return f"{self.choice.name}, {size}: {reason}"

    def _measured(self):
        what = "samples" if self.views == 1 else "augmented views"
        return (
            f"Measured on {self.probed:,} of {self.samples * self.views:,} "
            f"{what}: the live teacher takes {_time(self.seconds_per_epoch)} "
            f"an epoch, a cache {_time(self.write_seconds)} to write, so it "
            f"pays from epoch {self.pays_from_epoch:,}. Nats from the full "
            f"soft targets at temperature {self.temperature:g}: a mean of "
            f"{self.divergence_limit:.2g} is close enough.{self._of_tokens()}"
        )

    def _of_tokens(self):
        if self.tokens_per_sample is None:
            return ""
        million, billion = (
            _time(self.of_tokens(tokens, self.choice)[1])
            for tokens in (1e6, 1e9)
        )
        return (
            f" A sample has {self.tokens_per_sample:,} tokens, padding "
            f"included: 1 M tokens take {million} to write, 1 G {billion}."
        )


def _row(choice):
    sizes = f"{choice.bytes_per_sample:,} B a sample"
    row = f"{choice.name}: {sizes}, {_bytes(choice.total_bytes)} in all"
    if choice.divergence_mean is None:
        return row
    mean, worst = choice.divergence_mean, choice.divergence_worst
    return f"{row}; {mean:.2g} nats, {worst:.2g} at worst"


def _bytes(count):
    unit, size = ("GB", 1e9) if count >= 1e9 else ("MB", 1e6)
    return f"{count / size:,.4g} {unit}"


def _time(seconds):
    hours = seconds / 3600
    return f"{hours:,.4g} h" if hours >= 1 else f"{seconds:,.4g} s"


def _source(encodings):
    """Encodings as Python source."""
    texts = {tap: _call_of(encoding) for tap, encoding in encodings.items()}
    if list(texts) == [""]:
        return texts[""]
    entries = [f"{tap!r}: {text}" for tap, text in texts.items()]
    return f"{{{', '.join(entries)}}}"


def _call_of(encoding):
    config = encoding.get_config().items()
    settings = ", ".join(f"{name}={value!r}" for name, value in config)
    return f"kd.cache.{type(encoding).__name__}({settings})"
