"""Singular vectors from layer to layer, against NumPy, and in a fit."""

import functools
import json

import keras
import numpy as np
import pytest
from battery import every_check
from battery import scaled
from keras import ops
from support import BACKEND
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd
from keras_kd.losses import SingularVectors
from keras_kd.losses import singular_vectors
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close


def published(vectors, axis=-1):
    """Loops, and the decomposition of the map itself, not of its square."""

    def leading(array, count):
        channels = array.shape[axis if axis < 0 else axis - 1]
        rows = np.moveaxis(array, axis if axis < 0 else axis - 1, -1)
        _, scales, right = np.linalg.svd(rows.reshape(-1, channels))
        count = min(count, len(scales))
        return scales[:count], list(right[:count])

    def paired(teacher, student):
        scales, directions = leading(teacher, vectors)
        _, offered = leading(student, vectors + 3)
        pairs = []
        for scale, direction in zip(scales, directions):
            if direction[np.argmax(np.abs(direction))] < 0:
                direction = -direction
            best = max(offered, key=lambda other: abs(other @ direction))
            best = best if best @ direction >= 0 else -best
            scale = scale / np.sqrt(np.sum(scales**2))
            pairs.append((scale * direction, scale * best))
        return pairs

    def of_sample(teacher, student):
        layers = [paired(*features) for features in zip(teacher, student)]
        value = 0.0
        for lower, upper in zip(layers, layers[1:]):
            for (t0, s0), (t1, s1) in zip(lower, upper):
                gap = np.exp(-((t1[:, None] - t0) ** 2) / 8)
                gap -= np.exp(-((s1[:, None] - s0) ** 2) / 8)
                value += np.sum(gap**2)
        return value

    def values(teacher, student):
        return np.array(
            [
                of_sample([t[i] for t in teacher], [s[i] for s in student])
                for i in range(len(teacher[0]))
            ]
        )

    return values


def maps(*shapes, seed, turned=0.0, order=(0, 1, 2, 3)):
    """Maps whose singular values are far apart.

    Where two are equal, or two of the student's vectors are as close to the
    teacher's, the loss has a jump and no gradient. So the values are 1, 1/2,
    1/4, ..., in some order of the directions, and the student's directions
    are the teacher's, turned a little.
    """
    random = np.random.default_rng(3)  # the directions: of both sides
    own = np.random.default_rng(seed)
    features = []
    for *sizes, channels in shapes:
        positions = int(np.prod(sizes))
        array = np.zeros((6, positions, channels))
        for sample in array:
            right = random.normal(size=(channels, channels))
            right = right + turned * own.normal(size=right.shape)
            right, _ = np.linalg.qr(right)
            left, _ = np.linalg.qr(own.normal(size=(positions, positions)))
            for place, direction in enumerate(order[: min(sample.shape)]):
                sample += 0.5**place * np.outer(
                    left[:, place], right[:, direction]
                )
        features.append(array.reshape(6, *sizes, channels).astype("float32"))
    return features


def negated(array):
    return -array


def mirrored(array):
    return array[:, ::-1].copy()


