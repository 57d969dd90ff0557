"""Chains: which teacher trains which student, interruptions, errors."""

import copy
import json
import os

import chains
import hostile
import keras
import numpy as np
import pytest
from chains import chain_of
from chains import fit
from chains import model_of
from chains import samples
from chains import stage_of
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd.testing import assert_close


class Watch(keras.callbacks.Callback):
    """Notes the teachers and students, and which epochs are trained."""

    def __init__(self, notes):
        super().__init__()
        # Of this process: a list of its own would be put back by a backup.
        self.notes = lambda: notes

    def on_train_begin(self, logs=None):
        self.notes().append(
            {
                "teacher": weights_of(self.model.teacher),
                "start": weights_of(self.model.student),
                "epochs": [],
            }
        )

    def on_epoch_end(self, epoch, logs=None):
        self.notes()[-1]["epochs"].append(epoch)


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Raises in a batch of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Interruption


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    return model_of(12, name="large_one")


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory):
    """A chain that was not interrupted, and what was seen meanwhile."""
    notes = []
    watch = {name: [lambda: Watch(notes)] for name in chains.WIDTHS}
    chain = chain_of(teacher, tmp_path_factory.mktemp("whole"), **watch)
    before = weights_of(teacher)
    fit(chain)
    assert same(before, weights_of(teacher))
    return chain, notes


