"""The contract of this library's losses, as checks for any loss."""

import functools
import json

import keras
import numpy as np
from keras import ops

from keras_kd._src.losses.distillation_loss import DistillationLoss
from keras_kd._src.testing.gradients import BACKEND
from keras_kd._src.testing.gradients import assert_close
from keras_kd._src.testing.gradients import finite_differences
from keras_kd._src.testing.loss_case import LossCase


def check_loss(make, teacher, student, **facts):
    """Checks your own loss against the contract of this library's losses.

    For your tests. Value and gradient are compared with a NumPy reference, and
    checked at the minimum, with weights, for another order of the batch, for
    extreme and constant features, for a single sample, in half precision,
    compiled and not compiled, and after saving. To run the checks one by one,
    see `checks_of`.

    Args:
        make: the loss's class, or a function that takes `reduction` and `name`
            and returns the loss.
        teacher: the teacher's features or logits, an array of six samples or
            more, shape `(samples, ...)`.
        student: the student's features or logits, likewise.
        **facts: other properties of the loss, as in `LossCase`.

    Returns:
        List of the names of the checks that were run.

    Raises:
        AssertionError: the loss fails a check; the message names it.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> teacher, student = np.random.default_rng(0).normal(size=(2, 6, 3))
    >>> checks = check_loss(
    ...     kd.losses.LogitMatching,
    ...     teacher.astype("float32"),
    ...     student.astype("float32"),
    ...     reference=lambda t, s: np.mean((t - s) ** 2, axis=-1),
    ... )
    >>> "numpy" in checks and "serialization" in checks
    True
    """
    case = LossCase(make, teacher, student, **facts)
    for name, check in checks_of(case).items():
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"check {name!r}: {error}") from error
    return list(checks_of(case))


