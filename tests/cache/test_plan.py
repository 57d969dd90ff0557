"""What a plan says, against figures by hand, and what it recommends."""

import dataclasses
import importlib

import keras
import numpy as np
import pytest
from keras import layers
from support import cross_entropy
from support import weights_of

import keras_kd as kd
from keras_kd._src.cache.dense import Dense
from keras_kd._src.cache.int8 import Int8
from keras_kd._src.cache.plan import plan
from keras_kd._src.cache.planning import machine
from keras_kd._src.cache.planning import probing
from keras_kd._src.cache.planning import trials
from keras_kd._src.cache.planning import weighing
from keras_kd._src.cache.planning.choices import divergence_limit
from keras_kd._src.cache.planning.choices import pays_from
from keras_kd._src.cache.planning.probing import Probe
from keras_kd._src.cache.planning.probing import probe
from keras_kd._src.cache.planning.report import Plan
from keras_kd._src.cache.planning.weighing import weighed
from keras_kd._src.cache.top_k import TopK
from keras_kd._src.cache.views import Views

# The package has a function of the module's name.
plan_module = importlib.import_module("keras_kd.cache.plan")
GIGABYTE = 10**9


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
    return plan(
        teacher or classifier(),
        samples() if dataset is None else dataset,
        **{**settings, "verbose": 0, **kwargs},
    )


@pytest.fixture(autouse=True)
def small_reads(monkeypatch):
    monkeypatch.setattr(trials, "READ_BYTES", 2**10)


def by_name(choices):
    return {choice.name: choice for choice in choices}


def weighed_zeros(shapes, **kwargs):
    views = {tap: np.zeros((8, *shape), "float32") for tap, shape in shapes}
    settings = {"own": None, "samples": 100, "views": 1, "temperature": 4.0}
    probed = Probe(views, seconds=0.25, asked=8, samples=None)
    return weighed(probed, batch_size=4, **{**settings, **kwargs})


@pytest.fixture
def fixed(monkeypatch):
    """A machine, and times, of the test's own choosing."""

    def fix(memory=GIGABYTE, disk=GIGABYTE, ask=0.25, pack=0.125, read=0.0):
        def timed_probe(*args):
            return dataclasses.replace(probe(*args), seconds=ask)

        def timed_trial(*args):
            trial = tried(*args)
            times = {"pack_seconds": pack, "read_seconds": read}
            return dataclasses.replace(trial, **times)

        tried = weighing.tried
        monkeypatch.setattr(plan_module, "probe", timed_probe)
        monkeypatch.setattr(weighing, "tried", timed_trial)
        monkeypatch.setattr(machine, "free_memory", lambda: memory)
        monkeypatch.setattr(machine, "free_disk", lambda path: disk)

    return fix


# --- bytes ------------------------------------------------------------------

ID = 8
BYTES = {
    10: {
        "float32": ID + 4 * 10,
        "float16": ID + 2 * 10,
        "bfloat16": ID + 2 * 10,
        "top-2": ID + 2 * 1 + 2 * 2 + 2,
        "top-4": ID + 4 * 1 + 4 * 2 + 2,
    },
    1000: {
        "float32": ID + 4 * 1000,
        "float16": ID + 2 * 1000,
        "bfloat16": ID + 2 * 1000,
        "top-8": ID + 8 * 2 + 8 * 2 + 2,
        "top-32": ID + 64 + 64 + 2,
        "top-128": ID + 128 * 2 + 128 * 2 + 2,
    },
    70_000: {
        "float32": ID + 4 * 70_000,
        "float16": ID + 2 * 70_000,
        "bfloat16": ID + 2 * 70_000,
        "top-32": ID + 32 * 4 + 32 * 2 + 2,
        "top-128": ID + 128 * 4 + 128 * 2 + 2,
        "top-512": ID + 512 * 4 + 512 * 2 + 2,
    },
}


@pytest.mark.parametrize("classes", BYTES)
def test_bytes_of_class_scores_by_hand(classes):
    choices, notes = weighed_zeros([("", (classes,))], samples=100, views=3)
    live, *stored = choices
    assert (live.name, live.bytes_per_sample, live.total_bytes) == (
        "live",
        0,
        0,
    )
    assert {c.name: c.bytes_per_sample for c in stored} == BYTES[classes]
    for choice in stored:
        assert choice.total_bytes == 3 * 100 * choice.bytes_per_sample
    assert notes == []


