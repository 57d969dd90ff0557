"""Values and gradients on each backend, and finite differences in NumPy."""

import functools

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def value_and_gradient(function, argument, *others, eagerly=False):
    """Value and gradient of `function(argument, *others)` in NumPy.

    For tests that run on each backend. On JAX the function is compiled, once
    for each function object: pass the same one again, not a new `lambda`.

    Args:
        function: takes a tensor (or a list of them), returns a scalar.
        argument: an array, or a list of arrays.
        *others: the function's other arguments, without a gradient.
        eagerly: whether JAX runs it uncompiled, which is slow.

    Returns:
        The value, and the gradient in the structure of the argument.

    Example:
    >>> value, gradient = value_and_gradient(ops.sum, np.ones(2, "float32"))
    >>> float(value), gradient.tolist()
    (2.0, [1.0, 1.0])
    """
    argument = keras.tree.map_structure(ops.convert_to_tensor, argument)
    value, gradient = _on_the_backend(function, argument, others, eagerly)
    return keras.tree.map_structure(ops.convert_to_numpy, (value, gradient))


def _on_the_backend(function, argument, others, eagerly):
    if BACKEND == "jax":
        import jax

        make = jax.value_and_grad if eagerly else _jitted
        return make(function)(argument, *others)
    if BACKEND == "torch":
        argument = keras.tree.map_structure(
            lambda x: x.detach().clone().requires_grad_(True), argument
        )
        value = function(argument, *others)
        value.backward()
        gradient = keras.tree.map_structure(_torch_gradient, argument)
        return value.detach(), gradient
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(argument)
        value = function(argument, *others)
    return value, tape.gradient(
        value, argument, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


@functools.cache
def _jitted(function):
    # Cached, as compiling takes most of the time.
    import jax

    return jax.jit(jax.value_and_grad(function))


def _torch_gradient(tensor):
    return ops.zeros_like(tensor) if tensor.grad is None else tensor.grad


def compiled(function, *arguments):
    """The function, compiled as by `fit`; on PyTorch, not compiled.

    Args:
        function: takes tensors (or lists of them).
        *arguments: example arrays (or lists, or None) with a batch axis; on
            TensorFlow the batch size is left open.

    Returns:
        A function that takes tensors of the arguments' structure.

    Example:
    >>> array = np.ones((2, 3), "float32")
    >>> float(compiled(ops.sum, array)(ops.convert_to_tensor(array)))
    6.0
    """
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "torch":
        return function
    import tensorflow as tf

    specs = keras.tree.map_structure(
        lambda array: tf.TensorSpec(
            (None, *array.shape[1:]),
            keras.backend.standardize_dtype(array.dtype),
        ),
        arguments,
    )
    return tf.function(function, input_signature=specs)


def finite_differences(function, argument, step=1e-6):
    """Gradient of a NumPy function, by central differences in float64.

    Args:
        function: takes an array (or a list of them), returns a number.
        argument: an array, or a list of arrays.
        step: by how much each entry is changed, in both directions.

    Returns:
        The gradient in float64, in the structure of the argument.

    Example:
    >>> gradient = finite_differences(lambda x: np.sum(x**2), np.ones(2))
    >>> gradient.round(3).tolist()
    [2.0, 2.0]
    """
    argument = keras.tree.map_structure(
        lambda array: np.array(array, "float64"), argument
    )
    return keras.tree.map_structure(
        lambda array: _differences(lambda: function(argument), array, step),
        argument,
    )


def _differences(evaluate, array, step):
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        for sign in (1.0, -1.0):
            array[index] = kept + sign * step
            gradient[index] += sign * evaluate() / (2.0 * step)
        array[index] = kept
    return gradient


def assert_close(actual, expected, tolerance=1e-5, what="the values"):
    """Raises an `AssertionError` unless arrays are equal up to rounding.

    Args:
        actual: an array or a structure of arrays.
        expected: the same structure.
        tolerance: largest difference, relative to the largest expected value.
        what: what is compared, for the error message.

    Raises:
        AssertionError: shapes or values differ.

    Example:
    >>> assert_close([1.0, 2.0], [1.0, 2.000001])
    """
    keras.tree.map_structure(
        lambda a, b: _assert_close(
            np.asarray(a), np.asarray(b), tolerance, what
        ),
        actual,
        expected,
    )


def _assert_close(actual, expected, tolerance, what):
    if actual.shape != expected.shape:
        raise AssertionError(
            f"{what} have the wrong shape. Received {actual.shape}, expected "
            f"{expected.shape}."
        )
    error = np.max(np.abs(actual - expected), initial=0.0)
    allowed = tolerance * np.max(np.abs(expected), initial=0.0)
    if not error <= allowed:
        raise AssertionError(
            f"{what} differ by {error:.3g}, more than {allowed:.3g}. Received "
            f"{actual.ravel()[:6]}, expected {expected.ravel()[:6]}."
        )
