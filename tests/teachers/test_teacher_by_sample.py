"""TeacherBySample: each sample's features are those of its own teacher."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd


def model(width=5, classes=3, name=None, activation=None):
    inputs = keras.Input((4,), name="x")
    x = keras.layers.Dense(width, "tanh", name="hidden")(inputs)
    x = keras.layers.Dense(classes, activation, name="head")(x)
    return keras.Model(inputs, x, name=name)


def inputs(samples=6):
    x = np.random.default_rng(0).normal(size=(samples, 4)).astype("float32")
    return {"x": x, "teacher": np.arange(samples) * 2 % 3}


def by_sample(teachers=None, **arguments):
    teachers = teachers or {"a": model(), "b": model(), "c": model()}
    return kd.teachers.TeacherBySample(teachers, **arguments)


def distiller_of(teacher, transfers=None):
    transfers = transfers or [
        kd.losses.LogitMatching(),
        kd.Transfer(
            kd.losses.FeatureMatching(), teacher="hidden", student="hidden"
        ),
    ]
    distiller = kd.Distiller(teacher, model(), transfers)
    distiller.compile(keras.optimizers.SGD(0.1), loss=None)
    return distiller


def features(models, x, tap):
    found = [numpy(kd.extract_features(m, x["x"], tap)[tap]) for m in models]
    return np.stack(found)[x["teacher"], np.arange(len(x["x"]))]


def test_each_sample_has_the_features_of_its_teacher():
    models = {name: model() for name in "abc"}
    distiller, x = distiller_of(by_sample(models)), inputs()
    student = {
        tap: numpy(kd.extract_features(distiller.student, x["x"], tap)[tap])
        for tap in ("", "hidden")
    }
    logs = distiller.fit(x, verbose=0, batch_size=6).history
    for name, tap in [("logit_matching", ""), ("feature_matching", "hidden")]:
        errors = (features(models.values(), x, tap) - student[tap]) ** 2
        np.testing.assert_allclose(
            logs[f"{name}_loss"], [np.mean(errors)], rtol=1e-4
        )


def test_a_sample_without_a_teacher():
    distiller, x = distiller_of(by_sample()), inputs()
    x["teacher"][2] = 3
    with pytest.raises(ValueError, match="'teacher' must hold numbers from 0"):
        distiller.fit(x, verbose=0)


@pytest.mark.one_backend
def test_names_and_numbers():
    teacher = by_sample()
    assert teacher.numbers(["c", "a", "c"]).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match=r"Received: 'd', 'e'\. Use"):
        teacher.numbers(["a", "e", "d"])


@pytest.mark.one_backend
def test_another_teacher_is_refused(tmp_path):
    models = {name: model() for name in "ab"}
    first = distiller_of(by_sample(models))
    x = inputs()
    x["teacher"] %= 2
    first.fit(x, verbose=0)
    path = tmp_path / "state.weights.h5"
    first.save_weights(path)
    distiller_of(by_sample(models)).load_weights(path)
    swapped = {"a": models["b"], "b": models["a"]}
    with pytest.raises(ValueError, match="is not the one that this training"):
        distiller_of(by_sample(swapped)).load_weights(path)


@pytest.mark.one_backend
def test_teachers_that_share_layers():
    first = model()
    shared = first.get_layer("hidden").output
    second = keras.Model(first.input, keras.layers.Dense(3)(shared))
    teacher = by_sample({"a": first, "b": second})
    assert len(teacher.variables) == 6


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: by_sample({"a": model()}), "a dict of two or more teachers"),
        (
            lambda: by_sample(
                {"a": model(), "b": kd.teachers.MovingAverage(model())}
            ),
            "follows the student",
        ),
        (
            lambda: distiller_of(by_sample({"a": model(), "b": model(6)})),
            "features of the same shapes. Received: .*6.* at 'hidden'",
        ),
        (
            lambda: distiller_of(
                by_sample({"a": model(), "b": model(activation="softmax")}),
                kd.losses.SoftTargets(),
            ),
            "must end in the same activation",
        ),
        (
            lambda: distiller_of(by_sample()).fit(inputs()["x"], verbose=0),
            "number of each sample's teacher. Received: no dict",
        ),
        (
            lambda: distiller_of(by_sample(column="subject")).fit(
                inputs(), verbose=0
            ),
            r"\['x', 'teacher'\] as inputs, expected integers under 'subject'",
        ),
        (
            lambda: distiller_of(by_sample()).fit(
                {**inputs(), "teacher": np.ones(6, "float32")}, verbose=0
            ),
            "it of type float32, expected integers",
        ),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(ValueError, match=match):
        make()
