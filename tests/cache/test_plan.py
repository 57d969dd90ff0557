"""What a plan says, against figures by hand, and what it recommends."""

import dataclasses
import functools
import pathlib
import shutil
import time
import types

import keras
import numpy as np
import pytest
from keras import layers
from support import cross_entropy
from support import weights_of

import keras_kd as kd

GIGABYTE = 10**9
INDEX = 8  # Bytes of a sample's index, beside its prediction.


def classifier(classes=10, activation=None, seed=0):
    random = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", name="stage"),
            layers.Dense(classes, activation, name="head"),
        ]
    )
    # The same ones on each backend.
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    return model


def samples(count=40):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 4)).astype("float32")


def planned(teacher=None, dataset=None, **kwargs):
    settings = {"epochs": 10, "batch_size": 8, "probe_samples": 32}
    return kd.cache.plan(
        teacher or classifier(),
        samples() if dataset is None else dataset,
        **{**settings, "verbose": 0, **kwargs},
    )


@functools.cache
def a_plan(outputs=None, **kwargs):
    """A plan of ample memory and disk, made once."""
    found = planned(outputs=outputs and list(outputs), **kwargs)
    return dataclasses.replace(
        found, free_memory=GIGABYTE, free_disk=GIGABYTE, path="."
    )


def by_name(choices):
    return {choice.name: choice for choice in choices}


def zeros_of(*shape):
    """A teacher that predicts zeros of a shape."""
    return kd.teachers.FunctionTeacher(
        lambda x: np.zeros((len(x), *shape), "float32"), (4,), *shape
    )


# --- bytes ------------------------------------------------------------------

BYTES = {
    10: {
        "float32": INDEX + 4 * 10,
        "float16": INDEX + 2 * 10,
        "bfloat16": INDEX + 2 * 10,
        "top-2": INDEX + 2 * 1 + 2 * 2 + 2,
        "top-4": INDEX + 4 * 1 + 4 * 2 + 2,
    },
    1000: {
        "float32": INDEX + 4 * 1000,
        "float16": INDEX + 2 * 1000,
        "bfloat16": INDEX + 2 * 1000,
        "top-8": INDEX + 8 * 2 + 8 * 2 + 2,
        "top-32": INDEX + 64 + 64 + 2,
        "top-128": INDEX + 128 * 2 + 128 * 2 + 2,
    },
    70_000: {
        "float32": INDEX + 4 * 70_000,
        "float16": INDEX + 2 * 70_000,
        "bfloat16": INDEX + 2 * 70_000,
        "top-32": INDEX + 32 * 4 + 32 * 2 + 2,
        "top-128": INDEX + 128 * 4 + 128 * 2 + 2,
        "top-512": INDEX + 512 * 4 + 512 * 2 + 2,
    },
}


@pytest.mark.parametrize("classes", BYTES)
def test_bytes_of_class_scores_by_hand(classes):
    found = planned(zeros_of(classes), samples(8), samples=100, views=3)
    live, *stored = found.choices
    assert (live.name, live.bytes_per_sample, live.total_bytes) == (
        "live",
        0,
        0,
    )
    assert {c.name: c.bytes_per_sample for c in stored} == BYTES[classes]
    for choice in stored:
        assert choice.total_bytes == 3 * 100 * choice.bytes_per_sample
    assert found.notes == []


class SumOfChannels(layers.Layer):
    def call(self, inputs):
        return keras.ops.sum(inputs, axis=-1)


def test_bytes_with_features_by_hand():
    inputs = keras.Input((4,))
    x = layers.Dense(7 * 7 * 512)(inputs)
    x = layers.Reshape((7, 7, 512), name="stage3")(x)
    x = layers.GlobalAveragePooling2D()(x)
    teacher = keras.Model(inputs, layers.Dense(1000)(x))
    choices = planned(teacher, samples(8), outputs=["", "stage3"]).choices
    found = {c.name: c.bytes_per_sample for c in choices[1:]}
    features = 7 * 7 * 512
    assert found == {
        "float32": INDEX + 4 * 1000 + 4 * features,
        "float16": INDEX + 2 * 1000 + 2 * features,
        "bfloat16": INDEX + 2 * 1000 + 2 * features,
        "float16 + int8": INDEX + 2 * 1000 + features,
        "top-8 + int8": INDEX + 34 + features,
        "top-32 + int8": INDEX + 130 + features,
        "top-128 + int8": INDEX + 514 + features,
    }