def test_bytes_with_features_by_hand():
    choices, _ = weighed_zeros([("", (1000,)), ("stage3", (7, 7, 512))])
    found = {c.name: c.bytes_per_sample for c in choices[1:]}
    features = 7 * 7 * 512
    assert found == {
        "float32": ID + 4 * 1000 + 4 * features,
        "float16": ID + 2 * 1000 + 2 * features,
        "bfloat16": ID + 2 * 1000 + 2 * features,
        "float16 + int8": ID + 2 * 1000 + features,
        "top-8 + int8": ID + 34 + features,
        "top-32 + int8": ID + 130 + features,
        "top-128 + int8": ID + 514 + features,
    }


def test_bytes_of_features_alone_and_of_sequences():
    choices, _ = weighed_zeros([("stage3", (64,)), ("norm", ())])
    assert by_name(choices)["int8"].bytes_per_sample == ID + 64 + 2
    assert by_name(choices)["float16"].divergence_mean is None
    choices, _ = weighed_zeros([("", (5, 100))])
    top_8 = by_name(choices)["top-8"]
    assert top_8.bytes_per_sample == ID + 5 * (8 * 1 + 8 * 2 + 2)


def test_a_written_cache_has_the_bytes_that_were_planned(tmp_path):
    teacher, x = classifier(), samples()
    for choice in planned(teacher, x, outputs=["", "stage"]).choices[1:]:
        folder = tmp_path / choice.name
        kd.cache.write(teacher, x, folder, outputs=choice.encodings, verbose=0)
        (rows,) = folder.glob("parts/*/rows.npy")
        stored = np.load(rows, mmap_mode="r")
        assert stored.nbytes == choice.total_bytes
        assert rows.stat().st_size == choice.total_bytes + stored.offset


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
    note = f"order of their ids: an index of {16 * counted} B is counted in"
    assert (note in str(found)) == (counted > 0)
    kd.cache.write(teacher, dataset, tmp_path, verbose=0)
    (path,) = tmp_path.glob("index*.npy")
    index = np.load(path)
    assert index.nbytes == 16 * (stored + 1)  # And the end of the last run.


def test_an_index_is_counted_for_all_samples_and_views():
    dataset = in_order_of(range(39, -1, -1))
    found = planned(dataset=dataset, samples=1000, views=3)
    float16 = by_name(found.choices)["float16"]
    assert float16.total_bytes == 3 * 1000 * (28 + 16)


# --- time -------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 7])
@pytest.mark.parametrize("ask, pack, read", [(8, 0, 0), (8, 2, 1), (8, 0, 7)])
def test_pays_from_the_epoch_that_a_loop_finds(views, ask, pack, read):
    epoch = 1
    while epoch * ask <= views * (ask + pack) + epoch * read:
        epoch += 1
    assert pays_from(ask, views * (ask + pack), read) == epoch


def test_never_pays_where_reading_takes_as_long_as_asking():
    assert pays_from(8, 8, 8) is None
    assert pays_from(8, 8, 9) is None


def test_times_follow_the_cost_model(fixed):
    fixed(ask=0.25, pack=0.125, read=0.0625)
    found = by_name(planned(views=4, samples=1000).choices)
    assert found["live"].seconds_per_epoch == 1000 * 0.25
    assert found["live"].write_seconds == 0
    assert found["live"].pays_from_epoch is None
    for name in ("float16", "float32", "top-2"):
        assert found[name].write_seconds == 4 * 1000 * (0.25 + 0.125)
        assert found[name].seconds_per_epoch == 1000 * 0.0625
        # 9 * 250 > 1500 + 9 * 62.5, and 8 * 250 = 1500 + 8 * 62.5
        assert found[name].pays_from_epoch == 9


