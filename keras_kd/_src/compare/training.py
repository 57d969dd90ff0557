"""A training run: it ends when its budget is spent, and is timed."""

import shutil
import sys
import time
from typing import NamedTuple

import keras

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number

NEVER = 10**9  # Epochs: the budget in steps or seconds ends the run earlier.
REDRAW = 0.2  # Seconds between two updates of the progress line.


class Budget(NamedTuple):
    """For how long each student is trained: an amount of one unit."""

    unit: str
    amount: float

    def epochs(self):
        """How many epochs `fit` is given."""
        return int(self.amount) if self.unit == "epochs" else NEVER

    def __str__(self):
        unit = self.unit[:-1] if self.amount == 1 else self.unit
        return f"{self.amount:g} {unit}"


def checked_budget(epochs, steps, seconds):
    """The one budget that is given; else a `ValueError`."""
    given = {"epochs": epochs, "steps": steps, "seconds": seconds}
    given = {name: n for name, n in given.items() if n is not None}
    if len(given) != 1:
        raise ValueError(
            "Each student gets the same budget: one of `epochs`, `steps` and "
            f"`seconds`. Received: {given or 'none of them'}."
        )
    (name, amount), *_ = given.items()
    if name == "seconds":
        return Budget(name, number(amount, name, above=0.0))
    return Budget(name, integer(amount, name))


class Run(keras.callbacks.Callback):
    """Ends a run when its budget is spent, and measures its time.

    Steps that may compile are timed apart: the first step, and the last one of
    the first epoch, which may have another size. Validation isn't counted.
    """

    def __init__(self, budget, show):
        super().__init__()
        self.budget, self.show = budget, show
        self.steps = self.timed_steps = self.epoch = self.before = 0
        self.seconds = self.cpu_seconds = self.compile_seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.before = epoch, self.steps
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        earlier = self.steps
        self.steps = self.before + batch + 1
        self.last = [*self._look(), self.steps - earlier]
        if earlier:
            self._count(1)
        else:
            self.compile_seconds += self.last[0]
        done = {"steps": self.steps, "seconds": self.seconds}
        if done.get(self.budget.unit, 0) >= self.budget.amount:
            self.model.stop_training = True
        self.show(self._share(batch), self.seconds, logs)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0 and self.timed_steps and not self.model.stop_training:
            self._count(-1)
            self.compile_seconds += self.last[0]

    def _count(self, sign):
        """Adds the last step to the counts, or removes it again."""
        seconds, cpu_seconds, steps = self.last
        self.seconds += sign * seconds
        self.cpu_seconds += sign * cpu_seconds
        self.timed_steps += sign * steps

    def _look(self):
        """Seconds since the last call, by the clock and of all CPUs."""
        now = time.perf_counter(), time.process_time()
        passed = [b - a for a, b in zip(getattr(self, "_then", now), now)]
        self._then = now
        return passed

    def _share(self, batch):
        """How much of the run is done, from 0 to 1."""
        if self.budget.unit == "steps":
            return self.steps / self.budget.amount
        if self.budget.unit == "seconds":
            return self.seconds / self.budget.amount
        batches = self.params.get("steps") or batch + 1
        return (self.epoch + (batch + 1) / batches) / self.params["epochs"]


class TimeLeft:
    """Estimates the seconds of training left, from the runs made so far.

    A way that was not trained yet counts as the mean of the others.

    Example:
    >>> left = TimeLeft(["slow", "fast"], seeds=2)
    >>> left("slow", seconds=0.5, share=0.25)  # Four runs of 2 s.
    7.5
    >>> left.finished("slow", 2.0)
    >>> left.finished("fast", 1.0)
    >>> left()
    3.0
    """

    def __init__(self, ways, seeds):
        self.runs = dict.fromkeys(ways, seeds)  # Runs that are left, by way.
        self.seconds = {}  # Seconds of each way's last run.

    def finished(self, way, seconds):
        """Counts a finished run."""
        self.runs[way] -= 1
        self.seconds[way] = seconds

    def __call__(self, way=None, seconds=0.0, share=0.0):
        """The seconds left, when a share of a run of this way is done."""
        known = dict(self.seconds)
        if seconds:
            known[way] = seconds / share
        if not any(known.values()):
            return None
        usual = sum(known.values()) / len(known)
        runs = self.runs.items()
        return sum(n * known.get(way, usual) for way, n in runs) - seconds


class Progress:
    """Prints what is trained and why, the progress, and the metric so far."""

    def __init__(self, ways, seeds, verbose, stream=None):
        self.runs, self.verbose = len(ways) * seeds, verbose
        self.stream = stream or sys.stdout
        self.left = TimeLeft(ways, seeds)
        self.done, self._drawn, self._width = 0, 0.0, 0
        self._described = set()

    def begin(self, way, description):
        """Prints a way's description, once."""
        if self.verbose and description and way not in self._described:
            self._described.add(way)
            self._write(f"{way}: {description}")

    def of(self, way, seed):
        """The function with which a `Run` shows its progress."""

        def show(share, seconds, logs):
            now = time.perf_counter()
            if self._live() and now - self._drawn > REDRAW:
                self._drawn = now
                left = self.left(way, seconds, share)
                text = _so_far(logs) + _time_left(left)
                self._draw(self._line(way, seed, share, text))

        return show

    def finish(self, way, seed, text, seconds):
        """Shows a finished run."""
        self.done += 1
        self.left.finished(way, seconds)
        if not self.verbose:
            return
        if self._live():
            self._draw("")
            self.stream.write("\r")
        left = _time_left(self.left()) if self.done < self.runs else ""
        self._write(f"{self.done}/{self.runs} {way}, seed {seed}: {text}{left}")
        self._width = 0

    def _live(self):
        """Whether a line can be redrawn, as on a terminal."""
        return self.verbose and self.stream.isatty()

    def _line(self, way, seed, share, text):
        bar = "=" * round(10 * min(share, 1.0))
        place = f"{self.done + 1}/{self.runs}"
        return f"{place} {way}, seed {seed} [{bar:10}] {text}"

    def _draw(self, line):
        line = line[: shutil.get_terminal_size().columns - 1]
        self.stream.write("\r" + line.ljust(self._width))
        self.stream.flush()
        self._width = len(line)

    def _write(self, line):
        self.stream.write(f"{line}\n")
        self.stream.flush()


def _so_far(logs):
    """The first metric of a step's logs, or the loss."""
    names = [name for name in logs if not name.endswith(("loss", "losses"))]
    name = names[0] if names else "loss"
    return f"{name} {float(logs[name]):.4f}"


def _time_left(seconds):
    if seconds is None:
        return ""
    if seconds < 100:
        return f", {max(seconds, 0.0):.0f} s left"
    return f", {seconds / 60:.0f} min left"