def test_bytes_of_features_alone_and_of_sequences():
    inputs = keras.Input((4,))
    x = layers.Dense(64, name="stage3")(inputs)
    norm = SumOfChannels(name="norm")(x)
    x = layers.Reshape((5, 100))(layers.Dense(500)(x))
    teacher = keras.Model(inputs, [x, norm])
    found = planned(teacher, samples(8), outputs=["stage3", "norm"])
    choices = by_name(found.choices)
    assert choices["int8"].bytes_per_sample == INDEX + 64 + 2
    assert choices["float16"].divergence_mean is None
    found = planned(keras.Model(inputs, x), samples(8))
    top_8 = by_name(found.choices)["top-8"]
    assert top_8.bytes_per_sample == INDEX + 5 * (8 * 1 + 8 * 2 + 2)


def stored_arrays(folder):
    """A cache's predictions and its index: NumPy's files with and without."""
    arrays = [np.load(path) for path in folder.rglob("*.npy")]
    records = [array for array in arrays if array.dtype.names]
    return records, [array for array in arrays if not array.dtype.names]


def test_a_written_cache_has_the_bytes_that_were_planned(tmp_path):
    teacher, x = classifier(), samples()
    for choice in planned(teacher, x, outputs=["", "stage"]).choices[1:]:
        folder = tmp_path / choice.name
        kd.cache.write(teacher, x, folder, outputs=choice.encodings, verbose=0)
        records, _ = stored_arrays(folder)
        assert sum(each.nbytes for each in records) == choice.total_bytes


def in_order_of(order):
    return [
        (samples()[rows], {"sample_index": rows})
        for rows in np.reshape(order, (5, 8))
    ]


@pytest.mark.parametrize(
    "order, counted, stored",
    [
        (range(40), 0, 1),
        (range(39, -1, -1), 40, 40),
        ([*range(20, 40), *range(20)], 1, 2),  # One of 39 steps, so of 40.
    ],
)
def test_an_index_to_samples_in_no_order_is_counted_in(
    order, counted, stored, tmp_path
):
    teacher, dataset = classifier(), in_order_of(order)
    found = planned(teacher, dataset, probe_samples=40)
    float16 = by_name(found.choices)["float16"]
    assert float16.bytes_per_sample == 28
    assert float16.total_bytes == 40 * 28 + 16 * counted
    note = f"order of their indices: an index of {16 * counted} B is counted in"
    assert (note in str(found)) == (counted > 0)
    kd.cache.write(teacher, dataset, tmp_path, verbose=0)
    _, (index,) = stored_arrays(tmp_path)
    assert index.nbytes == 16 * (stored + 1)  # And the end of the last run.


def test_an_index_is_counted_for_all_samples_and_views():
    dataset = in_order_of(range(39, -1, -1))
    found = planned(dataset=dataset, samples=1000, views=3)
    float16 = by_name(found.choices)["float16"]
    assert float16.total_bytes == 3 * 1000 * (28 + 16)


# --- time -------------------------------------------------------------------


@pytest.fixture
def timed_teacher(monkeypatch):
    """A teacher of so many seconds a sample, and 1000 s for the first batch."""

    def make(seconds):
        clock, calls = [0.0], []

        def slow_at_first(x):
            clock[0] += len(x) * seconds if calls else 1000.0
            calls.append(len(x))
            return np.zeros((len(x), 3))

        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
        return kd.teachers.FunctionTeacher(slow_at_first, (4,), 3), calls

    return make


def test_the_first_batch_is_not_timed(timed_teacher):
    teacher, calls = timed_teacher(0.5)
    found = planned(teacher, samples(), batch_size=8, probe_samples=24)
    assert found.seconds_per_epoch == 40 * 0.5
    assert calls == [8] * 4
    assert found.probed == 24


@pytest.mark.parametrize("views", [1, 2, 4, 7])
def test_times_follow_the_cost_model(timed_teacher, views):
    teacher, _ = timed_teacher(0.25)
    found = planned(teacher, views=views, samples=1000)
    assert found.seconds_per_epoch == 1000 * 0.25
    assert found.write_seconds == views * 1000 * 0.25
    epoch = 1
    while epoch * found.seconds_per_epoch <= found.write_seconds:
        epoch += 1
    assert found.pays_from_epoch == epoch
    for epochs in (epoch - 1, epoch):
        found = dataclasses.replace(found, epochs=epochs)
        assert (found.recommended == "live") == (epochs < epoch)


