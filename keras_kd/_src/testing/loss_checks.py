"""What a verified loss keeps to, a check each."""

import functools
import json

import keras
import numpy as np
from keras import ops

from keras_kd._src.testing.gradients import BACKEND
from keras_kd._src.testing.gradients import assert_close
from keras_kd._src.testing.gradients import finite_differences


def checks_of(case):
    """The checks that apply to a case, by name.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> views = np.ones((2, 6, 3), "float32")
    >>> case = kd.testing.LossCase(kd.losses.LogitMatching, *views)
    >>> "numpy" in checks_of(case)  # there is no reference
    False
    """
    checks = {
        "numpy": case.reference and check_numpy,
        "minimum": case.identical and check_minimum,
        "invariances": case.invariances and check_invariances,
        "order": case.any_order and check_order,
        "absent": check_absent,
        "twice": case.mean_over_samples and check_twice,
        "nobody": check_nobody,
        "extreme": check_extreme,
        "half": check_half,
        "constant": check_constant,
        "one_sample": check_one_sample,
        "compiled": BACKEND != "torch" and check_compiled,
        "serialization": check_serialization,
    }
    return {name: check for name, check in checks.items() if check}


WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0, 0.0, 1.0], "float32")


def _weights(case, pattern=WEIGHTS):
    return np.resize(pattern, case.samples)


def check_numpy(case):
    """Value and gradient are those of the reference, 1e-5 relative."""
    teacher, student = keras.tree.map_structure(
        lambda x: x.astype("float64"), (case.teacher, case.student)
    )
    context = {} if case.labels is None else {"labels": case.labels}

    def reference(student):
        return np.mean(case.reference(teacher, student, **context))

    value, gradient = case.value_and_gradient(case.make())
    assert_close(value, reference(student), case.tolerance, "values")
    expected = finite_differences(reference, student)
    assert_close(gradient, expected, case.tolerance, "gradients")


def check_minimum(case):
    """At identical views the loss is least, and flat if it is smooth."""
    identical = case._replace(teacher=case.identical(case.student))
    value, gradient = identical.value_and_gradient(case.make())
    _, slope = case.value_and_gradient(case.make())
    scale = max(case.value(case.make()) - case.minimum, 1e-6)
    assert abs(value - case.minimum) <= 1e-5 * max(scale, 1.0), value
    steepest = max(np.abs(g).max() for g in keras.tree.flatten(slope))
    for flat in keras.tree.flatten(gradient):
        assert np.isfinite(flat).all(), "the gradient is not finite"
        is_flat = np.abs(flat).max() <= 1e-4 * steepest
        assert is_flat or not case.smooth, "the gradient is not 0"
    assert case.value(case.make()) > case.minimum + 1e-6


def check_invariances(case):
    """What should change nothing, changes nothing, on either side."""
    expected = case.value(case.make())
    for change in case.invariances:
        for side in ("teacher", "student"):
            found = case.change(change, side).value(case.make())
            assert_close(found, expected, case.tolerance, change.__name__)


def check_order(case):
    """The order of the batch changes nothing but the gradient's order."""
    order = np.random.default_rng(0).permutation(case.samples)
    weights = _weights(case, np.arange(1.0, 7.0, dtype="float32"))
    value, gradient = case.value_and_gradient(case.make(), weights)
    found = case.take(order).value_and_gradient(case.make(), weights[order])
    ordered = keras.tree.map_structure(lambda slope: slope[order], gradient)
    assert_close(found, (value, ordered), case.tolerance)


def check_absent(case):
    """A sample of weight 0 is absent, whatever its values."""
    weights = _weights(case)
    kept = weights > 0

    def disturb(view):
        noise = np.where(kept, 0.0, 100.0).astype(view.dtype)
        return view + noise.reshape((-1,) + (1,) * (view.ndim - 1))

    disturbed = case.change(disturb, "teacher", "student")
    value, gradient = disturbed.value_and_gradient(case.make(), weights)
    expected, slope = case.take(kept).value_and_gradient(
        case.make(), weights[kept]
    )
    assert_close(value, expected, case.tolerance, "values")
    for with_absent, without in zip(
        *map(keras.tree.flatten, (gradient, slope))
    ):
        assert_close(with_absent[kept], without, case.tolerance, "gradients")
        assert np.all(with_absent[~kept] == 0.0), "an absent sample is pulled"


def check_twice(case):
    """A sample of weight 2 is that sample twice, in the gradient, too."""
    weights = _weights(case, np.array([1.0, 2.0, 1.0], "float32"))
    twice = np.repeat(np.arange(case.samples), weights.astype(int))
    value, gradient = case.take(twice).value_and_gradient(case.make())

    def summed(slope):
        samples = np.arange(case.samples)
        return np.stack([slope[twice == sample].sum(0) for sample in samples])

    found = case.value_and_gradient(case.make(), weights)
    expected = value, keras.tree.map_structure(summed, gradient)
    assert_close(found, expected, case.tolerance)


def check_nobody(case):
    """Weights of 0 throughout give 0, not NaN."""
    weights = np.zeros(case.samples, "float32")
    value, gradient = case.value_and_gradient(case.make(), weights)
    assert value == 0.0, value
    assert all(np.all(g == 0.0) for g in keras.tree.flatten(gradient))


def _assert_finite(case, what):
    value, gradient = case.value_and_gradient(case.make())
    assert np.isfinite(value), f"{what}: the value is {value}"
    for slope in keras.tree.flatten(gradient):
        slope = slope.astype("float32")
        assert np.isfinite(slope).all(), f"{what}: the gradient is not finite"
    return value, gradient


def check_extreme(case):
    """Huge numbers give a finite value and gradient."""

    def enlarge(view):
        return view * np.float32(case.largest / np.abs(view).max())

    for sides in (("teacher",), ("student",), ("teacher", "student")):
        _assert_finite(case.change(enlarge, *sides), f"huge {sides}")


def _rounded(view, dtype):
    return ops.cast(100.0 / np.abs(view).max() * view, dtype)


def check_half(case):
    """In half precision the arithmetic is float32's."""
    for dtype in ("float16", "bfloat16"):
        half = case.change(
            functools.partial(_rounded, dtype=dtype),
            "teacher",
            "student",
        )
        full = half.change(
            lambda view: ops.convert_to_numpy(ops.cast(view, "float32")),
            "teacher",
            "student",
        )
        value, _ = _assert_finite(half, dtype)
        expected = full.value_and_gradient(case.make())[0]
        assert_close(value, expected, case.tolerance, f"in {dtype}: values")


def check_constant(case):
    """Constant views give a finite value and gradient."""
    for constant in (0.0, 1.5):

        def fill(view, constant=constant):
            return np.full_like(view, constant)

        for sides in (("teacher",), ("student",), ("teacher", "student")):
            _assert_finite(case.change(fill, *sides), f"{constant} in {sides}")


def check_one_sample(case):
    """A batch of one sample gives a finite value and gradient."""
    _assert_finite(case.take(slice(1)), "one sample")


def check_compiled(case):
    """Compiled, the loss is what it is eagerly."""
    fast, eager = (
        case.value_and_gradient(case.make(), _weights(case), compiled_as=how)
        for how in ("fit", "nothing")
    )
    assert_close(fast, eager, case.tolerance, "values or gradients")


def check_serialization(case):
    """It is the same loss after a round trip through JSON."""
    loss = case.make(reduction="sum", name="other")
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()
    assert (copy.name, copy.reduction) == ("other", "sum")
    assert case.value(copy) == case.value(loss)