def same(weights, others):
    pairs = zip(weights, others, strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def assert_same_students(chain, other):
    assert len(chain.students) == len(other.students) == 3
    for one, two in zip(chain.students, other.students):
        # With the states of dropout, which no file has.
        assert same(weights_of(one), weights_of(two))


# --- stages and report ------------------------------------------------------


def test_the_student_before_is_the_teacher(teacher, whole):
    chain, notes = whole
    teachers = [teacher, *chain.students[:-1]]
    assert len(notes) == 3
    for model, note in zip(teachers, notes):
        assert same(note["teacher"], weights_of(model))
        assert note["epochs"] == [0, 1, 2]
    for student, note in zip(chain.students, notes):
        assert not same(note["start"], weights_of(student))
    assert chain.student is chain.students[-1]
    assert [s.layers[0].units for s in chain.students] == [9, 6, 3]


def test_the_report(whole):
    chain, _ = whole
    path = chain.folder / "report.json"
    assert json.loads(path.read_text())["stages"] == chain.report
    assert [stage["stage"] for stage in chain.report] == list(chains.WIDTHS)
    teachers = [stage["teachers"] for stage in chain.report]
    assert teachers == [["teacher"], ["large"], ["medium"]]
    x, y = samples(24, seed=1)
    for stage, student in zip(chain.report, chain.students):
        width = student.layers[0].units
        # Two dense layers, and four numbers a unit of the normalization.
        assert stage["parameters"] == 5 * width + 3 * (width + 1) + 4 * width
        assert stage["epochs"] == 3 and stage["seconds"] > 0
        for key in ("loss", "feature_matching_loss", "val_accuracy"):
            assert np.isfinite(stage["history"][key]).all()
            assert len(stage["history"][key]) == 3
        right = np.argmax(numpy(student(x)), axis=-1) == y
        assert stage["metrics"]["accuracy"] == pytest.approx(right.mean())
        saved = keras.saving.load_model(chain.folder / stage["file"])
        assert_close(numpy(saved(x)), numpy(student(x)))
    assert {path.name for path in chain.folder.iterdir()} == {
        "lock",
        "report.json",
        "1_large.keras",
        "2_medium.keras",
        "3_small.keras",
    }


def test_metrics_are_those_of_the_finished_student(teacher, tmp_path):
    def stopping():
        # Nothing gets better by 100: stops after the second epoch, and puts
        # the first one's weights back.
        return keras.callbacks.EarlyStopping(
            "val_loss", min_delta=100, patience=1, restore_best_weights=True
        )

    stage = stage_of("small", [stopping])
    chain = kd.schemes.Chain(teacher, [stage], folder=tmp_path)
    report = fit(chain)[0]
    assert report["epochs"] == 2
    first, last = report["history"]["val_hard_loss"]
    assert report["metrics"]["hard_loss"] == pytest.approx(first, rel=1e-5)
    assert first != pytest.approx(last, rel=1e-5)


# --- interrupted ------------------------------------------------------------


def test_an_interrupted_chain_goes_on(teacher, whole, tmp_path, monkeypatch):
    def go_on(*interruptions):
        """Goes on in the folder; returns the chain and the trained epochs."""
        # What a new process would draw is not what the first one drew.
        keras.utils.set_random_seed(1000 + len(trained))
        notes = []
        callbacks = {name: [lambda: Watch(notes)] for name in chains.WIDTHS}
        callbacks["medium"] += interruptions
        seed = None if trained else 5
        chain = chain_of(teacher, tmp_path, seed=seed, **callbacks)
        try:
            fit(chain)
        except Interruption:
            assert [stage["stage"] for stage in chain.report] == ["large"]
            with pytest.raises(ValueError, match="Received: 1 trained of 3"):
                _ = chain.student
        trained.append([note["epochs"] for note in notes])
        return chain

    trained = []
    for at in [(0, 1), (1, 3), (2, 4)]:
        go_on(lambda at=at: Interrupt(*at))
    with monkeypatch.context() as patch:
        interrupt_report(patch, finished=2)
        go_on()
    # Whatever the file holds: no report, so it is not finished.
    assert (tmp_path / "2_medium.keras").exists()
    (tmp_path / "2_medium.keras").write_bytes(b"half")
    again = go_on()
    # The first stage is not trained again, the second from the last epoch.
    every = [0, 1, 2]
    assert trained == [[every, []], [[0]], [[1]], [[2]], [[], every]]
    assert_same_students(again, whole[0])
    for stage, expected in zip(again.report, whole[0].report):
        assert stage["epochs"] == 3
        assert stage["history"]["loss"] == expected["history"]["loss"]
    saved = keras.saving.load_model(tmp_path / "2_medium.keras")
    assert same(saved.get_weights(), again.students[1].get_weights())


def interrupt_report(patch, finished):
    """Raises when the report that names so many stages is to be written."""
    replace = os.replace

    def fail(source, target):
        report = target.name == "report.json" and source.read_text()
        if report and len(json.loads(report)["stages"]) == finished:
            raise Interruption
        replace(source, target)

    patch.setattr(os, "replace", fail)


def test_a_finished_chain_is_not_trained_again(teacher, whole):
    chain, _ = whole
    notes = []
    watch = {name: [lambda: Watch(notes)] for name in chains.WIDTHS}
    again = chain_of(teacher, chain.folder, **watch)
    assert fit(again) == chain.report
    assert notes == []
    assert_same_students(again, chain)


# --- seeds ------------------------------------------------------------------


def test_a_drawn_seed_is_kept_and_stages_differ(teacher, tmp_path):
    def starts(folder):
        notes = []
        stages = [
            kd.schemes.Stage(
                name,
                lambda: model_of(4),
                epochs=1,
                compile=chains.compiled,
                callbacks=lambda: [Watch(notes)],
            )
            for name in ("one", "two")
        ]
        fit(kd.schemes.Chain(teacher, stages, folder=folder))
        return [note["start"] for note in notes]

    keras.utils.set_random_seed(3)
    first = starts(tmp_path / "first")
    assert not same(*first)
    assert not same(starts(tmp_path / "second")[0], first[0])
    keras.utils.set_random_seed(3)
    for start, again in zip(first, starts(tmp_path / "third"), strict=True):
        assert same(start, again)


# --- errors -----------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "Received: name='a/b'"),
        ({"name": "teacher"}, "Received: name='teacher'"),
        ({"student": model_of(3)}, "`student=lambda: ...`"),
        ({"epochs": 0}, "Received: epochs=0"),
        ({"compile": {"optimizer": "adam"}}, "`compile=lambda: ...`"),
        ({"transfers": [kd.Transfer(kd.losses.SoftTargets())]}, "`transfers="),
        ({"callbacks": [Interrupt(0, 0)]}, "`callbacks=lambda: ...`"),
        ({"teachers": "both"}, "Received: teachers='both'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_errors_of_a_stage(change, message):
    arguments = {
        "name": "small",
        "student": lambda: model_of(3),
        "epochs": 1,
        "compile": dict,
    }
    kd.schemes.Stage(**arguments)
    with pytest.raises(ValueError, match="Received") as caught:
        kd.schemes.Stage(**{**arguments, **change})
    assert message in str(caught.value)


@pytest.mark.one_backend
def test_errors_of_a_chain(teacher, tmp_path):
    stage = stage_of("small")
    for stages in ([], [stage, stage], [model_of(3)]):
        with pytest.raises(ValueError, match="with different names"):
            kd.schemes.Chain(teacher, stages, folder=tmp_path)
    for odd in (None, keras.Sequential([keras.layers.Dense(3)])):
        with pytest.raises(ValueError, match="must be a built Keras model"):
            kd.schemes.Chain(odd, [stage], folder=tmp_path)
    for seed in (-1, 0.5):
        with pytest.raises(ValueError, match=f"Received: seed={seed}"):
            kd.schemes.Chain(teacher, [stage], folder=tmp_path, seed=seed)
    chain = kd.schemes.Chain(teacher, [stage], folder=tmp_path)
    with pytest.raises(ValueError, match=r"Received: \['epochs'\] in"):
        fit(chain, epochs=3)
    known = model_of(3)
    stage = stage_of("small", student=lambda: known)
    with pytest.raises(ValueError, match="must make a new model"):
        fit(kd.schemes.Chain(known, [stage], folder=tmp_path / "known"))


def test_another_run_in_the_folder(teacher, whole):
    folder = whole[0].folder
    stages = whole[0].stages
    names = ["large", "medium"]
    other = model_of(12)
    shorter = stage_of("small", epochs=2)
    for model, now, seed, what in (
        (other, stages, None, "teacher differs"),
        (teacher, stages, 6, "seed differs.*Received: seed 6.*folder: 5"),
        (teacher, stages[::-1], None, "stage 1 differs.*'name': 'small'"),
        (teacher, stages[:2], None, "stage 3 differs.*stage 3 None"),
        (teacher, [*stages[:2], shorter], 5, "stage 3 differs.*'epochs': 2"),
    ):
        with pytest.raises(ValueError, match=what):
            fit(kd.schemes.Chain(model, now, folder=folder, seed=seed))
    assert [stage["stage"] for stage in whole[0].report[:2]] == names


def test_a_student_that_is_not_what_was_trained(teacher, whole, tmp_path):
    report = json.loads((whole[0].folder / "report.json").read_text())
    report["stages"] = report["stages"][:1]
    (tmp_path / "report.json").write_text(json.dumps(report))
    model_of(9).save(tmp_path / "1_large.keras")
    with pytest.raises(ValueError, match="student 1 differs"):
        fit(chain_of(teacher, tmp_path))


@pytest.mark.one_backend
def test_a_report_of_anyone(teacher, whole, tmp_path):
    content = json.loads((whole[0].folder / "report.json").read_text())
    path, chain = tmp_path / "report.json", chain_of(teacher, tmp_path)
    for place in ("../1_large.keras", "/etc/passwd", "2_medium.keras"):
        changed = copy.deepcopy(content)
        changed["stages"][0]["file"] = place
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=r"report.json.*stages\[0\].file"):
            fit(chain)
    harmless = 0
    for seed in range(2000):
        generator = hostile.seeded(seed)
        changed = json.dumps(hostile.change(content, generator)).encode()
        if seed % 4 == 0:
            changed = hostile.changed_bytes(changed, generator)
        path.write_bytes(changed)
        try:
            assert len(chain.report) <= 9
            harmless += 1
        except ValueError as error:
            assert type(error) is ValueError and "report.json" in str(error)
    assert 0 < harmless < 1000


@pytest.mark.one_backend
def test_a_generator_serves_one_stage_only(teacher, tmp_path):
    x, y = samples()
    chain = chain_of(teacher, tmp_path)
    with pytest.raises(ValueError, match="empty after the first stage"):
        chain.fit(pair for pair in [(x, y)])
