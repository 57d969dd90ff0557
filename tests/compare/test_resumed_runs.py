"""A folder of finished runs: killed and resumed, extended, refused."""

import json
import signal
import zipfile

import comparisons
import keras
import killed_comparison
import numpy as np
import processes
import pytest
from comparisons import build
from comparisons import classes_data
from comparisons import compare
from comparisons import cooler
from comparisons import settings
from comparisons import without_times

import keras_kd as kd


@pytest.fixture
def fits(monkeypatch):
    """The models that are fitted."""
    found, own = [], keras.Model.fit

    def fit(self, *args, **kwargs):
        found.append(self)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", fit)
    return found


@pytest.mark.one_backend
def test_killed_and_resumed_equals_not_killed(tmp_path, fits):
    """The second run of the second seed is killed in its second epoch."""
    killed = processes.run(killed_comparison.main, tmp_path, 5, 4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(killed.stdout.splitlines()) == 4
    names = {path.name for path in tmp_path.iterdir()} - {"lock"}
    assert len(names) == 8 and not any("unfinished" in n for n in names)

    resumed = compare(folder=tmp_path)
    assert len(fits) == 2
    whole = compare()
    assert len(fits) == 8
    assert without_times(resumed) == without_times(whole)
    assert resumed.ways == whole.ways


@pytest.mark.one_backend
def test_seeds_and_ways_may_be_added(tmp_path, fits):
    compare(folder=tmp_path, seeds=(0,))
    assert len(fits) == 3
    report = compare(folder=tmp_path, ways={"cooler": cooler})
    # A way more of the first seed, and four of the second.
    assert len(fits) == 8
    again = compare(folder=tmp_path, ways={"cooler": cooler})
    assert len(fits) == 8
    assert again.runs == report.runs and again.costs == report.costs


@pytest.mark.one_backend
def test_half_a_run_is_not_taken_for_a_whole(tmp_path, fits, monkeypatch):
    """Weights are there, what was measured isn't: killed in between."""
    whole = compare(folder=tmp_path, seeds=(0,))
    (tmp_path / "student_distilled_seed_0.json").unlink()
    again = compare(folder=tmp_path, seeds=(0,))
    assert len(fits) == 4
    assert without_times(again) == without_times(whole)
    check_strange_files(tmp_path)


def check_strange_files(folder):
    """Weights and figures of a teacher that don't belong together."""
    weights = folder / "teacher_seed_0.npz"
    before = weights.read_bytes()
    with np.load(weights) as file:
        arrays = dict(file)
    objects = {**arrays, "arr_0": np.array([None])}
    for other, said in (
        ({n: a + 1 for n, a in arrays.items()}, "other weights than those"),
        ({n: a[:0] for n, a in arrays.items()}, "no whole array 'arr_0'"),
        (objects, "no whole array 'arr_0'"),
    ):
        np.savez(weights, **other)
        with pytest.raises(ValueError, match=said):
            compare(folder=folder, seeds=(0,))
    deflated = bytearray(before)  # By its headers; its bytes are not.
    deflated[before.index(b"PK\3\4") + 8] = zipfile.ZIP_DEFLATED
    deflated[before.index(b"PK\1\2") + 10] = zipfile.ZIP_DEFLATED
    for content in (b"", before[:-1], before[:99] + before[100:], deflated):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="no whole"):
            compare(folder=folder, seeds=(0,))
    record = folder / "teacher_seed_0.json"
    found = json.loads(record.read_text())
    del found["run"]["metric"]
    record.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="teacher_seed_0.json.*run="):
        compare(folder=folder, seeds=(0,))


def other_rate():
    return {**settings(), "optimizer": keras.optimizers.Adam(0.03)}


X, Y = classes_data()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"epochs": 3}, "another budget.*: '3 epochs'; .*: '2 epochs'"),
        ({"batch_size": 8}, "another batch size.*: 8; .*: 16"),
        ({"train_data": (X[:40], Y[1:41])}, "another set of training data"),
        ({"test_data": (X[41:], Y[41:])}, "another set of test data"),
        (
            {"compile": other_rate},
            r"another set of compile arguments.*0\.0[23].*0\.0",
        ),
        (
            {"build_student": lambda: build(4)},
            "'student alone'.*initial weights",
        ),
        ({"teacher": lambda: build(7)}, "'teacher', seed 0,.*initial weights"),
        (
            {"metric": lambda labels, outputs: 0.0, "lower_is_better": True},
            "another metric.*'accuracy'",
        ),
        ({"ways": {"student distilled": cooler}}, "distilled'.*another model"),
    ],
)
def test_another_comparison_is_refused(changed, told, tmp_path_factory, fits):
    folder = FOLDERS.get("folder") or tmp_path_factory.mktemp("comparison")
    if not FOLDERS:
        FOLDERS["folder"] = folder
        compare(folder=folder, seeds=(0,))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    fits.clear()
    with pytest.raises(ValueError, match=f"(?s){told}"):
        compare(**{"folder": folder, "seeds": (0,), **changed})
    assert not fits
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


FOLDERS = {}  # One comparison for all of these tests.


@pytest.mark.one_backend
def test_another_trained_teacher_is_refused(tmp_path, fits):
    teacher = build(8)
    compare(teacher, folder=tmp_path, seeds=(0,))
    changed = [weight + 0.01 for weight in teacher.get_weights()]
    teacher.set_weights(changed)
    with pytest.raises(ValueError, match="another teacher"):
        compare(teacher, folder=tmp_path, seeds=(0,))


@pytest.mark.one_backend
def test_weights_of_a_run_can_be_loaded(tmp_path):
    x, y = (array[40:] for array in comparisons.classes_data())
    report = compare(build(8), folder=tmp_path, seeds=(5,))
    student = build()
    with np.load(tmp_path / "student_distilled_seed_5.npz") as file:
        student.set_weights([file[name] for name in file.files])
    found = student.predict(x, verbose=0).argmax(axis=-1)
    assert report.values("student distilled")[0] == np.mean(found == y)
    record = json.loads(
        (tmp_path / "student_distilled_seed_5.json").read_text()
    )
    assert record["run"]["metric"] == report.values("student distilled")[0]
    assert isinstance(report, kd.ComparisonReport)
