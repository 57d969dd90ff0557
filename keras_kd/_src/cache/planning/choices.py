"""The choices that a plan weighs: what there is, what it costs, what fits."""

import dataclasses
import math

from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.encodings import Int8
from keras_kd._src.cache.encodings import TopK
from keras_kd._src.distillation.taps import Tap

DENSE = "float16", "bfloat16", "float32"  # The first that is close enough.
MOST_KEPT = 2, 4, 8, 32, 128, 512  # Values of k; the largest three that suit.
LOSS_LIMIT = 0.05  # nats times T^2, as the loss counts them
MEMORY_SHARE, DISK_SHARE = 4, 2  # A quarter of one, half of the other.


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to have the teacher's answers, and what it costs.

    Args:
        name: `"live"`, or how the answers are stored.
        encodings: dict, tap text -> encoding; empty for the live teacher.
        bytes_per_sample: of one view of one sample, its id included.
        total_bytes: of all views of all samples, and of an index to them
            where they do not come in the order of their ids.
        write_seconds: to ask the teacher and to store what it says.
        seconds_per_epoch: to have all answers once, live or read.
        pays_from_epoch: the first epoch at whose end it has taken less time
            than the live teacher; None for never.
        divergence_mean: of the soft targets from the full ones, in nats, at
            the plan's temperature and not times its square; the mean over
            the samples. None if no output is stored.
        divergence_worst: the same of the worst sample.

    Example:
    >>> live = Choice("live", {}, 0, 0, 0.0, 12.5, None, 0.0, 0.0)
    >>> live.seconds_per_epoch
    12.5
    """

    name: str
    encodings: dict
    bytes_per_sample: int
    total_bytes: int
    write_seconds: float
    seconds_per_epoch: float
    pays_from_epoch: int | None
    divergence_mean: float | None
    divergence_worst: float | None

    @property
    def keeps_top_k(self):
        """Whether less likely classes are joined in one."""
        return any(isinstance(e, TopK) for e in self.encodings.values())

    def pays_within(self, epochs):
        """Whether it has paid off by the end of so many epochs."""
        pays = self.pays_from_epoch
        return pays is not None and pays <= epochs

    def within(self, limit):
        """Whether its soft targets are so many nats from the full ones."""
        mean = self.divergence_mean
        return mean is None or mean <= limit


def divergence_limit(temperature):
    """What is close enough to the full soft targets, in nats of the mean.

        limit = 0.05 / T^2

    The loss of soft targets has a factor T^2: it is off by 0.05 at most. In
    Hinton's experiment on MNIST eight classes of ten, off by 0.005 at T = 4,
    made as good a student; at T = 20, off by 0.08, they did not.

    Example:
    >>> divergence_limit(1.0), divergence_limit(4.0)
    (0.05, 0.003125)
    """
    return LOSS_LIMIT / temperature**2


def pays_from(live_seconds, write_seconds, read_seconds):
    """The first epoch at whose end a cache has taken less time; or None.

        live(e) = e * live_seconds
        cached(e) = write_seconds + e * read_seconds
        the smallest whole e with live(e) > cached(e)

    Args:
        live_seconds: of the teacher in one epoch.
        write_seconds: to write the cache.
        read_seconds: of reading it in one epoch.

    Returns:
        A whole number, or None if reading takes as long as asking.

    Example:
    >>> pays_from(10.0, 10.0, 0.1), pays_from(1.0, 1.0, 2.0)
    (2, None)
    """
    saved = live_seconds - read_seconds
    return math.floor(write_seconds / saved) + 1 if saved > 0 else None


def encodings_of(shapes, temperature, probabilities=False):
    """The ways to store views that are worth a look, by name.

    Args:
        shapes: dict, tap text -> shape of a sample's view.
        temperature: T, at which top-k keeps the left-over mass.
        probabilities: whether the output is none of logits: no top-k then.

    Returns:
        Dict, name -> dict of tap text -> encoding.

    Example:
    >>> list(encodings_of({"": (1000,)}, temperature=4.0))[2:]
    ['float32', 'top-8', 'top-32', 'top-128']
    """
    outputs = [tap for tap in shapes if is_output(tap)]
    features = [tap for tap in shapes if not is_output(tap)]
    found = {dtype: dict.fromkeys(shapes, Dense(dtype)) for dtype in DENSE}
    small = {tap: _small(shapes[tap]) for tap in features}
    if features:
        name = "float16 + int8" if outputs else "int8"
        found[name] = {**found["float16"], **small}
    for k in [] if probabilities else _kept([shapes[tap] for tap in outputs]):
        top_k = dict.fromkeys(outputs, TopK(k, temperature))
        name = f"top-{k} + int8" if features else f"top-{k}"
        found[name] = {tap: {**top_k, **small}[tap] for tap in shapes}
    return found


def is_output(tap):
    """Whether a tap is the model's output, or one entry of it.

    Example:
    >>> is_output(""), is_output("[logits]"), is_output("stage3")
    (True, True, False)
    """
    return not Tap(tap).path


def _small(shape):
    # A scale for each channel takes a view that has channels.
    return Int8() if shape else Dense("float16")


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


def recommended(choices, epochs, temperature, free_memory, free_disk):
    """The choice to take, and where to have it.

    Of those that pay off in time, are close enough to the full answers and
    take half of the free disk at most: the first that keeps all classes, or
    else the smallest k.

    Args:
        choices: list of `Choice`; `"live"` is the first.
        epochs: of the training to come.
        temperature: T of the divergences.
        free_memory: bytes.
        free_disk: bytes.

    Returns:
        `(how, choice)`; how is `"live"`, `"memory"`, `"disk"` or `"top-k"`.

    Example:
    >>> live = Choice("live", {}, 0, 0, 0.0, 9.0, None, 0.0, 0.0)
    >>> stored = Choice("float16", {}, 28, 280, 9.1, 0.1, 2, 0.0, 0.0)
    >>> recommended([live, stored], 30, 4.0, 10_000, 10_000)[0]
    'memory'
    """
    live, *stored = choices
    limit = divergence_limit(temperature)
    fitting = [
        choice
        for choice in stored
        if choice.pays_within(epochs)
        and choice.within(limit)
        and choice.total_bytes * DISK_SHARE <= free_disk
    ]
    for choice in fitting:
        if not choice.keeps_top_k:
            fits = choice.total_bytes * MEMORY_SHARE <= free_memory
            return ("memory" if fits else "disk"), choice
    # These go up in k.
    return ("top-k", fitting[0]) if fitting else ("live", live)
