"""Boundary samples of classifiers whose boundary is known."""

import numpy as np
import pytest

import keras_kd as kd
from keras_kd.data_free import boundary_samples

WEIGHTS = np.array([[1.0, -1.0], [2.0, 0.5], [0.0, 1.0]])


def linear(x):
    """Two classes, which meet at a hyperplane."""
    return x @ WEIGHTS + [0.1, -0.1]


def distance(x):
    """From the hyperplane on which both scores are the same."""
    normal = WEIGHTS[:, 0] - WEIGHTS[:, 1]
    return (x @ normal + 0.2) / np.linalg.norm(normal)


def rows(samples=200, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (samples, 3))


@pytest.mark.one_backend
def test_pairs_enclose_a_known_hyperplane():
    x, steps = rows(), 12
    own, other = np.split(boundary_samples(linear, x, steps=steps), 2)
    classes = linear(x).argmax(axis=-1)
    np.testing.assert_array_equal(linear(own).argmax(axis=-1), classes)
    np.testing.assert_array_equal(linear(other).argmax(axis=-1), 1 - classes)
    longest = 2 * 3**0.5  # The diagonal of the cube of the rows.
    assert (np.linalg.norm(own - other, axis=-1) <= longest / 2**steps).all()
    assert np.abs(distance(own)).max() <= longest / 2**steps
    assert np.abs(distance(other)).max() <= longest / 2**steps
    assert np.abs(distance(x)).mean() > 0.2


@pytest.mark.one_backend
def test_each_step_halves_the_line():
    x = np.array([[0.0], [1.0]])

    def predict(x):
        return np.stack([0.3 - x[:, 0], x[:, 0] - 0.3], axis=-1)

    one = boundary_samples(predict, x, steps=1)
    assert one[:, 0].tolist() == [0.0, 0.5, 0.5, 0.0]
    three = boundary_samples(predict, x, steps=3)
    assert three[:, 0].tolist() == [0.25, 0.375, 0.375, 0.25]


@pytest.mark.one_backend
def test_many_classes_and_images():
    """Each pair has two classes; the teacher is asked `steps + 1` times."""
    calls = []

    def predict(x):
        calls.append(len(x))
        return x.reshape(len(x), -1)

    x = np.random.default_rng(0).uniform(size=(50, 2, 2, 1))
    own, other = np.split(boundary_samples(predict, x, steps=15), 2)
    assert calls == [50] * 16
    classes = predict(own).argmax(axis=-1)
    np.testing.assert_array_equal(classes, predict(x).argmax(axis=-1))
    assert (classes != predict(other).argmax(axis=-1)).all()
    # At a boundary two scores are alike.
    second, first = np.sort(own.reshape(50, 4), axis=-1)[:, -2:].T
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.one_backend
def test_the_seed_decides_the_pairs():
    x = rows()
    first, again, other = (
        boundary_samples(linear, x, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_teacher_that_is_a_model():
    """A `FunctionTeacher` is asked as a Keras model is."""
    teacher = kd.teachers.FunctionTeacher(linear, (3,), 2, version="1")
    x = rows().astype("float32")
    found = boundary_samples(teacher, x, steps=8)
    assert np.abs(distance(found)).max() <= 2 * 3**0.5 / 2**8
    np.testing.assert_allclose(
        found, boundary_samples(linear, x, steps=8), atol=1e-6
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("predict", "told"),
    [
        (lambda x: x[:, :1], r"shape \(200, 1\).*1 - p and p"),
        (lambda x: x[:5], r"must return finite scores.*\(200, classes\)"),
        (lambda x: np.full((len(x), 2), np.nan), "finite"),
        (lambda x: np.eye(2)[np.zeros(len(x), int)], "all of class .0."),
    ],
)
def test_errors(predict, told):
    with pytest.raises(ValueError, match=told):
        boundary_samples(predict, rows())
