"""Soft targets in chunks of the vocabulary are the soft targets."""

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND
from support import numpy

from keras_kd import losses
from keras_kd.losses import chunked_soft_targets
from keras_kd.testing import assert_close
from keras_kd.testing import compiled
from keras_kd.testing import finite_differences
from keras_kd.testing import value_and_gradient

SHAPES = {
    "teacher_hidden": (2, 3, 5),
    "teacher_kernel": (5, 10),
    "teacher_bias": (10,),
    "student_hidden": (2, 3, 4),
    "student_kernel": (4, 10),
    "student_bias": (10,),
}
WEIGHTS = np.array([[1.0, 0.5, 0.0], [2.0, 0.0, 1.0]], "float32")


def both_sides(size=1.0):
    random = np.random.default_rng(0)
    return {
        name: random.normal(0.0, size, shape).astype("float32")
        for name, shape in SHAPES.items()
    }


def of(side, arrays):
    return {n: array for n, array in arrays.items() if n.startswith(side)}


def dense(arrays, temperature=1.0):
    arrays = {n: ops.convert_to_tensor(a) for n, a in arrays.items()}
    logits = [
        ops.matmul(arrays[f"{side}_hidden"], arrays[f"{side}_kernel"])
        + arrays[f"{side}_bias"]
        for side in ("teacher", "student")
    ]
    return losses.soft_targets(*logits, temperature=temperature)


def in_chunks(arrays, temperature=1.0, chunk_size=4):
    return chunked_soft_targets(
        **arrays, temperature=temperature, chunk_size=chunk_size
    )


def weighted(form, arrays, **arguments):
    """The value, and the gradient of all arrays, under weights of tokens."""
    names = list(arrays)

    def function(tensors):
        values = form(dict(zip(names, tensors)), **arguments)
        return ops.sum(ops.multiply(values, WEIGHTS)) / np.sum(WEIGHTS)

    value, slopes = value_and_gradient(function, list(arrays.values()))
    return value, dict(zip(names, slopes))


# 10 classes: whole chunks, a shorter last one, single classes, one chunk.
@pytest.mark.parametrize("chunk_size", [5, 4, 1, 10, 64])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value_and_gradient_are_those_of_soft_targets(chunk_size, temperature):
    arrays = both_sides()
    expected = weighted(dense, arrays, temperature=temperature)
    value, slopes = weighted(
        in_chunks, arrays, temperature=temperature, chunk_size=chunk_size
    )
    assert_close(value, expected[0])
    for name in of("student", slopes):
        assert np.abs(slopes[name]).max() > 1e-3
        assert_close(slopes[name], expected[1][name], what=name)
    for name, slope in of("teacher", slopes).items():
        assert np.all(slope == 0.0), f"{name} is the teacher's"


def test_values_of_tokens():
    arrays = both_sides()
    found = numpy(in_chunks(arrays))
    assert found.shape == (2, 3)
    assert_close(found, numpy(dense(arrays)))


def numpy_values(arrays):
    log_probs = []
    for side in ("teacher", "student"):
        hidden, kernel, bias = of(side, arrays).values()
        logits = hidden @ kernel + bias
        log_probs.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    teacher, student = log_probs
    return (np.exp(teacher) * (teacher - student)).sum(axis=-1)


def test_value_and_gradient_in_numpy():
    arrays = both_sides()
    exact = {name: array.astype("float64") for name, array in arrays.items()}
    _, slopes = weighted(in_chunks, arrays)
    assert_close(numpy(in_chunks(arrays)), numpy_values(exact))
    for name in of("student", exact):

        def mean(array, name=name):
            values = numpy_values({**exact, name: array})
            return np.sum(values * WEIGHTS) / np.sum(WEIGHTS)

        assert_close(slopes[name], finite_differences(mean, exact[name]))


def test_tokens_of_weight_0_are_absent():
    _, slopes = weighted(in_chunks, both_sides())
    assert np.all(slopes["student_hidden"][WEIGHTS == 0] == 0.0)


def test_biases_may_be_left_out():
    arrays = both_sides()
    arrays["teacher_bias"] *= 0.0
    arrays["student_bias"] *= 0.0
    expected = weighted(dense, arrays)
    bare = {n: a for n, a in arrays.items() if not n.endswith("bias")}
    value, slopes = weighted(in_chunks, bare)
    assert_close(value, expected[0])
    for name, slope in of("student", slopes).items():
        assert_close(slope, expected[1][name], what=name)