# One name, or JAX would compile each new loss of a check anew.
make = functools.partial(SingularVectors, name="singular_vectors")
CASES = {
    # The lower map has more positions than channels, the upper one fewer.
    "one": LossCase(
        make,
        maps((3, 2, 4), (3, 5), seed=1),
        maps((3, 2, 4), (3, 5), seed=2, turned=0.3),
        reference=published(1),
        invariances=(negated, mirrored, scaled),
    ),
    # The student's second direction is the teacher's first.
    "two_of_three_layers": LossCase(
        functools.partial(make, 2),
        maps((3, 3, 4), (2, 3, 5), (4, 3), seed=3),
        maps((5, 4), (2, 3, 5), (4, 3), seed=4, turned=0.2, order=(1, 2, 0, 3)),
        reference=published(2),
        invariances=(negated, mirrored, scaled),
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


@pytest.mark.parametrize("name", CASES)
def test_the_signs_of_the_decomposition_change_nothing(name, monkeypatch):
    case = CASES[name]
    expected = case.value_and_gradient(case.make())
    eigh, calls = ops.eigh, []

    def other_signs(matrix):
        values, basis = eigh(matrix)
        signs = np.resize([-1.0, 1.0, 1.0, -1.0, -1.0], basis.shape[-1])
        calls.append(signs)
        return values, basis * ops.convert_to_tensor(signs, basis.dtype)

    monkeypatch.setattr(ops, "eigh", other_signs)
    # Not compiled: what was compiled before has the library's signs.
    found = case.value_and_gradient(case.make(), compiled_as="nothing")
    assert_close(found, expected, case.tolerance)
    assert calls


def test_the_teachers_largest_entries_are_positive():
    """A layer's sign next to another's matters: it is fixed, not arbitrary."""
    direction = np.array([0.8, -0.6], "float32")
    other = np.array([0.6, 0.8], "float32")
    upright = [each.reshape(1, 1, 2) for each in (direction, other)]
    flipped = [each.reshape(1, 1, 2) for each in (-direction, other)]
    student = [np.array([[[1.0, 0.0]]], "float32")] * 2
    values = [singular_vectors(t, student) for t in (upright, flipped)]
    gap = np.exp(-((other[:, None] - direction) ** 2) / 8)
    gap -= np.exp(-np.array([[0.0, 1.0], [1.0, 0.0]]) / 8)
    for value in values:
        assert_close(numpy(value), np.array([np.sum(gap**2)]))


@pytest.mark.parametrize("positions", [3, 8])
def test_equal_singular_values_have_a_finite_gradient(positions):
    """Where a library's gradient is 1 / 0."""
    same = [np.eye(positions, 4, dtype="float32")[None].repeat(6, 0)] * 2
    case = CASES["one"]._replace(student=same)
    case = case._replace(teacher=maps((3, 4), (3, 4), seed=1))
    value, slopes = case.value_and_gradient(case.make())
    assert np.isfinite(value) and value > 0
    for slope in slopes:
        assert np.isfinite(slope).all() and np.abs(slope).max() < 1e3


def test_a_direction_that_is_rounding_is_none():
    """A map that is the same everywhere has one direction, not four."""
    teacher = maps((3, 2, 4), (3, 4), seed=1)
    student = maps((1, 4), (1, 4), seed=2, turned=1.0)
    everywhere = [array.repeat(9, axis=1) for array in student]
    assert_close(
        numpy(singular_vectors(teacher, everywhere)),
        numpy(singular_vectors(teacher, student)),
    )
    one = singular_vectors(everywhere, teacher)
    assert_close(
        numpy(singular_vectors(everywhere, teacher, vectors=3)), numpy(one)
    )


def test_an_empty_map_has_no_direction():
    teacher = maps((3, 4), (3, 4), seed=1)
    empty = [np.zeros_like(array) for array in teacher]
    t0, t1 = (np.linalg.svd(array)[2][:, 0] for array in teacher)
    t0, t1 = (
        t * np.sign(t.max(1, keepdims=True) + t.min(1, keepdims=True))
        for t in (t0, t1)
    )
    gap = np.exp(-((t1[:, :, None] - t0[:, None]) ** 2) / 8) - 1.0
    assert_close(
        numpy(singular_vectors(teacher, empty)), np.sum(gap**2, axis=(1, 2))
    )


def test_axis_two_is_the_later_port():
    """Its vectors are over the columns of the maps."""
    random = np.random.default_rng(0)
    sides = random.normal(size=(2, 2, 6, 3, 4, 2))
    expected = published(1, axis=2)(*sides)
    found = singular_vectors(*map(list, sides.astype("float32")), axis=2)
    assert_close(numpy(found), expected)


def test_channels_first_is_channels_last_transposed():
    case = CASES["two_of_three_layers"]
    first = case.change(
        lambda array: np.moveaxis(array, -1, 1).copy(), "teacher", "student"
    )
    assert_close(first.value(case.make(axis=1)), case.value(case.make()))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are known")
def test_maps_of_any_size():
    import tensorflow as tf

    case = CASES["one"]
    specs = [
        tf.TensorSpec((None, *[None] * (v.ndim - 2), v.shape[-1]))
        for v in case.teacher
    ]
    function = tf.function(singular_vectors, input_signature=[specs, specs])
    assert_close(
        numpy(function(case.teacher, case.student)),
        numpy(singular_vectors(case.teacher, case.student)),
    )


def test_the_student_learns_through_an_adapter():
    distiller = kd.Distiller(
        functional_model(6, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                SingularVectors(),
                teacher=["stage1", "stage2"],
                student=["stage1", "stage2"],
                adapter=kd.layers.FeatureAdapter(),
            )
        ],
    )
    distiller.compile(keras.optimizers.Adam(0.01), cross_entropy())
    history = distiller.fit(*data(), batch_size=12, epochs=6, verbose=0).history
    terms = history["singular_vectors_loss"]
    assert np.isfinite(terms).all() and terms[-1] < 0.9 * terms[0]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ([(4, 8, 2)], [(4, 8, 2)], "two taps or more"),
        ([(4, 8, 2)] * 2, [(4, 8, 2)] * 3, "two taps or more"),
        ([(4, 2)] * 2, [(4, 2)] * 2, "maps or token sequences"),
        ([(4, 8, 3)] * 2, [(4, 8, 2)] * 2, "channels.*FeatureAdapter"),
        ([(4, 8, 1)] * 2, [(4, 8, 1)] * 2, "at least vectors=2 positions"),
        ([(4, 1, 1, 3)] * 2, [(4, 8, 3)] * 2, "at least vectors=2 positions"),
    ],
)
def test_layers_that_do_not_compare(teacher, student, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        SingularVectors(2).check_shapes(teacher, student)


@pytest.mark.one_backend
def test_layers_that_compare():
    layers = [(None, None, None, 3), (None, 2, 1, 3)]
    SingularVectors(2).check_shapes(layers, [(4, 8, 3), (4, 2, 3)])


@pytest.mark.one_backend
@pytest.mark.parametrize("vectors", [0, -1, 1.0, True, None])
def test_numbers_of_vectors_that_are_none(vectors):
    with pytest.raises(ValueError, match="`vectors` must be .*Received"):
        SingularVectors(vectors)


@pytest.mark.one_backend
def test_each_argument_is_in_the_config():
    loss = SingularVectors(3, axis=1)
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert (copy.vectors, copy.axis) == (3, 1)
