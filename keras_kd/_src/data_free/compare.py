"""compare: a table of data-free methods and their baselines."""

import time
from typing import NamedTuple

import keras
import numpy as np

from keras_kd._src.arguments import checked_seeds
from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.compare.models import NewModels
from keras_kd._src.compare.scores import outputs_of
from keras_kd._src.compare.statistics import mean_and_spread
from keras_kd._src.compare.table import text_table
from keras_kd._src.data_free.noise import noise_source
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.losses.soft_targets import SoftTargets

BASELINES = "teacher", "noise", "unrelated", "real"


class ComparisonRow(NamedTuple):
    """One row of a `Comparison`: what `compare` measured of one way.

    Args:
        name: the way's name.
        accuracy: share of the test data classified correctly, from 0 to 1, a
            tuple with one number for each seed; empty for a baseline that was
            not given.
        agreement: share of the test data for which the student predicts the
            teacher's class, a tuple of the same kind.
        seconds: training time in seconds, a tuple of the same kind; empty for
            the teacher.

    Example:
    >>> ComparisonRow("noise", (0.3, 0.4), (0.3, 0.4), (1.0, 1.0)).name
    'noise'
    """

    name: str
    accuracy: tuple = ()
    agreement: tuple = ()
    seconds: tuple = ()


class Comparison(list):
    """A list of `ComparisonRow`, one for each way; prints as a table.

    Printed numbers are the mean and standard deviation over the seeds (sample
    standard deviation, divided by n - 1).

    Args:
        rows: list of `ComparisonRow`.

    Example:
    >>> noise = ComparisonRow("noise", (0.25, 0.35), (0.5, 0.5), (1.0, 3.0))
    >>> print(Comparison([noise, ComparisonRow("real")]))
           test accuracy %  agreement %    seconds
    noise       30.0 ± 7.1   50.0 ± 0.0  2.0 ± 1.4
    real         not given
    """

    def __init__(self, rows):
        super().__init__(rows)

    def __str__(self):
        titles = ["", "test accuracy %", "agreement %", "seconds"]
        return text_table(titles, [_cells(row) for row in self])


def _cells(row):
    return [
        row.name,
        mean_and_spread(row.accuracy, 100.0) or "not given",
        mean_and_spread(row.agreement, 100.0),
        mean_and_spread(row.seconds),
    ]


def compare(
    teacher,
    build_student,
    ways,
    test_data,
    *,
    steps,
    batch_size,
    value_range=None,
    statistics=None,
    unrelated=None,
    real=None,
    seeds=(0,),
    optimizer="adam",
    temperature=1.0,
):
    """Compares ways to distill without data with simple baselines.

    The accuracy of a data-free method says little by itself: with some teachers
    noise alone is enough to train a good student, and with most of them
    unrelated data is. So these baselines are in the table, or it says that they
    are missing.

    Each row of arrays gets the same number of steps, and the teacher's soft
    targets without labels. For each seed, all students begin with the same
    weights. The weights of the last step are tested; none is chosen by the test
    data.

    Args:
        teacher: any teacher that `Distiller` takes, with one output
            `(batch, classes)`.
        build_student: function without arguments that returns a new, built
            Keras model with the same inputs and classes.
        ways: dict, name -> what a student is trained on: an array of samples;
            or a pair `(x, targets)` from `impressions` or `invert`, of which
            only `x` is used, as the teacher predicts again; or a function of
            the student that trains it, in any number of steps, for example
            with a `DataFreeDistiller`.
        test_data: pair of samples and their classes, integers `(samples,)`.
        steps: integer, training steps of each student with arrays.
        batch_size: integer, samples of a step, also for testing.
        value_range: pair of the smallest and largest input value, numbers or
            arrays as in `noise`. Each batch of the row "noise" is new.
        statistics: instead of it, pair of mean and standard deviation.
        unrelated: array of real samples of something else, in the same scale.
        real: array of samples of the teacher's own kind: the upper bound.
        seeds: list of the students' seeds. A row's spread is over these, and
            says nothing about other samples or another teacher. It sets the
            global seeds (`keras.utils.set_random_seed`).
        optimizer: as in `compile`; each student gets a new copy.
        temperature: positive number, T of the soft targets.

    Returns:
        A `Comparison`: rows "teacher", "noise", "unrelated", the ways, and
        "real"; `print` shows it.

    Raises:
        ValueError: arrays, labels or names can't be used; not exactly one of
            `value_range` and `statistics` is given; the output of the teacher
            or a student is not class scores; `build_student` returns the same
            model twice.

    Example:
    >>> def build():
    ...     return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> random = np.random.default_rng(0)
    >>> x_test = random.uniform(size=(50, 2)).astype("float32")
    >>> y_test = (x_test[:, 0] > x_test[:, 1]).astype("int32")
    >>> table = compare(
    ...     build(), build, {"corners": np.eye(2, dtype="float32")},
    ...     (x_test, y_test), steps=2, batch_size=4, value_range=(0.0, 1.0),
    ... )
    >>> [row.name for row in table]
    ['teacher', 'noise', 'unrelated', 'corners', 'real']

    Reference: the baselines are from Chen et al., 2019, "Data-Free
    Learning of Student Networks", arXiv 1904.01186, and Fang et al., 2019,
    "Data-Free Adversarial Distillation", arXiv 1912.11006.
    """
    x_test, labels = _test_data(test_data)
    seeds = checked_seeds(seeds)
    training = _Training(teacher, steps, batch_size, optimizer, temperature)
    draw = noise_source(x_test.shape[1:], value_range, statistics)
    trainers = {"noise": training.on_noise(draw)}
    for name, way in _named(ways, unrelated, real).items():
        trainers[name] = _trainer(name, way, training, x_test.shape[1:])
    expected = _classes(teacher, x_test, training.batch_size)
    rows = [
        ComparisonRow("teacher", (float(np.mean(expected == labels)),), (1.0,))
    ]
    new_student = NewModels(build_student, "build_student")
    for name, train in trainers.items():
        trials = []
        for seed in seeds if train else ():
            keras.utils.set_random_seed(seed)
            student, start = new_student(), time.perf_counter()
            train(student, seed)
            seconds = time.perf_counter() - start
            found = _classes(student, x_test, training.batch_size)
            trials.append(
                (np.mean(found == labels), np.mean(found == expected), seconds)
            )
        rows.append(_row(name, trials))
    return Comparison(rows)