def checks_of(case):
    """The checks that apply to a case, by name.

    To run each check as a separate test: parametrize over the items, and call
    each check with the case. On PyTorch, which Keras does not compile, there is
    no check of the compiled loss.

    Args:
        case: a `LossCase`.

    Returns:
        Dict from names to functions that take the case, and raise an
        `AssertionError` if it fails.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> features = np.ones((2, 6, 3), "float32")
    >>> case = kd.testing.LossCase(kd.losses.LogitMatching, *features)
    >>> "numpy" in checks_of(case)  # there is no reference
    False
    """
    checks = {
        "numpy": case.reference and check_numpy,
        "minimum": case.identical and check_minimum,
        "invariances": case.invariances and check_invariances,
        "order": case.any_order and check_order,
        "absent": check_absent,
        "absent_positions": _has_positions(case) and check_absent_positions,
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
    """Value and gradient match the reference and its finite differences."""
    value, gradient = case.value_and_gradient(case.make())
    assert_close(value, np.mean(case.expected()), case.tolerance, "values")
    expected = finite_differences(
        lambda student: np.mean(case.expected(student)), case.student
    )
    assert_close(gradient, expected, case.tolerance, "gradients")
    if case.independent:
        _check_weighted_mean(case)


def _check_weighted_mean(case):
    """Weights per sample work as a column and as a list."""
    values = case.expected().reshape(case.samples, -1).mean(axis=1)
    weights = _weights(case)
    expected = np.sum(weights * values) / np.sum(weights)
    found = case.eager_value(case.make(), weights[:, None])
    assert_close(found, expected, case.tolerance, "values of a column")
    if isinstance(case.make(), DistillationLoss):
        # Keras' own losses take a list for a structure of outputs.
        lists = case.change(lambda array: array.tolist(), "teacher", "student")
        found = lists.eager_value(case.make(), weights.tolist())
        assert_close(found, expected, case.tolerance, "values of lists")


def check_minimum(case):
    """Where both sides agree, the loss is minimal; its gradient 0 if smooth."""
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
    gap = 1e-6 if case.exact_minimum is None else 1e-3
    assert case.value(case.make()) > case.minimum + gap
    if case.exact_minimum is not None:
        _check_exact_minimum(identical)


def _check_exact_minimum(case):
    # Not compiled: compiled, the gradient may be that next to the minimum.
    found, slope = case.value_and_gradient(case.make(), compiled_as="nothing")
    assert abs(found - case.minimum) < case.exact_minimum, found
    for flat in keras.tree.flatten(slope):
        assert np.abs(flat).max() < case.exact_minimum, "the gradient is not 0"


def check_invariances(case):
    """The invariances hold for either side."""
    expected = case.value(case.make())
    for change in case.invariances:
        for side in ("teacher", "student"):
            found = case.change(change, side).value(case.make())
            assert_close(found, expected, case.tolerance, change.__name__)


def check_order(case):
    """Another order of the batch changes only the order of the gradient."""
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

    def disturb(array):
        absent = ~kept.reshape((-1,) + (1,) * (array.ndim - 1))
        # Huge and of both signs: a softmax would ignore a constant.
        return np.where(absent, 1e4 * array + 100.0, array).astype(array.dtype)

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
        assert np.all(with_absent[~kept] == 0.0), (
            "a sample of weight 0 has a gradient"
        )


def _has_positions(case):
    """Whether the loss is a `DistillationLoss` of tokens or pixels."""
    rank = len(keras.tree.flatten(case.student)[0].shape)
    return rank > 2 and isinstance(case.make(), DistillationLoss)


def check_absent_positions(case):
    """A position of weight 0 is absent from the loss and its gradient."""
    loss = case.make()
    _, *positions = loss._positions_shape(
        keras.tree.flatten(case.student)[0].shape
    )
    kept = np.arange(positions[0]) < max(positions[0] // 2, 1)
    kept = np.resize(kept, positions[::-1]).T.astype("float32")
    of_samples = _weights(case) + 0.5
    weights = np.multiply.outer(of_samples, kept).astype("float32")

    def absent(array):
        at = loss.weights_at(ops.convert_to_tensor(array), weights)
        at = ops.convert_to_numpy(at) == 0.0
        while at.ndim < array.ndim:
            at = np.expand_dims(at, loss.axis)
        return np.broadcast_to(at, array.shape)

    def disturb(array):
        return np.where(absent(array), 9.0 * array + 1.0, array)

    found = case.value_and_gradient(loss, weights)
    disturbed = case.change(disturb, "teacher", "student")
    assert_close(
        disturbed.value_and_gradient(loss, weights), found, case.tolerance
    )
    for array, slope in zip(*map(keras.tree.flatten, (case.student, found[1]))):
        assert np.all(slope[absent(array)] == 0.0), (
            "a position of weight 0 has a gradient"
        )
    if not loss.joint and case.teacher.shape == case.student.shape:
        context = {} if case.labels is None else {"labels": case.labels}
        mask = np.broadcast_to(kept > 0, weights.shape)
        masked = loss(
            case.teacher, case.student, of_samples, mask=mask, **context
        )
        masked = ops.convert_to_numpy(masked)
        assert_close(masked, found[0], case.tolerance, "of a mask: values")


def check_twice(case):
    """A sample of weight 2 has the effect of that sample twice."""
    # The same number of samples as in other checks: JAX compiles for each.
    kept = int(np.sum(_weights(case) > 0))
    weights = np.ones(kept, "float32")
    weights[: case.samples - kept] = 2.0
    twice = np.repeat(np.arange(kept), weights.astype(int))
    value, gradient = case.take(twice).value_and_gradient(case.make())

    def summed(slope):
        return np.stack([slope[twice == each].sum(0) for each in range(kept)])

    found = case.take(slice(kept)).value_and_gradient(case.make(), weights)
    expected = value, keras.tree.map_structure(summed, gradient)
    assert_close(found, expected, case.tolerance)


def check_nobody(case):
    """If all weights are 0, value and gradient are 0, not NaN."""
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
    """Huge features give a finite value and gradient."""

    def enlarge(array):
        return array * np.float32(case.largest / np.abs(array).max())

    for sides in (("teacher",), ("student",), ("teacher", "student")):
        _assert_finite(case.change(enlarge, *sides), f"huge {sides}")


def _rounded(array, dtype):
    return ops.cast(100.0 / np.abs(array).max() * array, dtype)


def check_half(case):
    """For half precision features, the loss is computed in float32."""
    for dtype in ("float16", "bfloat16"):
        half = case.change(
            functools.partial(_rounded, dtype=dtype),
            "teacher",
            "student",
        )
        full = half.change(
            lambda array: ops.convert_to_numpy(ops.cast(array, "float32")),
            "teacher",
            "student",
        )
        value, _ = _assert_finite(half, dtype)
        expected = full.value_and_gradient(case.make())[0]
        assert_close(value, expected, case.tolerance, f"in {dtype}: values")


def check_constant(case):
    """Constant features give a finite value and gradient."""
    for constant in (0.0, 1.5):

        def fill(array, constant=constant):
            return np.full_like(array, constant)

        for sides in (("teacher",), ("student",), ("teacher", "student")):
            _assert_finite(case.change(fill, *sides), f"{constant} in {sides}")


def check_one_sample(case):
    """A batch of one sample gives a finite value and gradient."""
    first = case.take(slice(1))
    value, _ = _assert_finite(first, "one sample")
    if case.independent and case.reference:
        expected = np.mean(first.expected())
        assert_close(value, expected, case.tolerance, "one sample: values")


def check_compiled(case):
    """Compiled and uncompiled, the loss is the same."""
    weights_of_runs = [_weights(case)]
    if case.independent:  # Other losses get weights of 1 instead.
        weights_of_runs.append(None)
    for weights in weights_of_runs:
        fast, eager = (
            case.value_and_gradient(case.make(), weights, compiled_as=how)
            for how in ("fit", "nothing")
        )
        assert_close(fast, eager, case.tolerance, "values or gradients")


def check_serialization(case):
    """The loss is the same after a round trip through JSON."""
    loss = case.make(reduction="sum", name="other")
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()
    assert (copy.name, copy.reduction) == ("other", "sum")
    # Not compiled: losses with equal configs share a compiled function.
    assert case.eager_value(copy) == case.eager_value(loss)