def test_views_pay_from_the_epoch_after_as_many(fixed):
    fixed(pack=0.0, read=0.0)
    views = Views(samples(), augment=lambda x, random: x, count=4)
    found = planned(dataset=views)
    assert (found.samples, found.views) == (40, 4)
    float16 = by_name(found.choices)["float16"]
    assert float16.pays_from_epoch == 5
    assert float16.total_bytes == 4 * 40 * 28


def test_the_first_batch_is_not_timed(monkeypatch):
    clock, calls = [0.0], []

    def slow_at_first(array):
        clock[0] += len(array) * 0.5 if calls else 1000.0
        calls.append(len(array))
        return np.zeros((len(array), 3))

    monkeypatch.setattr(probing.time, "perf_counter", lambda: clock[0])
    teacher = kd.teachers.FunctionTeacher(slow_at_first, (4,), 3)
    found = probe(teacher, samples(), [""], 8, 24)
    assert found.seconds == 0.5
    assert calls == [8] * 4
    assert found.asked == 24


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
    for name, view in restored.items():
        expected = kl_by_hand(logits, view, temperature)
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
    limit = divergence_limit(8.0)
    assert by_name(found.choices)["float16"].divergence_mean > limit
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


def test_memory_where_a_quarter_of_it_holds_all(fixed):
    fixed(memory=4 * 40 * 28, disk=2 * 40 * 28)
    found = planned()
    assert (found.recommended, found.choice.name) == ("memory", "float16")
    assert "memory=True" in found.call


def test_disk_where_memory_is_short(fixed):
    fixed(memory=4 * 40 * 28 - 1, disk=2 * 40 * 28)
    found = planned()
    assert (found.recommended, found.choice.name) == ("disk", "float16")
    assert "memory=True" not in found.call


@pytest.mark.parametrize(
    "spread, temperature, name",
    [
        (0.1, 2.0, "top-2"),
        (4.0, 2.0, "top-4"),
        (16.0, 2.0, "top-2"),
        (1.0, 4.0, "live"),
    ],
)
def test_the_smallest_k_where_disk_is_short(fixed, spread, temperature, name):
    fixed(disk=2 * 40 * 28 - 1)
    teacher = classifier()
    head = teacher.layers[-1]
    head.set_weights([spread * weight for weight in head.get_weights()])
    found = planned(teacher, temperature=temperature)
    limit = 0.05 / temperature**2
    close = [
        choice.name
        for choice in found.choices
        if choice.keeps_top_k and choice.divergence_mean <= limit
    ]
    assert found.choice.name == name == [*close, "live"][0]
    assert found.recommended == ("top-k" if close else "live")
    assert f"a mean of {limit:.2g} is close enough" in str(found)


@pytest.mark.parametrize(
    "machine, epochs, reason",
    [
        ({"read": 0.25}, 10, "no other pays off by epoch 10"),
        ({}, 1, "no other pays off by epoch 1"),
        ({"disk": 100}, 10, "takes half of the free disk at most"),
    ],
)
def test_live_where_nothing_pays_or_fits(fixed, machine, epochs, reason):
    fixed(**machine)
    found = planned(epochs=epochs)
    assert (found.recommended, found.choice.name) == ("live", "live")
    assert reason in str(found)


def test_features_alone_go_to_int8_where_disk_is_short(fixed):
    fixed(memory=0, disk=2 * 40 * (8 + 6))
    found = planned(outputs="stage")
    assert (found.recommended, found.choice.name) == ("disk", "int8")


# --- what it prints ---------------------------------------------------------


def test_the_table_has_a_line_for_each_choice(fixed, capsys):
    fixed(memory=2 * GIGABYTE, disk=3 * GIGABYTE, pack=0.0)
    found = planned(samples=60_000, epochs=30, verbose=1)
    text = str(found)
    assert capsys.readouterr().out == text + "\n"
    assert "Samples: 60,000 (measured on 32)" in text
    assert "Free memory: 2 GB. Free disk: 3 GB." in text
    lines = [line.split() for line in text.splitlines() if line]
    rows = {line[0]: line[1:] for line in lines}
    a_sample, in_all = ["28", "B"], ["1.68", "MB"]
    to_write, an_epoch, pays = ["4.17", "h"], ["0", "ms"], ["epoch", "2"]
    expected = [*a_sample, *in_all, *to_write, *an_epoch, *pays]
    assert rows["float16"][:10] == expected
    assert rows["live"][:5] == ["-", "-", "-", "4.17", "h"]
    assert set(by_name(found.choices)) <= set(rows)
    assert "Recommended: memory (float16, 1.68 MB" in text
    planned(verbose=0)
    assert capsys.readouterr().out == ""