def test_least_where_both_sides_agree():
    arrays = both_sides()
    for name in list(of("student", arrays)):
        arrays[name] = arrays[name.replace("student", "teacher")]
    value, slopes = weighted(in_chunks, arrays)
    assert abs(value) < 1e-6
    assert max(np.abs(slope).max() for slope in slopes.values()) < 1e-6


def test_huge_logits():
    arrays = both_sides()
    for name in ("teacher_kernel", "student_kernel"):
        arrays[name] *= 1e4
    value, slopes = weighted(in_chunks, arrays)
    expected, dense_slopes = weighted(dense, arrays)
    assert_close(value, expected)
    for name, slope in of("student", slopes).items():
        assert np.isfinite(slope).all()
        assert_close(slope, dense_slopes[name])


def test_a_constant_in_all_logits_changes_nothing():
    arrays = both_sides()
    shifted = {**arrays, "student_bias": arrays["student_bias"] + 8.0}
    assert_close(numpy(in_chunks(shifted)), numpy(in_chunks(arrays)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    half = {
        name: ops.cast(array, dtype) for name, array in both_sides().items()
    }
    full = {name: numpy(ops.cast(a, "float32")) for name, a in half.items()}
    value, slopes = weighted(in_chunks, half)
    expected, dense_slopes = weighted(in_chunks, full)
    assert_close(value, expected)
    for name, slope in of("student", slopes).items():
        # The gradient is rounded to its array's precision, once.
        allowed = 2.0 ** (-11 if dtype == "float16" else -8)
        assert keras.backend.standardize_dtype(slope.dtype) == dtype
        assert_close(slope.astype("float32"), dense_slopes[name], allowed)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs as it is")
@pytest.mark.parametrize("chunk_size", [4, 5])
def test_compiled_with_an_unknown_batch(chunk_size):
    arrays = both_sides()
    teacher = of("teacher", arrays)
    kernel, bias = arrays["student_kernel"], arrays["student_bias"]

    def function(hidden):
        student = {
            "student_hidden": hidden,
            "student_kernel": ops.convert_to_tensor(kernel),
            "student_bias": ops.convert_to_tensor(bias),
        }
        values = in_chunks({**teacher, **student}, chunk_size=chunk_size)
        return ops.sum(ops.multiply(values, WEIGHTS))

    hidden = arrays["student_hidden"]
    eager = value_and_gradient(function, hidden)
    assert_close(value_and_gradient(compiled(function, hidden), hidden), eager)


class Head(keras.layers.Layer):
    """A projection that learns from a teacher's, by a loss of its own."""

    def __init__(self, teacher):
        super().__init__()
        self.dense = keras.layers.Dense(10)
        self.teacher = teacher

    def build(self, shape):
        self.dense.build(shape)

    def call(self, hidden):
        values = chunked_soft_targets(
            **self.teacher,
            student_hidden=hidden,
            student_kernel=self.dense.kernel,
            student_bias=self.dense.bias,
            chunk_size=4,
        )
        self.add_loss(ops.mean(values))
        return hidden


def test_trains_the_variables_of_a_layer():
    arrays = both_sides()
    layer = Head(of("teacher", arrays))
    model = keras.Sequential([keras.Input((3, 4), batch_size=2), layer])
    layer.dense.set_weights([arrays["student_kernel"], arrays["student_bias"]])
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(arrays["student_hidden"], batch_size=2, shuffle=False, verbose=0)

    def mean(tensors):
        kernel, bias = tensors
        changed = {"student_kernel": kernel, "student_bias": bias}
        return ops.mean(dense({**arrays, **changed}))

    before = [arrays["student_kernel"], arrays["student_bias"]]
    _, slopes = value_and_gradient(mean, before)
    for old, new, slope in zip(before, layer.dense.get_weights(), slopes):
        assert_close(old - new, slope)


# --- refused ----------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "change",
    [
        {"student_kernel": np.zeros((10, 4), "float32")},
        {"student_kernel": np.zeros((4, 9), "float32")},
        {"student_bias": np.zeros(9, "float32")},
        {"teacher_hidden": np.zeros((2, 4, 5), "float32")},
        {"teacher_hidden": np.zeros((6, 5), "float32")},
    ],
)
def test_shapes_that_do_not_fit(change):
    message = "hidden states.*same positions and classes. Received:.*transposed"
    with pytest.raises(ValueError, match=message):
        in_chunks({**both_sides(), **change})


@pytest.mark.one_backend
@pytest.mark.parametrize("chunk_size", [0, -1, 2.0, True, None])
def test_chunk_size_that_is_no_count(chunk_size):
    with pytest.raises(ValueError, match="`chunk_size` must be.*Received"):
        in_chunks(both_sides(), chunk_size=chunk_size)