def _row(name, trials):
    columns = zip(*trials) if trials else [(), (), ()]
    return ComparisonRow(name, *(tuple(map(float, each)) for each in columns))


class _Training:
    """Distills a student, with the same settings in each row of arrays."""

    def __init__(self, teacher, steps, batch_size, optimizer, temperature):
        self.teacher = teacher
        self.steps = integer(steps, "steps")
        self.batch_size = integer(batch_size, "batch_size")
        self.optimizer = keras.optimizers.get(optimizer)
        self.temperature = number(temperature, "temperature", above=0.0)

    def on_noise(self, draw):
        """Trains on new noise in each step."""

        def train(student, seed):
            def batch(index):
                random = np.random.default_rng([seed, index])
                return draw(random, self.batch_size)

            self.distil(student, batch)

        return train

    def on_array(self, x):
        """Trains on all samples in turn, in a new order each time."""

        def train(student, seed):
            random = np.random.default_rng(seed)
            needed, size = self.steps * self.batch_size, self.batch_size
            turns = range(-(-needed // len(x)))
            order = np.concatenate([random.permutation(len(x)) for _ in turns])
            self.distil(student, lambda i: x[order[i * size : (i + 1) * size]])

        return train

    def distil(self, student, batch):
        loss = SoftTargets(temperature=self.temperature)
        distiller = Distiller(self.teacher, student, loss)
        kind, config = type(self.optimizer), self.optimizer.get_config()
        distiller.compile(kind.from_config(config))
        distiller.fit(_Batches(self.steps, batch), verbose=0)


class _Batches(keras.utils.PyDataset):
    """Batches without labels, each made by a function of its index."""

    def __init__(self, steps, batch):
        super().__init__()
        self.steps, self.batch = steps, batch

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return (self.batch(index),)


def _trainer(name, way, training, shape):
    """A function of student and seed that trains; None for a missing row."""
    if way is None:
        return None
    if callable(way):
        return lambda student, seed: way(student)
    x = np.asarray(way[0] if isinstance(way, tuple) else way)
    if x.ndim == 0 or x.shape[1:] != shape or not len(x):
        raise ValueError(
            f"The way {name!r} must be samples like those of the test data, of "
            f"shape (n, {', '.join(map(str, shape))}); a pair (samples, "
            "targets); or a function that trains the student it is given. "
            f"Received: samples of shape {x.shape}."
        )
    return training.on_array(x)


def _named(ways, unrelated, real):
    """All ways except noise, by name, in the order of the rows."""
    if not isinstance(ways, dict) or set(ways) & set(BASELINES):
        raise ValueError(
            "Argument `ways` must be a dict from names to samples or "
            f"functions; the names {BASELINES} are taken. Received: "
            f"{sorted(ways) if isinstance(ways, dict) else type(ways)}. Pass "
            "the baselines as `unrelated=` and `real=`."
        )
    return {"unrelated": unrelated, **ways, "real": real}


def _test_data(test_data):
    x, y = map(np.asarray, test_data)
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            "Argument `test_data` must be samples and their classes, integers "
            f"of shape (samples,). Received: arrays of shapes {x.shape} and "
            f"{y.shape}, the classes of type {y.dtype}."
        )
    return x, y


def _classes(model, x, batch_size):
    """The likeliest class of each sample, by a teacher or a student."""
    starts = range(0, len(x), batch_size)
    batches = (x[start : start + batch_size] for start in starts)
    outputs = outputs_of(model, batches)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            "Teacher and students must output scores of two or more classes, "
            f"(batch, classes). Received: {as_teacher(model).name!r}, with an "
            f"output of shape {outputs.shape}."
        )
    return outputs.argmax(axis=-1)
