"""Work in chunks, and gradients that recompute what they need.

The only module of the losses that calls the backends themselves: automatic
differentiation would keep each chunk's intermediate results for the backward
pass, and so undo what the chunks are for.
"""

import keras
from keras import ops

BACKEND = keras.backend.backend()


def with_gradient(forward, backward):
    """A function of arrays with its own gradient, differentiable once."""
    # forward: arrays -> result, arrays kept for the backward pass;
    # backward: these, the result's gradient -> a gradient (or None) an array.
    if BACKEND == "jax":
        import jax

        function = jax.custom_vjp(lambda *arrays: forward(*arrays)[0])
        function.defvjp(forward, backward)
        return function
    if BACKEND == "torch":
        return _torch_function(forward, backward)
    import tensorflow as tf

    @tf.custom_gradient
    def function(*arrays):
        result, kept = forward(*arrays)
        return result, lambda upstream: backward(kept, upstream)

    # Read here: of a variable used inside, TensorFlow asks for a special case.
    return lambda *arrays: function(*map(tf.convert_to_tensor, arrays))


def _torch_function(forward, backward):
    import torch

    class WithGradient(torch.autograd.Function):
        @staticmethod
        def forward(context, *arrays):
            result, kept = forward(*arrays)
            context.save_for_backward(*kept)
            return result

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, upstream):
            return backward(context.saved_tensors, upstream)

    return WithGradient.apply


def fold_chunks(step, state, size, chunk):
    """The state after `step(state, start, length)` of each chunk in turn."""
    full, rest = divmod(size, chunk)
    if full:
        state = ops.fori_loop(
            0, full, lambda i, state: step(state, i * chunk, chunk), state
        )
    return step(state, full * chunk, rest) if rest else state


def map_chunks(step, state, size, chunk):
    """As `fold_chunks`; `step` also gives arrays, joined on their last axis."""
    chunk = min(chunk, size)
    return {
        "jax": _map_on_jax,
        "torch": _map_on_torch,
        "tensorflow": _map_on_tensorflow,
    }[BACKEND](step, state, size, chunk)


def _map_on_jax(step, state, size, chunk):
    import jax

    def write(carry, start, length):
        state, joined = carry
        state, parts = step(state, start, length)
        return state, tuple(
            jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=-1)
            for whole, part in zip(joined, parts)
        )

    _, parts = jax.eval_shape(lambda state: step(state, 0, chunk), state)
    joined = tuple(
        ops.zeros((*part.shape[:-1], size), part.dtype) for part in parts
    )
    return fold_chunks(write, (state, joined), size, chunk)


def _map_on_torch(step, state, size, chunk):
    joined = None
    for start in range(0, size, chunk):
        length = min(chunk, size - start)
        state, parts = step(state, start, length)
        if joined is None:
            joined = tuple(p.new_empty(*p.shape[:-1], size) for p in parts)
        for whole, part in zip(joined, parts):
            whole[..., start : start + length] = part
    return state, joined


def _map_on_tensorflow(step, state, size, chunk):
    import tensorflow as tf

    full, rest = divmod(size, chunk)
    # The first chunk, taken out of the loop, shows shapes and dtypes.
    state, parts = step(state, 0, chunk)
    stacks = tuple(
        tf.TensorArray(part.dtype, full, element_shape=part.shape).write(
            0, part
        )
        for part in parts
    )

    def write(i, state, stacks):
        state, parts = step(state, i * chunk, chunk)
        stacks = [stack.write(i, p) for stack, p in zip(stacks, parts)]
        return i + 1, state, tuple(stacks)

    # One at a time: several in flight would need the memory of several.
    _, state, stacks = tf.while_loop(
        lambda i, *_: i < full, write, (1, state, stacks), parallel_iterations=1
    )
    joined = [_side_by_side(stack.stack()) for stack in stacks]
    if rest:
        state, parts = step(state, full * chunk, rest)
        joined = [tf.concat(pair, axis=-1) for pair in zip(joined, parts)]
    return state, tuple(joined)


def _side_by_side(stacked):
    """Chunks on the first axis, put next to each other on the last."""
    stacked = ops.moveaxis(stacked, 0, -2)
    return ops.reshape(stacked, (*stacked.shape[:-2], -1))
