"""The table of ways: what is trained, on what, and what is measured."""

import keras
import numpy as np
import pytest
from keras import layers
from support import numpy

from keras_kd import data_free

TEACHER = np.array([[2.0, -1.0, 0.0], [-1.0, 1.0, 0.5]])
X_TEST = np.array([[1, 0], [0, 1], [1, 1], [2, 1]], "float32")
Y_TEST = np.array([0, 1, 1, 2])  # The teacher says 0, 1, 0, 0.


def linear_model(weights=None):
    dense = layers.Dense(3, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((2,)), dense])
    if weights is not None:
        model.set_weights([weights])
    return model


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def trained_by_hand(x, steps, rate, temperature):
    """SGD on `T^2 KL(teacher || student)`, from weights of zero."""
    weights = np.zeros((2, 3))
    targets = softmax(x @ TEACHER / temperature)
    for _ in range(steps):
        errors = softmax(x @ weights / temperature) - targets
        weights -= rate * temperature * x.T @ errors / len(x)
    return weights


def test_rows_are_what_training_by_hand_gives():
    students = []

    def build():
        students.append(linear_model())
        return students[-1]

    x = np.array([[3, 1], [0, 2], [-1, 1], [1, -2]], "float32")
    table = data_free.compare(
        linear_model(TEACHER),
        build,
        {"by hand": lambda student: student.set_weights([-TEACHER])},
        (X_TEST, Y_TEST),
        steps=3,
        batch_size=4,
        value_range=(1.0, 1.000001),
        real=(x, np.zeros(4)),
        optimizer=keras.optimizers.SGD(0.5),
        temperature=2.0,
    )
    assert [row.name for row in table] == [
        "teacher",
        "noise",
        "unrelated",
        "by hand",
        "real",
    ]
    assert table[0][1:] == ((0.5,), (1.0,), ())
    # The negative of the teacher says 1, 0, 1, 1.
    assert table[3].accuracy == (0.25,) and table[3].agreement == (0.0,)
    assert table[2][1:] == ((), (), ())
    assert all(row.seconds[0] >= 0 for row in (table[1], table[3], table[4]))
    for student, samples in {0: np.ones((4, 2)), 2: x}.items():
        np.testing.assert_allclose(
            numpy(students[student].weights[0]),
            trained_by_hand(samples, 3, 0.5, 2.0),
            atol=1e-5,
        )
    found = (X_TEST @ trained_by_hand(x, 3, 0.5, 2.0)).argmax(axis=-1)
    assert table[4].accuracy == (np.mean(found == Y_TEST),)
    assert table[4].agreement == (np.mean(found == [0, 1, 0, 0]),)


def ways(function):
    return data_free.compare(
        linear_model(TEACHER),
        linear_model,
        {"way": function},
        (X_TEST, Y_TEST),
        steps=1,
        batch_size=4,
        statistics=(0.0, 1.0),
        seeds=(3, 4),
    )


@pytest.mark.one_backend
def test_each_seed_has_a_fresh_student():
    seen = []

    def way(student):
        seen.append((student, np.random.uniform()))
        assert not numpy(student.weights[0]).any()
        student.set_weights([TEACHER * (-1) ** len(seen)])

    table = ways(way)
    assert seen[0][0] is not seen[1][0]
    # Keras and NumPy have the seeds.
    keras.utils.set_random_seed(4)
    assert seen[1][1] == np.random.uniform()
    assert table[3].accuracy == (0.25, 0.5)
    assert table[3].agreement == (0.0, 1.0)
    assert len(table[1].accuracy) == len(table[1].seconds) == 2


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore:Limiting steps_per_epoch")
def test_a_trial_run_tests_on_all_data():
    """Keras' limit of steps is one of training, and cuts `predict` short."""
    keras.config.set_max_steps_per_epoch(1)
    try:
        table = data_free.compare(
            linear_model(TEACHER),
            linear_model,
            {"way": lambda student: student.set_weights([TEACHER])},
            (X_TEST, Y_TEST),
            steps=1,
            batch_size=1,
            value_range=(0.0, 1.0),
        )
    finally:
        keras.config.set_max_steps_per_epoch(None)
    assert table[3].accuracy == (0.5,) and table[3].agreement == (1.0,)


@pytest.mark.one_backend
def test_what_is_printed():
    rows = [
        data_free.ComparisonRow("teacher", (0.5,), (1.0,)),
        data_free.ComparisonRow("way", (0.25, 0.5), (0.0, 1.0), (2.0, 4.0)),
        data_free.ComparisonRow("real"),
    ]
    table = str(data_free.Comparison(rows)).splitlines()
    assert table[1].split() == ["teacher", "50.0", "100.0"]
    # 25 and 50: the mean 37.5, the deviation 12.5 times root two.
    printed = "way 37.5 ± 17.7 50.0 ± 70.7 3.0 ± 1.4"
    assert " ".join(table[2].split()) == printed
    assert table[3].split() == ["real", "not", "given"]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ways": {"real": X_TEST}}, "names .* are taken"),
        ({"ways": [X_TEST]}, "must be a dict"),
        ({"ways": {"way": X_TEST[:, :1]}}, r"'way'.*shape \(n, 2\)"),
        ({"real": X_TEST[0]}, r"'real'.*\(2,\)"),
        ({"test_data": (X_TEST, np.eye(4))}, r"integers.*\(4, 4\)"),
        ({"value_range": None}, "either `value_range`"),
        ({"seeds": ()}, "one or more integers"),
        ({"steps": 0}, "steps"),
    ],
)
def test_errors_come_before_training(changed, told):
    def build():
        raise AssertionError

    arguments = {
        "ways": {},
        "test_data": (X_TEST, Y_TEST),
        "steps": 1,
        "batch_size": 4,
        "value_range": (0.0, 1.0),
    }
    with pytest.raises(ValueError, match=told):
        data_free.compare(
            linear_model(TEACHER), build, **{**arguments, **changed}
        )


@pytest.mark.one_backend
def test_error_of_one_student_for_all():
    model = linear_model()
    with pytest.raises(ValueError, match="new Keras model each time"):
        data_free.compare(
            linear_model(TEACHER),
            lambda: model,
            {"way": lambda student: None},
            (X_TEST, Y_TEST),
            steps=1,
            batch_size=4,
            value_range=(0.0, 1.0),
        )