def test_augmented_views_pay_from_the_epoch_after_as_many():
    views = kd.cache.AugmentedViews(
        samples(), augment=lambda x, random: x, count=4
    )
    found = planned(dataset=views)
    assert (found.samples, found.views) == (40, 4)
    assert found.pays_from_epoch == 5
    assert by_name(found.choices)["float16"].total_bytes == 4 * 40 * 28
    assert "Measured on 32 of 160 augmented views" in str(found)


# --- divergence -------------------------------------------------------------


def kl_by_hand(logits, restored, temperature):
    def probabilities(values):
        odds = np.exp(np.float64(values) / temperature)
        return odds / odds.sum(-1, keepdims=True)

    p, q = probabilities(logits), probabilities(restored)
    return np.sum(p * np.log(p / q), axis=-1)


def top_k_by_hand(logits, k, temperature):
    log_p = np.float64(logits)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    restored = np.empty_like(log_p)
    for row, made in zip(log_p, restored):
        kept = np.argsort(row)[-k:]
        others = np.delete(row, kept)
        mean = np.exp(others / temperature).mean()
        made[:] = np.float16(temperature * np.log(mean))
        made[kept] = row[kept].astype("float16")
    return restored


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_by_hand(temperature):
    teacher, x = classifier(), samples(32)
    logits = keras.ops.convert_to_numpy(teacher(x))
    found = planned(teacher, x, temperature=temperature)
    restored = {
        "live": logits,
        "float32": logits,
        "float16": logits.astype("float16"),
        "top-2": top_k_by_hand(logits, 2, temperature),
        "top-4": top_k_by_hand(logits, 4, temperature),
    }
    for name, scores in restored.items():
        expected = kl_by_hand(logits, scores, temperature)
        choice = by_name(found.choices)[name]
        close = {"rtol": 2e-3, "atol": 1e-9}
        np.testing.assert_allclose(
            choice.divergence_mean, expected.mean(), **close
        )
        np.testing.assert_allclose(
            choice.divergence_worst, expected.max(), **close
        )
    assert by_name(found.choices)["top-2"].divergence_mean > 0.04


def test_probabilities_are_measured_by_their_logs_and_kept_whole():
    teacher, x = classifier(activation="softmax"), samples(32)
    found = planned(teacher, x)
    assert [c.name for c in found.choices[1:]] == [
        "float16",
        "bfloat16",
        "float32",
    ]
    assert "top-k, which is of logits, is left out" in str(found)
    log_p = np.log(np.float64(keras.ops.convert_to_numpy(teacher(x))))
    rounded = np.exp(log_p).astype("float16").astype("float64")
    expected = kl_by_hand(log_p, np.log(np.maximum(rounded, 1e-30)), 4.0)
    np.testing.assert_allclose(
        by_name(found.choices)["float16"].divergence_mean,
        expected.mean(),
        rtol=2e-3,
    )


def test_probabilities_below_float16_are_not_recommended_in_it():
    teacher = classifier(3, activation="softmax")
    kernel = np.zeros((6, 3), "float32")
    teacher.layers[-1].set_weights([kernel, np.log([1.0, 1e-12, 1e-12])])
    found = planned(teacher, temperature=8.0)
    assert found.divergence_limit == 0.05 / 8.0**2
    float16 = by_name(found.choices)["float16"]
    assert float16.divergence_mean > found.divergence_limit
    assert found.choice.name == "bfloat16"


def test_values_that_float16_does_not_hold():
    teacher = classifier()
    teacher.layers[-1].bias.assign(np.full(10, 1e6, "float32"))
    found = planned(teacher)
    assert "float16" not in by_name(found.choices)
    assert "float16 is left out: A value of the teacher is too large" in str(
        found
    )
    assert found.choice.name == "float32"


# --- the recommendation -----------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize("memory, how", [(4480, "memory"), (4479, "disk")])
def test_memory_where_a_quarter_of_it_holds_all(memory, how):
    needed = 40 * 28
    found = dataclasses.replace(
        a_plan(), free_memory=memory, free_disk=2 * needed
    )
    assert memory in (4 * needed, 4 * needed - 1)
    assert (found.recommended, found.choice.name) == (how, "float16")
    assert ("memory=True" in str(found)) == (how == "memory")


