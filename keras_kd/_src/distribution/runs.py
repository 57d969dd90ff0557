"""How several processes work together in `fit`, `evaluate` and steps.

With a single process, all of this does nothing.
"""

import contextlib
import functools
import random
import zlib

import keras
import numpy as np
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.backend import random_states
from keras_kd._src.backend import set_random_states
from keras_kd._src.callbacks.callback_group import CallbackGroup
from keras_kd._src.distribution.processes import together
from keras_kd._src.distribution.rows import Rows
from keras_kd._src.distribution.rows import row_count
from keras_kd._src.distribution.rows import shapes_checksum
from keras_kd._src.distribution.rows import values_checksum
from keras_kd._src.distribution.split_data import check_evaluated
from keras_kd._src.distribution.split_data import split_sampler

# What a process may be about to do when it synchronizes with the others.
BEGIN, TRAIN, TEST, END = range(4)
PLACES = (
    "at the beginning of an epoch",
    "at a batch of training",
    "at a batch of evaluation",
    "at the end of its batches",
)
# Distance between the random states of processes, so that they don't meet.
STRIDE = 0x9E3779B1

_runs = []


def current():
    """The run in progress; None if there is a single process."""
    return _runs[-1] if _runs else None


@contextlib.contextmanager
def run(model, teacher, data=None, evaluation=False):
    """Lets the processes train or evaluate together in the `with` block.

    Args:
        model: the distiller.
        teacher: its `Teacher`.
        data: the argument `x` of `fit`.
        evaluation: whether each sample must count exactly once.
    """
    processes = together()
    if processes is None:
        yield
        return
    if model.jit_compile:
        raise ValueError(
            "Several processes train without `torch.compile`. Received: "
            "`compile(jit_compile=True)`. Leave it out."
        )
    sampler = split_sampler(data, processes)
    if evaluation:
        check_evaluated(sampler)
    _runs.append(Run(processes, model, teacher, data, sampler, bool(_runs)))
    try:
        yield
    finally:
        _runs.pop()


