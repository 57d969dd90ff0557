"""MovingAverage: what it averages, when, and how it is resumed."""

import keras
import numpy as np
import pytest
from support import KINDS
from support import MODELS
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import weights_of

import keras_kd as kd


def make(seed=0, kind="functional", loss=kd.losses.LogitMatching, **arguments):
    keras.utils.set_random_seed(seed)
    student = MODELS[kind](4, name="student", dropout=0.2)
    teacher = kd.teachers.MovingAverage(student, **arguments)
    distiller = kd.Distiller(
        teacher, student, [kd.Transfer(loss())], hard_weight=1.0
    )
    distiller.compile("adam", cross_entropy())
    return distiller


def averaged(students, decays):
    """The average of the student's weights, by NumPy in float64."""
    average = [np.array(weight, "float64") for weight in students[0]]
    for weights, decay in zip(students[1:], decays):
        average = [
            decay * a + (1 - decay) * w for a, w in zip(average, weights)
        ]
    return average


SCHEDULE = kd.schedules.Annealing(0.5, 1.0, steps=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "arguments, decays",
    [
        ({"decay": 0.9, "warm_up": False}, [0.9] * 6),
        ({"decay": 0.7}, [1 / 2, 2 / 3, 0.7, 0.7, 0.7, 0.7]),
        (
            {"decay": SCHEDULE, "warm_up": False},
            [0.625, 0.75, 0.875, 1.0, 1.0, 1.0],
        ),
    ],
    ids=["constant", "warm_up", "schedule"],
)
def test_it_follows_each_step(kind, arguments, decays):
    distiller = make(kind=kind, **arguments)
    students = [distiller.student.get_weights()]
    x, y = data()
    # On JAX the variables have their values again when a `fit` ends.
    for start in (0, 8, 16) * 2:
        batch = slice(start, start + 8)
        distiller.fit(x[batch], y[batch], 8, verbose=0)
        students.append(distiller.student.get_weights())
    expected = averaged(students, decays)
    for weight, value in zip(distiller.teacher.model.weights, expected):
        np.testing.assert_allclose(
            numpy(weight.value), value, rtol=1e-5, atol=1e-6
        )


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has it on JAX and TF"
)
def test_it_follows_every_step_of_an_execution():
    x, y = data()
    weights = []
    for steps in (1, 3):
        distiller = make(decay=0.8)
        distiller.compile("adam", cross_entropy(), steps_per_execution=steps)
        distiller.fit(x, y, 8, 2, shuffle=False, verbose=0)
        weights.append(distiller.teacher.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_it_predicts_with_the_averaged_weights():
    distiller = make(decay=0.5, warm_up=False)
    x, y = data()
    distiller.fit(x, y, 8, 2, verbose=0)
    teacher = distiller.teacher.predict(x, verbose=0)
    averaged = distiller.teacher.model.predict(x, verbose=0)
    np.testing.assert_allclose(teacher, averaged, rtol=1e-6)
    student = distiller.student.predict(x, verbose=0)
    logs = distiller.evaluate(x, y, 24, verbose=0, return_dict=True)
    expected = np.mean(np.square(teacher - student))
    np.testing.assert_allclose(logs["logit_matching_loss"], expected, rtol=1e-4)
    assert expected > 0


def test_evaluate_moves_nothing():
    distiller = make(decay=0.5)
    x, y = data()
    distiller.fit(x, y, verbose=0)
    before = weights_of(distiller.teacher)
    distiller.evaluate(x, y, verbose=0)
    for a, b in zip(before, weights_of(distiller.teacher)):
        np.testing.assert_array_equal(a, b)


def test_the_student_it_was_made_of_is_not_the_copy():
    keras.utils.set_random_seed(0)
    student = functional_model(4, name="student")
    teacher = kd.teachers.MovingAverage(student)
    mine = {id(weight) for weight in student.weights}
    assert not mine & {id(weight) for weight in teacher.weights}
    for a, b in zip(weights_of(student), weights_of(teacher.model)):
        np.testing.assert_array_equal(a, b)


def test_saved_and_loaded_it_goes_on(tmp_path):
    distiller = make(decay=0.8)
    x, y = data()
    distiller.fit(x, y, 8, verbose=0)
    path = tmp_path / "distiller.keras"
    distiller.save(path)
    loaded = keras.models.load_model(path)
    loaded.set_teacher(kd.teachers.MovingAverage(loaded.student, 0.8))
    for a, b in zip(
        distiller.teacher.get_weights(), loaded.teacher.get_weights()
    ):
        np.testing.assert_array_equal(a, b)
    # The same random states for both; Keras draws while it builds a fit.
    loaded.fit(x, y, 8, verbose=0)
    loaded.load_weights(path)
    second = loaded.fit(x, y, 8, 2, shuffle=False, verbose=0).history
    distiller.load_weights(path)
    first = distiller.fit(x, y, 8, 2, shuffle=False, verbose=0).history
    assert first == second
    for a, b in zip(
        distiller.teacher.get_weights(), loaded.teacher.get_weights()
    ):
        np.testing.assert_array_equal(a, b)


class Stop(Exception):
    pass


class StopAt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Stop


def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path):
    x, y = data()

    def run(folder, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder)
        distiller = make(decay=0.8)
        distiller.fit(
            x,
            y,
            8,
            epochs=4,
            shuffle=False,
            callbacks=[backup, *callbacks],
            verbose=0,
        )
        return distiller

    whole = run("whole")
    with pytest.raises(Stop):
        run("stopped", StopAt())
    resumed = run("stopped")
    for side in ("student", "teacher"):
        for a, b in zip(
            getattr(whole, side).get_weights(),
            getattr(resumed, side).get_weights(),
        ):
            np.testing.assert_array_equal(a, b)