@pytest.mark.parametrize(
    "spread, temperature, name",
    [
        (0.1, 2.0, "top-2"),
        (4.0, 2.0, "top-4"),
        (16.0, 2.0, "top-2"),
        (1.0, 4.0, "live"),
    ],
)
def test_the_smallest_k_where_disk_is_short(spread, temperature, name):
    teacher = classifier()
    head = teacher.layers[-1]
    head.set_weights([spread * weight for weight in head.get_weights()])
    found = dataclasses.replace(
        planned(teacher, temperature=temperature), free_disk=2 * 40 * 28 - 1
    )
    limit = 0.05 / temperature**2
    close = [
        choice.name
        for choice in found.choices
        if choice.keeps_top_k and choice.divergence_mean <= limit
    ]
    assert found.choice.name == name == [*close, "live"][0]
    assert found.recommended == ("top-k" if close else "live")
    assert f"a mean of {limit:.2g} is close enough" in str(found)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"views": 10}, "no other pays off by epoch 10"),
        ({"epochs": 1}, "no other pays off by epoch 1"),
        ({"free_disk": 100}, "takes half of the free disk, 0.0001 MB, at most"),
    ],
)
def test_live_where_nothing_pays_or_fits(changed, reason):
    found = dataclasses.replace(a_plan(), **changed)
    assert (found.recommended, found.choice.name) == ("live", "live")
    assert reason in str(found)


@pytest.mark.one_backend
def test_features_alone_go_to_int8_where_disk_is_short():
    found = dataclasses.replace(
        a_plan(("stage",)), free_memory=0, free_disk=2 * 40 * (8 + 6)
    )
    assert (found.recommended, found.choice.name) == ("disk", "int8")


# --- what it prints ---------------------------------------------------------


