"""plan: what storing a teacher's answers takes, before anything runs."""

import math

from keras_kd._src.cache.asking import encodings_by_tap
from keras_kd._src.cache.batches import check_list
from keras_kd._src.cache.paths import local_path
from keras_kd._src.cache.planning import machine
from keras_kd._src.cache.planning.choices import recommended
from keras_kd._src.cache.planning.probing import probe
from keras_kd._src.cache.planning.report import Plan
from keras_kd._src.cache.planning.weighing import weighed
from keras_kd._src.cache.views import Views
from keras_kd._src.cache.whole_numbers import check_whole
from keras_kd._src.distillation.taps import listed
from keras_kd._src.specs import check_teacher


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
    """Says what a cache of a teacher's answers would cost, and which to take.

    Before a teacher is asked about all of the data: how many bytes each way to
    store its answers takes, how long writing and reading last, from which
    epoch on that is faster than to ask it in each epoch, and how far the soft
    targets are from the full ones. Nothing is written.

    With n samples of K views, t seconds in which the teacher answers a sample,
    w to store it and r to read it, all measured on a part of the data:

        live(e) = e * n * t
        cached(e) = K * n * (t + w) + e * n * r
        pays from: the smallest e with live(e) > cached(e)

    So one view pays from about the second epoch, K views from epoch K + 1.
    What the student's own step takes is in neither. t holds the answers' way
    to the host. r is of records in memory, gathered and unpacked: the search
    for them takes some more, and the first reading from a disk.

    It recommends `"memory"` for a cache that keeps all classes and takes a
    quarter of the free memory at most, `"disk"` for half of the free disk (on
    which the first is written, too), `"top-k"` for the smallest k whose soft
    targets are within 0.05 / T^2 nats of the full ones in the mean (so the
    loss, which has a factor T^2, within 0.05), and `"live"` where none of these
    pays off within the epochs. float16 comes first, bfloat16 or float32 where
    the teacher's values don't fit into it. At a high temperature much of what
    many classes tell is in the unlikely ones, and no k may be close enough.
    What int8 does to features has no figure in nats.

    With random augmentation a cache of clean samples is wrong, however small:
    the student would be told what the teacher says of another picture. Give
    `cache.Views`, and its views are stored.

    Args:
        teacher: a built Keras model.
        dataset: what `cache.write` takes. Of arrays and `Views`, samples from
            all over the data are asked about, of batches the first (which a
            generator then has given away). The first batch is asked twice.
        epochs: of the training to come.
        outputs: text of a tap or a list of them, `""` for the model's output;
            that alone by default. Or what `cache.write` takes: a choice
            `"yours"` is then in the table.
        views: how many views of each sample will be stored; a `Views` says it
            itself.
        temperature: T of the training to come, for top-k and the divergences.
        path: the local folder in which the cache would be; its disk counts.
        samples: how many samples (not views) there are: for batches, and
            where the dataset is only a part of the data to come.
        batch_size: of the batches that the teacher is asked about.
        probe_samples: how many samples to measure on; fewer where their
            answers take more than 128 MB.
        verbose: 1 prints the plan, 0 doesn't.

    Returns:
        A `Plan`.

    Raises:
        ValueError: an argument is out of range, a tap does not exist, the
            teacher needs labels and there are none, a sample comes twice, or
            it is not known how many samples there are.

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
    """
    check_teacher(teacher)
    check_list(dataset, teacher)
    local_path(path)  # No url.
    for name, value in dict(
        epochs=epochs,
        views=views,
        batch_size=batch_size,
        probe_samples=probe_samples,
    ).items():
        check_whole(name, value)
    _check_temperature(temperature)
    taps, own = _taps_of(outputs)
    views = dataset.count if isinstance(dataset, Views) else views
    probed = probe(teacher, dataset, taps, batch_size, probe_samples, views)
    samples = samples or probed.samples
    _check_samples(samples, dataset)
    choices, notes = weighed(
        probed, own, samples, views, temperature, batch_size
    )
    free_memory, free_disk = machine.free_memory(), machine.free_disk(path)
    how, choice = recommended(
        choices, epochs, temperature, free_memory, free_disk
    )
    found = Plan(
        choices=choices,
        recommended=how,
        choice=choice,
        samples=samples,
        views=views,
        epochs=epochs,
        temperature=temperature,
        probed=probed.asked,
        batch_size=batch_size,
        free_memory=free_memory,
        free_disk=free_disk,
        path=str(path),
        notes=notes,
    )
    if verbose:
        print(found)
    return found


def _check_temperature(value):
    if not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ValueError(
            "Argument `temperature` must be a positive number. Received: "
            f"temperature={value!r}."
        )


def _taps_of(outputs):
    """The taps that are stored, and the encodings if the user has chosen."""
    if isinstance(outputs, dict) or hasattr(outputs, "bytes_per_sample"):
        own = encodings_by_tap(outputs)
        return list(own), own
    texts = listed(outputs)
    if not texts:
        raise ValueError(
            "Argument `outputs` must name what is stored of the teacher, such "
            f'as "" (its output) or "stage3". Received: outputs={outputs!r}.'
        )
    return [text or "" for text in texts], None


def _check_samples(samples, dataset):
    if samples is None:
        raise ValueError(
            "How many samples there are decides what a cache takes, and "
            "batches do not tell. Received: samples=None, and a dataset of "
            f"type {type(dataset).__name__}. Pass their number as `samples`."
        )
    check_whole("samples", samples)