def test_a_state_is_for_one_kind_of_teacher(tmp_path):
    moving = make()
    frozen = kd.Distiller(
        functional_model(4, name="teacher"),
        functional_model(4, name="student", dropout=0.2),
        [kd.Transfer(kd.losses.LogitMatching())],
    )
    frozen.compile("adam", cross_entropy())
    for distiller in (moving, frozen):
        distiller.fit(*data(), verbose=0)
    for mine, other in ((moving, frozen), (frozen, moving)):
        path = tmp_path / "state.weights.h5"
        mine.save_weights(path)
        before = weights_of(other.student)
        with pytest.raises(ValueError, match="is not of the kind"):
            other.load_weights(path)
        for a, b in zip(before, weights_of(other.student)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.one_backend
def test_weights_in_half_precision_are_refused():
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16")]
    )
    with pytest.raises(ValueError, match="an average never changes"):
        kd.teachers.MovingAverage(student)


def test_mixed_precision_keeps_small_steps():
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_bfloat16")]
    )
    teacher = kd.teachers.MovingAverage(student, 0.999, warm_up=False)
    student.layers[0].bias.assign([1.0, 2.0, 4.0])
    for step in range(3):
        teacher.follow(student, step + 1)
    bias = numpy(teacher.model.layers[0].bias.value)
    share = 1.0 - 0.999**3
    np.testing.assert_allclose(bias, share * np.array([1, 2, 4]), rtol=1e-4)


def test_a_normalization_is_copied_with_its_statistics():
    x = np.random.default_rng(0).normal(5.0, 10.0, (64, 4)).astype("float32")
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    student = keras.Sequential(
        [keras.Input((4,)), normalization, keras.layers.Dense(3)]
    )
    teacher = kd.teachers.MovingAverage(student)
    np.testing.assert_allclose(
        teacher.predict(x, verbose=0), student.predict(x, verbose=0), rtol=1e-5
    )


def test_the_arguments_decide_after_loading(tmp_path):
    schedule = kd.schedules.Annealing(0.5, 1.0, steps=10)
    distiller = make(decay=schedule)
    distiller.fit(*data(), 8, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    teacher = kd.teachers.MovingAverage(loaded.student, schedule)
    loaded.set_teacher(teacher)
    loaded.fit(*data(), 8, verbose=0)
    np.testing.assert_allclose(numpy(teacher.decay.value), 0.8, rtol=1e-6)


def test_a_refused_teacher_takes_nothing(tmp_path):
    distiller = kd.Distiller(
        kd.teachers.MovingAverage(functional_model(4, name="student"), 0.5),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="model/stage2",
                student="stage2",
            )
        ],
    )
    distiller.compile("adam", cross_entropy())
    distiller.fit(*data(), verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    renamed = functional_model(4, name="student")
    renamed = keras.models.clone_model(
        renamed,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": f"other_{layer.name}"}
        ),
    )
    with pytest.raises(ValueError, match="No layer 'model/stage2'"):
        loaded.set_teacher(kd.teachers.MovingAverage(renamed))
    loaded.set_teacher(kd.teachers.MovingAverage(loaded.student, 0.5))
    for a, b in zip(
        distiller.teacher.get_weights(), loaded.teacher.get_weights()
    ):
        np.testing.assert_array_equal(a, b)


def test_it_can_be_saved_itself(tmp_path):
    keras.utils.set_random_seed(0)
    student = functional_model(4, name="student")
    teacher = kd.teachers.MovingAverage(student, SCHEDULE, warm_up=False)
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.models.load_model(tmp_path / "teacher.keras")
    x, _ = data()
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), student.predict(x, verbose=0), rtol=1e-5
    )
    assert loaded.get_config()["decay"] == teacher.get_config()["decay"]


@pytest.mark.one_backend
def test_errors():
    student = functional_model(4, name="student")
    with pytest.raises(ValueError, match="must be at most 1"):
        kd.teachers.MovingAverage(student, 1.5)
    with pytest.raises(ValueError, match="finite non-negative"):
        kd.teachers.MovingAverage(student, -0.1)
    with pytest.raises(ValueError, match="must be a built Keras model"):
        kd.teachers.MovingAverage(keras.Sequential([keras.layers.Dense(3)]))
    other = functional_model(6, name="other")
    with pytest.raises(ValueError, match="average of another student"):
        kd.Distiller(kd.teachers.MovingAverage(other), student)