@pytest.mark.one_backend
def test_the_recommendation_comes_first_in_six_rows(timed_teacher, capsys):
    teacher, _ = timed_teacher(0.25)
    found = planned(teacher, samples=60_000, epochs=30, verbose=1)
    assert capsys.readouterr().out == f"{found}\n"
    found = dataclasses.replace(
        a_plan(),
        samples=60_000,
        epochs=30,
        free_memory=2 * GIGABYTE,
        seconds_per_epoch=15_000.0,
    )
    first, run, measured, *rows = str(found).splitlines()
    assert first == (
        "Recommended: memory (float16, 0.00112 MB: a quarter of the free "
        "memory, 2 GB, at most; open it with memory=True)."
    )
    assert run == f"Run: {found.call}"
    assert "Measured on 32 of 60,000 samples: " in measured
    assert "takes 4.167 h an epoch, a cache 4.167 h to write" in measured
    assert "so it pays from epoch 2." in measured
    assert [row.split(": ")[0] for row in rows] == ["float16", "top-2", "top-4"]
    assert rows[0].startswith("float16: 28 B a sample, 0.00112 MB in all; ")
    planned(verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.one_backend
def test_six_rows_at_most_with_notes_and_a_choice_of_ones_own():
    teacher = classifier(100)
    teacher.layers[-1].bias.assign(np.full(100, 1e6, "float32"))
    own = {"": kd.cache.Dense("float32"), "stage": kd.cache.Int8()}
    dataset = in_order_of(range(39, -1, -1))
    found = planned(teacher, dataset, samples=40, outputs=own)
    rows = str(found).splitlines()
    assert len(rows) == 6
    assert rows[3].startswith("bfloat16: ") or rows[3].startswith("float32: ")
    assert rows[4].startswith("yours: ")
    assert "is counted in" in rows[5] and "float16 is left out" in rows[5]


@pytest.mark.one_backend
def test_choices_and_plans_can_not_be_changed():
    found = a_plan()
    assert isinstance(found, kd.cache.Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.recommended = "live"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.epochs = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.choices[0].name = "dead"


@pytest.mark.parametrize(
    "machine, how",
    [
        ({}, "memory"),
        ({"free_disk": 2 * 40 * 33}, "top-k"),
        ({"free_disk": 0}, "live"),
    ],
)
def test_the_call_that_it_prints_works(tmp_path, machine, how):
    teacher, dataset, student = classifier(), samples(), classifier(seed=1)
    found = dataclasses.replace(
        a_plan(("", "stage"), temperature=1.0), path=tmp_path, **machine
    )
    assert found.recommended == how
    made = eval(found.call)
    labels = np.zeros(40, "int32")
    if how == "live":
        made.compile(loss=cross_entropy())
        made.fit(dataset, labels, verbose=0)
        return
    on_disk = dataclasses.replace(found, free_memory=0)
    assert (on_disk.recommended == "disk") == (how == "memory")
    assert on_disk.call == found.call
    cache = kd.cache.open(
        tmp_path / "predictions", teacher=teacher, memory=how == "memory"
    )
    assert len(cache) == 40
    encodings = found.choice.encodings
    assert {tap: type(e) for tap, e in cache.outputs.items()} == {
        tap: type(e) for tap, e in encodings.items()
    }
    distiller = kd.Distiller(cache, student)
    distiller.compile(loss=cross_entropy())
    distiller.fit(cache.join(dataset, labels, batch_size=8), verbose=0)


# --- what may be planned ----------------------------------------------------


def test_encodings_of_ones_own():
    top_3, int8 = kd.cache.TopK(3), kd.cache.Int8()
    found = planned(outputs={"": top_3, "stage": int8})
    yours = by_name(found.choices)["yours"]
    assert yours.bytes_per_sample == INDEX + 3 * 1 + 3 * 2 + 2 + 6
    found = planned(outputs=kd.cache.Dense("float32"))
    assert by_name(found.choices)["yours"].bytes_per_sample == INDEX + 4 * 10


def assert_divergence(found, logits):
    expected = kl_by_hand(logits, top_k_by_hand(logits, 2, 4.0), 4.0)
    top_2 = by_name(found.choices)["top-2"]
    np.testing.assert_allclose(
        top_2.divergence_mean, expected.mean(), rtol=2e-3
    )


def test_teachers_that_are_functions_and_ensembles():
    matrix = np.random.default_rng(1).normal(size=(4, 10))
    function = kd.teachers.FunctionTeacher(lambda x: x @ matrix, (4,), 10)
    ensemble = kd.teachers.Ensemble([classifier(), classifier(seed=1)])
    for teacher in (function, ensemble):
        found = planned(teacher)
        assert by_name(found.choices)["float16"].bytes_per_sample == 28
        every = np.linspace(0, 39, 32).astype(int)
        logits = keras.ops.convert_to_numpy(teacher(samples()[every]))
        assert_divergence(found, logits)


def batches(count, size=8, **labels):
    for start in range(0, count, size):
        index = np.arange(start, min(start + size, count))
        mine = {name: values[index] for name, values in labels.items()}
        yield samples(count)[index], {**mine, "sample_index": index}


def by_confidence():
    members = [classifier(), classifier(seed=1)]
    return kd.teachers.Ensemble(members, weights="confidence")


def test_an_ensemble_gets_the_labels_of_batches():
    teacher, labels = by_confidence(), np.arange(40) % 10
    dataset = batches(40, labels=labels)
    found = planned(teacher, dataset, probe_samples=40)
    with_labels = keras.ops.convert_to_numpy(teacher(samples(), labels=labels))
    assert_divergence(found, with_labels)
    without = keras.ops.convert_to_numpy(teacher(samples()))
    assert np.abs(without - with_labels).max() > 1e-2
    with pytest.raises(AssertionError):
        assert_divergence(found, without)


def test_an_ensemble_needs_no_labels():
    teacher = kd.teachers.Ensemble([classifier(), classifier(seed=1)])
    assert planned(teacher, dataset=batches(20)).samples == 20


def test_labels_that_an_ensemble_needs():
    for dataset in (samples(), batches(20)):
        with pytest.raises(ValueError, match="arrays bring none"):
            planned(by_confidence(), dataset=dataset)


@pytest.mark.one_backend
@pytest.mark.parametrize("count", [20, 32])
def test_batches_that_end_tell_how_many_samples_there_are(count):
    assert planned(dataset=batches(count)).samples == count


@pytest.mark.one_backend
def test_batches_that_go_on_do_not():
    with pytest.raises(ValueError, match="Pass their number as `samples`"):
        planned(dataset=batches(40))
    found = planned(dataset=batches(40), samples=1000)
    assert (found.samples, found.probed) == (1000, 32)


@pytest.mark.one_backend
def test_samples_that_come_again_are_not_counted_again():
    rows = [np.arange(8), np.arange(8, 12)]
    x = samples()
    dataset = [(x[each], {"sample_index": each}) for each in rows * 2]
    with pytest.raises(ValueError, match="sample 0 again. Write the data with"):
        planned(dataset=dataset)
    with pytest.raises(ValueError, match="sample 0 again"):
        planned(dataset=dataset, samples=1000)
    found = planned(dataset=dataset, views=2)
    assert (found.samples, found.views, found.probed) == (12, 2, 24)


def test_samples_are_taken_from_all_over_arrays():
    x = np.repeat(np.arange(40.0, dtype="float32")[:, None], 4, axis=1)
    seen = []

    def first_values(inputs):
        seen.append(np.asarray(inputs)[:, 0].tolist())
        return np.asarray(inputs)[:, :3]

    identity = kd.teachers.FunctionTeacher(first_values, (4,), 3)
    found = planned(identity, x, batch_size=4, probe_samples=8)
    assert found.probed == 8
    assert seen[1:] == [[0, 5, 11, 16], [22, 27, 33, 39]]


@pytest.mark.one_backend
def test_large_predictions_are_measured_in_part():
    inputs = keras.Input((4,))
    x = layers.Dense(2**20, name="wide")(inputs)  # 4 MB a sample.
    x = layers.GlobalAveragePooling1D()(layers.Reshape((-1, 4))(x))
    found = planned(keras.Model(inputs, x), outputs="wide", probe_samples=40)
    assert found.probed == 32  # 128 MB


@pytest.mark.one_backend
def test_the_teacher_is_left_as_it_was():
    teacher = classifier()
    before = weights_of(teacher)
    planned(teacher, outputs=["", "stage"])
    for was, now in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(was, now)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"epochs": 0}, "`epochs` must be a positive integer.*epochs=0"),
        ({"epochs": 2.5}, "`epochs` must be a positive integer.*2.5"),
        ({"views": 0}, "`views` must be a positive integer.*views=0"),
        ({"samples": -1}, "`samples` must be a positive integer"),
        ({"samples": 0}, "`samples` must be a positive integer"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"probe_samples": 0}, "`probe_samples` must be a positive integer"),
        ({"temperature": 0}, "`temperature` must be a finite number above 0"),
        ({"outputs": []}, r"`outputs` must name.*outputs=\[\]"),
        ({"outputs": "stge"}, "stge"),
        ({"outputs": ["", "head:scores"]}, "head:scores"),
        ({"outputs": kd.cache.TopK(10)}, "Top-k needs more classes"),
        ({"path": "s3://b/c"}, "written to a local folder.*'s3://b/c'"),
        ({"dataset": samples(0)}, "nothing to run the teacher on"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        planned(**arguments)


def test_a_teacher_that_predicts_nan():
    teacher = classifier()
    teacher.layers[-1].bias.assign(np.full(10, np.nan, "float32"))
    with pytest.raises(ValueError, match="must be finite. Received: NaN"):
        planned(teacher)


# --- the machine ------------------------------------------------------------

GROUPS = "/sys/fs/cgroup"
MACHINE = "MemTotal: 9 kB\nMemAvailable:   5000 kB\nHugePages_Total: 0\n"


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "files, free",
    [
        ({}, 5000 * 1024),
        (
            {  # A container.
                "memory.max": "1000000\n",
                "memory.current": "700000\n",
                "memory.stat": "anon 5\ninactive_file 200000\n",
            },
            500_000,
        ),
        (  # One without a limit.
            {"memory.max": "max\n", "memory.current": "700000\n"},
            5000 * 1024,
        ),
        (  # One of an older system, which is full.
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "1000\n",
            },
            0,
        ),
    ],
)
def test_memory_of_a_machine_and_of_a_container(monkeypatch, files, free):
    files = {f"{GROUPS}/{name}": text for name, text in files.items()}
    files["/proc/meminfo"] = MACHINE
    read = pathlib.Path.read_text

    def read_text(path, *arguments, **keywords):
        name = path.as_posix()
        if name.startswith((GROUPS, "/proc/meminfo")):
            if name not in files:
                raise FileNotFoundError(name)
            return files[name]
        return read(path, *arguments, **keywords)

    monkeypatch.setattr(pathlib.Path, "read_text", read_text)
    assert planned().free_memory == free


@pytest.mark.one_backend
def test_disk_of_a_folder_that_is_not_there_yet(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    found = planned(path=tmp_path / "a" / "b")
    assert abs(found.free_disk - free) < 10 * GIGABYTE
    assert not (tmp_path / "a").exists()
    looked = []

    def usage(path):
        looked.append(path)
        return types.SimpleNamespace(free=7)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert planned(path=tmp_path / "a" / "b").free_disk == 7
    assert looked == [tmp_path]