class Run:
    """One `fit`, `evaluate` or step of several processes.

    Args:
        processes: the `Processes`.
        model: the distiller.
        teacher: its `Teacher`.
        data: the argument `x`.
        sampler: the sampler that splits the data already, or None.
        within: whether it is a validation in a `fit`.
    """

    def __init__(self, processes, model, teacher, data, sampler, within):
        self.processes = processes
        self.model, self.teacher = model, teacher
        self.sampler = sampler
        self.holds_samples = getattr(data, "holds_samples", True)
        self.first_batch = True
        self.epoch, self.passes = 0, 0  # Student passes in the epoch.
        self.in_step = within
        self.teacher_known = within

    def meet(self, place, *numbers):
        """Synchronizes the processes, and returns the numbers of each."""
        found = self.processes.from_each([place, *numbers])
        places = [number for number, *_ in found]
        if len(set(places)) > 1:
            text = "; ".join(
                f"process {rank} is {PLACES[number]}"
                for rank, number in enumerate(places)
            )
            raise ValueError(
                "The processes are at different places of their training. "
                f"Received: {text}. All must call the same methods, with data "
                "of equally many batches, and stop in the same epoch."
            )
        return [numbers for _, *numbers in found]

    # --- epochs -------------------------------------------------------------

    def begin_epoch(self, epoch):
        """Gives all processes the states of the first one."""
        found = self.meet(BEGIN, epoch, 0, 0)
        epochs = [epoch for epoch, *_ in found]
        if len(set(epochs)) > 1:
            raise ValueError(
                "The processes begin with different epochs. Received: epochs "
                f"{epochs}, by process. Give all the same `initial_epoch`, "
                "and the files of a backup."
            )
        states = random.getstate(), np.random.get_state(), random_states()
        states = self.processes.from_first(states)
        random.setstate(states[0])
        np.random.set_state(states[1])
        set_random_states(states[2])
        self.bring_in_step()
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
        self.first_batch = True
        self.epoch, self.passes = epoch, 0

    def end_epoch(self):
        """Checks that no other process has more batches."""
        self.meet(END, 0, 0, 0)

    def bring_in_step(self):
        """Gives all processes the weights of the first one."""
        self.in_step = True
        follows = self.teacher.follows_student
        if not (self.teacher_known or follows):
            self._compare_teachers()
        self.teacher_known = True
        fixed = [] if follows else self.teacher.variables
        fixed = {id(variable) for variable in fixed}
        optimizer = self.model.optimizer
        variables = [
            *self.model.trainable_variables,
            *self.model.non_trainable_variables,
            *(optimizer.variables if optimizer else []),
        ]
        found = {id(v): v.value for v in variables if id(v) not in fixed}
        self.processes.take_first(found.values())

    def _compare_teachers(self):
        values = (ops.stop_gradient(v.value) for v in self.teacher.variables)
        sums = [float(ops.sum(ops.cast(v, "float32"))) for v in values]
        expected = self.processes.from_first(sums)
        same = len(sums) == len(expected) and np.allclose(
            sums, expected, rtol=1e-3, atol=1e-3
        )
        if not all(same for (same,) in self.processes.from_each([int(same)])):
            raise ValueError(
                f"The teacher {self.teacher.name!r} is not the same in all "
                "processes. Received: weights that differ. Load the same file "
                "in all of them, or call `keras.utils.set_random_seed` before "
                "it is made."
            )

    # --- batches ------------------------------------------------------------

    def whole_batch(self, batch, training):
        """The batch of all processes, from the one that this has read."""
        if not self.in_step:
            self.bring_in_step()
        compared = self.first_batch and self.holds_samples
        compared = compared and self.sampler is None
        self.first_batch = False
        found = self.meet(
            TRAIN if training else TEST,
            row_count(batch),
            shapes_checksum(batch),
            values_checksum(batch) if compared else 0,
        )
        counts = [count for count, *_ in found]
        if self.sampler is None:
            self._check_same(found, counts)
            return batch
        if len({shapes for _, shapes, _ in found}) > 1:
            raise ValueError(
                "The processes' parts of a batch have different shapes. "
                f"Received: {_shapes(batch)} in process "
                f"{self.processes.rank}. Pad samples to the same length in "
                "each, or leave out the `DistributedSampler`."
            )
        return keras.tree.map_structure(
            lambda each: (
                None
                if each is None
                else self.processes.all_rows(
                    ops.convert_to_tensor(each), counts
                )
            ),
            batch,
        )

    def _check_same(self, found, counts):
        if any(each != found[0] for each in found):
            raise ValueError(
                "Each process must read the same batches: it computes on its "
                "rows of each. Received: batches of other samples, or in "
                f"another order, of {counts} samples by process. Give data "
                "that is shuffled a seed, and all processes the same data; "
                "or a `DataLoader` with a `torch.utils.data.distributed."
                "DistributedSampler`, which gives each its own samples."
            )

    # --- the student --------------------------------------------------------

    @functools.cached_property
    def norms(self):
        """The student's layers of batch normalization."""
        return [
            layer
            for layer in keras_compat.all_layers(self.model.student)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]

    @functools.cached_property
    def statistics(self):
        """Other statistics of batches that the student's layers keep."""
        norms = {id(v) for layer in self.norms for v in layer.variables}
        return [
            variable
            for layer in keras_compat.all_layers(self.model.student)
            for variable in keras_compat.made_non_trainable(layer)
            if id(variable) not in norms and "float" in variable.dtype
        ]

    @functools.cached_property
    def seeds(self):
        """The states of the random generators of the student's layers."""
        found = self.model.student.variables
        return [v for v in found if v.name == "seed_generator_state"]


def _shapes(batch):
    return [
        tuple(each.shape)
        for each in keras.tree.flatten(batch)
        if each is not None
    ]


def whole_batch(batch, training):
    """The batch of all processes; each has read all of it or its own part."""
    found = current()
    return found.whole_batch(batch, training) if found else batch


def on_own_rows(function, batch):
    """A function's values for a batch; each process computes its own rows."""
    found = current()
    if found is None:
        return function(batch)
    rows = Rows(found.processes, batch)
    return rows.all(function(rows.own(batch)))


def student_pass(function, batch, training):
    """Like `on_own_rows`, with random numbers and statistics of layers."""
    found = current()
    if found is None:
        return function(batch)
    rows = Rows(found.processes, batch)
    if not training:
        return rows.all(function(rows.own(batch)))
    with (
        _own_draws(found),
        keras_compat.other_moments(found.norms, _moments(rows)),
    ):
        values = function(rows.own(batch))
    if found.statistics:
        found.processes.average([v.value for v in found.statistics])
    return rows.all(values)