def test_choices_and_plans_can_not_be_changed():
    found = planned()
    assert isinstance(found, Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.recommended = "live"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.choices[0].name = "dead"


@pytest.mark.parametrize(
    "machine, how",
    [
        ({}, "memory"),
        ({"memory": 0}, "disk"),
        ({"disk": 2 * 40 * 33}, "top-k"),
        ({"disk": 0}, "live"),
    ],
)
def test_the_call_that_it_prints_works(fixed, tmp_path, machine, how):
    fixed(**machine)
    teacher, dataset = classifier(), samples()
    about = {"outputs": ["", "stage"], "path": tmp_path, "temperature": 1.0}
    found = planned(teacher, dataset, **about)
    assert found.recommended == how
    names = dict(kd=kd, teacher=teacher, dataset=dataset, student=classifier())
    exec(found.call, names)
    distiller = names["distiller"]
    distiller.compile(loss=cross_entropy())
    labels = np.zeros(40, "int32")
    if how == "live":
        distiller.fit(dataset, labels, verbose=0)
        return
    answers = names["answers"]
    assert len(answers) == 40
    encodings = found.choice.encodings
    assert {tap: type(e) for tap, e in answers.outputs.items()} == {
        tap: type(e) for tap, e in encodings.items()
    }
    distiller.fit(answers.join(dataset, labels, batch_size=8), verbose=0)


# --- what may be asked ------------------------------------------------------


def test_encodings_of_ones_own():
    found = planned(outputs={"": TopK(3), "stage": Int8()})
    yours = by_name(found.choices)["yours"]
    assert yours.bytes_per_sample == ID + 3 * 1 + 3 * 2 + 2 + 6
    found = planned(outputs=Dense("float32"))
    assert by_name(found.choices)["yours"].bytes_per_sample == ID + 4 * 10


def test_teachers_that_are_functions_and_ensembles():
    matrix = np.random.default_rng(1).normal(size=(4, 10))
    function = kd.teachers.FunctionTeacher(lambda x: x @ matrix, (4,), 10)
    ensemble = kd.teachers.Ensemble([classifier(), classifier(seed=1)])
    for teacher in (function, ensemble):
        found = by_name(planned(teacher).choices)
        assert found["float16"].bytes_per_sample == 28
        every = np.linspace(0, 39, 32).astype(int)
        logits = keras.ops.convert_to_numpy(teacher(samples()[every]))
        expected = kl_by_hand(logits, top_k_by_hand(logits, 2, 4.0), 4.0)
        np.testing.assert_allclose(
            found["top-2"].divergence_mean, expected.mean(), rtol=2e-3
        )


def test_an_ensemble_is_shown_the_labels_of_batches():
    teacher = kd.teachers.Ensemble(
        [classifier(), classifier(seed=1)], weights="confidence"
    )
    x, index = samples(), np.arange(40)
    targets = {"labels": index % 10, "sample_index": index}
    some = probe(teacher, iter([(x, targets)]), [""], 8, 40)
    shown = keras.ops.convert_to_numpy(teacher(x, labels=index % 10))
    np.testing.assert_allclose(some.views[""], shown, rtol=1e-4, atol=1e-5)
    unseen = keras.ops.convert_to_numpy(teacher(x))
    assert np.abs(unseen - shown).max() > 1e-2


def batches(count, size=8):
    for start in range(0, count, size):
        index = np.arange(start, min(start + size, count))
        yield samples(count)[index], {"sample_index": index}


def test_an_ensemble_needs_no_labels():
    teacher = kd.teachers.Ensemble([classifier(), classifier(seed=1)])
    assert planned(teacher, dataset=batches(20)).samples == 20


def test_labels_that_an_ensemble_needs():
    members = [classifier(), classifier(seed=1)]
    teacher = kd.teachers.Ensemble(members, weights="confidence")
    for dataset in (samples(), batches(20)):
        with pytest.raises(ValueError, match="arrays bring none"):
            planned(teacher, dataset=dataset)


def test_batches_that_end_tell_how_many_samples_there_are():
    assert planned(dataset=batches(20)).samples == 20
    assert planned(dataset=batches(32)).samples == 32


def test_batches_that_go_on_do_not():
    with pytest.raises(ValueError, match="Pass their number as `samples`"):
        planned(dataset=batches(40))
    found = planned(dataset=batches(40), samples=1000)
    assert (found.samples, found.probed) == (1000, 32)


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
    identity = kd.teachers.FunctionTeacher(lambda x: x[:, :3], (4,), 3)
    seen = probe(identity, x, [""], 4, 8).views[""][:, 0]
    assert seen.tolist() == [0, 5, 11, 16, 22, 27, 33, 39]


def test_large_answers_are_asked_for_in_part(monkeypatch):
    monkeypatch.setattr(probing, "PROBE_BYTES", 16 * 4 * 10)
    assert planned().probed == 16


def test_the_teacher_is_left_as_it_was():
    teacher = classifier()
    before = weights_of(teacher)
    planned(teacher, outputs=["", "stage"])
    for was, now in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"epochs": 0}, "`epochs` must be a whole number from 1.*epochs=0"),
        ({"epochs": 2.5}, "`epochs` must be a whole number from 1.*2.5"),
        ({"views": 0}, "`views` must be a whole number from 1.*views=0"),
        ({"samples": -1}, "`samples` must be a whole number from 1"),
        ({"batch_size": 0}, "`batch_size` must be a whole number from 1"),
        ({"probe_samples": 0}, "`probe_samples` must be a whole number"),
        ({"temperature": 0}, "`temperature` must be a positive number"),
        ({"outputs": []}, r"`outputs` must name.*outputs=\[\]"),
        ({"outputs": "stge"}, "stge"),
        ({"outputs": ["", "head:scores"]}, "head:scores"),
        ({"outputs": TopK(10)}, "Top-k needs more classes"),
        ({"path": "s3://b/c"}, "written to a local folder.*'s3://b/c'"),
        ({"dataset": samples(0)}, "nothing to ask the teacher about"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        planned(**arguments)


def test_a_teacher_that_answers_nan():
    teacher = classifier()
    teacher.layers[-1].bias.assign(np.full(10, np.nan, "float32"))
    with pytest.raises(ValueError, match="not finite. Received: NaN"):
        planned(teacher)


# --- the machine ------------------------------------------------------------


def put(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


MEMORY = "MemTotal: 9 kB\nMemAvailable:   5000 kB\nHugePages_Total: 0\n"


def test_memory_of_the_machine(tmp_path):
    put(tmp_path, proc__meminfo=MEMORY)
    assert machine.free_memory(tmp_path) == 5000 * 1024


def test_memory_of_a_container(tmp_path):
    put(
        tmp_path,
        proc__meminfo=MEMORY,
        sys__fs__cgroup__memory_dot_max="1000000\n",
        sys__fs__cgroup__memory_dot_current="700000\n",
        sys__fs__cgroup__memory_dot_stat="anon 5\ninactive_file 200000\n",
    )
    assert machine.free_memory(tmp_path) == 500_000


def test_a_container_without_a_limit(tmp_path):
    put(
        tmp_path,
        proc__meminfo=MEMORY,
        sys__fs__cgroup__memory_dot_max="max\n",
        sys__fs__cgroup__memory_dot_current="700000\n",
    )
    assert machine.free_memory(tmp_path) == 5000 * 1024


def test_an_older_container(tmp_path):
    put(
        tmp_path,
        proc__meminfo=MEMORY,
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes="900\n",
        sys__fs__cgroup__memory__memory_dot_usage_in_bytes="1000\n",
    )
    assert machine.free_memory(tmp_path) == 0


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    usage = machine.shutil.disk_usage(tmp_path)
    found = machine.free_disk(tmp_path / "a" / "b")
    assert abs(found - usage.free) < 10 * GIGABYTE
    assert not (tmp_path / "a").exists()
