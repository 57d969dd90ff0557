"""A loop over chunks, each with its own gradient, on every backend.

The only module of the losses that calls the backends directly. Automatic
differentiation of a loop would keep each chunk's intermediate results for the
backward pass, and chunks would save no memory. So each chunk's gradient is
taken at once, in the loop.
"""

import keras
from keras import ops

BACKEND = keras.backend.backend()


def value_and_gradient(function, arrays):
    """Gradients of a function that returns a scalar and more.

    Args:
        function: of a list of arrays; returns a scalar and anything else.
        arrays: list of what the gradient is taken with respect to.

    Returns:
        What else the function returned, and a gradient for each array.
    """
    if BACKEND == "jax":
        import jax

        (_, more), gradients = jax.value_and_grad(function, has_aux=True)(
            arrays
        )
        return more, gradients
    if BACKEND == "torch":
        import torch

        arrays = [array.detach().requires_grad_() for array in arrays]
        with torch.enable_grad():
            value, more = function(arrays)
            gradients = torch.autograd.grad(
                value, arrays, allow_unused=True, materialize_grads=True
            )
        return keras.tree.map_structure(lambda x: x.detach(), more), gradients
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(arrays)
        value, more = function(arrays)
    zero = tf.UnconnectedGradients.ZERO
    return more, tape.gradient(value, arrays, unconnected_gradients=zero)


def scan(step, state, count):
    """Calls `step(i, state) -> state, outputs` for i from 0 to `count` - 1.

    One at a time: several in flight would need the memory of several.

    Args:
        step: function of a number and the state.
        state: list of arrays.
        count: how many times.

    Returns:
        The last state, and each of the outputs (a list of arrays) stacked on a
        new first axis.
    """
    if BACKEND == "jax":
        import jax

        return jax.lax.scan(
            lambda state, i: step(i, state), state, ops.arange(count)
        )
    if BACKEND == "torch":
        outputs = []
        for i in range(count):
            state, each = step(i, state)
            outputs.append(each)
        return state, [ops.stack(each) for each in zip(*outputs)]
    return _scan_on_tensorflow(step, state, count)


def _scan_on_tensorflow(step, state, count):
    import tensorflow as tf

    # The first iteration, outside of the loop, shows the outputs' types.
    state, first = step(0, state)
    arrays = [
        tf.TensorArray(each.dtype, count, element_shape=each.shape)
        for each in first
    ]
    arrays = [array.write(0, each) for array, each in zip(arrays, first)]

    def body(i, state, arrays):
        state, outputs = step(i, state)
        written = [a.write(i, each) for a, each in zip(arrays, outputs)]
        return i + 1, state, written

    _, state, arrays = tf.while_loop(
        lambda i, *_: i < count, body, (1, state, arrays), parallel_iterations=1
    )
    return state, [array.stack() for array in arrays]