@contextlib.contextmanager
def _own_draws(run):
    """Lets random layers draw different numbers in each process."""
    import torch

    rank = run.processes.rank
    # The state is read, not advanced, so the data's order stays the same.
    common = zlib.crc32(torch.get_rng_state().numpy())
    seed = np.random.SeedSequence([common, run.epoch, run.passes, rank])
    run.passes += 1
    on_gpu = torch.cuda.is_available()
    devices = [torch.cuda.current_device()] if on_gpu else []
    _shift(run.seeds, STRIDE * rank)
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(seed.generate_state(1)[0]))
            yield
    finally:
        _shift(run.seeds, -STRIDE * rank)


def _shift(seeds, by):
    for seed in seeds:
        first, count = ops.convert_to_numpy(seed.value)
        first = (int(first) + by) % 2**32
        seed.assign(np.array([first, count], "uint32"))


def _moments(rows):
    """Mean and variance of the whole batch, from those of its parts."""
    from keras_kd._src.distribution.collectives import AllStatistics

    counts = ops.convert_to_tensor(rows.counts, dtype="float32")

    def moments(own, inputs, mask):
        mean, variance = own(inputs, mask)
        parts = [mean, variance]
        if mask is not None:
            counted = ops.sum(ops.cast(mask, mean.dtype)) * (rows.share > 0)
            parts.append(ops.full_like(mean, counted))
        parts = AllStatistics.apply(ops.stack(parts), rows.processes)
        means, variances = parts[:, 0], parts[:, 1]
        weight = counts[:, None] if mask is None else parts[:, 2]
        weight = ops.cast(weight, means.dtype)
        weight = ops.divide_no_nan(weight, ops.sum(weight, axis=0))
        mean = ops.sum(weight * means, axis=0)
        between = ops.square(means - mean)
        return mean, ops.sum(weight * (variances + between), axis=0)

    return moments


def over_all_rows(value, batch):
    """The mean over all samples of a value that each process has for its own.

    Its gradient is this process's part, until gradients are averaged.
    """
    found = current()
    if found is None:
        return value
    own = value * Rows(found.processes, batch).share
    mean = found.processes.mean(own)
    return own + ops.stop_gradient(mean - own)


def average_gradients(gradients):
    """Sets gradients to their mean over all processes."""
    found = current()
    if found is not None:
        found.processes.average([g for g in gradients if g is not None])


@contextlib.contextmanager
def averaged_gradients(optimizer):
    """Lets an optimizer take the mean of all processes' gradients."""
    if current() is None or optimizer is None:
        yield
        return
    own = optimizer.apply

    def apply(gradients, *args, **kwargs):
        average_gradients(gradients)
        return own(gradients, *args, **kwargs)

    object.__setattr__(optimizer, "apply", apply)
    try:
        yield
    finally:
        object.__delattr__(optimizer, "apply")


# --- around the steps -------------------------------------------------------


def begin_epoch(epoch):
    """Synchronizes the processes; for the monitor of `fit`."""
    found = current()
    if found is not None:
        found.begin_epoch(epoch)


def end_epoch():
    """Synchronizes the processes after the last batch."""
    found = current()
    if found is not None:
        found.end_epoch()


def common_logs(logs):
    """The logs of the first process, so that all processes decide alike."""
    found = current()
    if found is None:
        return logs
    return found.processes.from_first(
        {name: float(value) for name, value in logs.items()}
    )


# Callbacks that would write the same in each process.
WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


def own_arguments(arguments):
    """The arguments of `fit` and `evaluate` for this process."""
    processes = together()
    if processes is None:
        return arguments
    callbacks = arguments.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return arguments
    callbacks = keras.tree.flatten(callbacks) if callbacks else []
    for each in callbacks:
        if type(each) is keras.callbacks.BackupAndRestore:
            raise ValueError(
                "Keras' `BackupAndRestore` writes and removes its files in "
                "each process. Received: it in `callbacks`. Use "
                "`keras_kd.callbacks.EpochBackup`."
            )
    if processes.rank == 0:
        return arguments
    for group in callbacks:
        if isinstance(group, CallbackGroup):
            group.callbacks = _without_writers(group.callbacks)
    callbacks = _without_writers(callbacks)
    return {**arguments, "callbacks": callbacks, "verbose": 0}


def _without_writers(callbacks):
    return [each for each in callbacks if not isinstance(each, WRITERS)]


class StopTogether(keras.callbacks.Callback):
    """Stops the training of all processes when one of them stops."""

    def on_epoch_end(self, epoch, logs=None):
        found = current()
        if found is not None:
            stops = found.processes.from_each([int(self.model.stop_training)])
            self.model.stop_training = any(stop for (stop,) in stops)
