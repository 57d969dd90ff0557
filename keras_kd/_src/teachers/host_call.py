"""The one place of the teachers that depends on the backend: host calls."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


def host_call(function, inputs, output_shape, dtype="float32"):
    """Asks a NumPy function inside of a step, compiled or not.

    The function runs on the host, outside of the graph and of the gradient.
    It is given a NumPy array of its own, which it may keep or change. It is
    not called while Keras only infers shapes. XLA can't compile such a call
    on TensorFlow; on JAX the function must not compute with JAX, whose device
    waits for it.

    Args:
        function: takes one NumPy array, of the inputs' shape and type, and
            returns one whose first dimension is the batch's.
        inputs: tensor of shape `(batch, ...)`.
        output_shape: shape of a sample's answer, a tuple without the batch.
        dtype: type of the answer.

    Returns:
        Tensor of shape `(batch, *output_shape)`.

    Example:
    >>> answer = host_call(lambda x: x[:, :1] + 1, keras.ops.ones((2, 3)), (1,))
    >>> keras.ops.convert_to_numpy(answer).tolist()
    [[2.0], [2.0]]
    """

    def ask(array):
        # A copy: the backend's own memory is reused after the call.
        answer = function(np.array(array))
        return np.ascontiguousarray(answer, dtype=dtype)

    inputs = keras.ops.stop_gradient(keras.ops.convert_to_tensor(inputs))
    return keras.ops.stop_gradient(
        _CALLS[BACKEND](ask, inputs, output_shape, dtype)
    )


def _on_tensorflow(ask, inputs, output_shape, dtype):
    import tensorflow as tf

    answer = tf.numpy_function(ask, [inputs], tf.as_dtype(dtype))
    answer.set_shape((inputs.shape[0], *output_shape))
    return answer


def _on_jax(ask, inputs, output_shape, dtype):
    import jax

    shape = jax.ShapeDtypeStruct((inputs.shape[0], *output_shape), dtype)
    options = {"vmap_method": "sequential"}
    buffer_callback = _buffer_callback(jax.default_backend())
    if buffer_callback is None:
        return jax.pure_callback(ask, shape, inputs, **options)

    def fill(_, answer, buffer):
        np.asarray(answer)[...] = ask(np.asarray(buffer))

    return buffer_callback(fill, shape, **options)(inputs)


def _buffer_callback(device):
    # On the CPU, pure_callback copies larger inputs on the very threads that
    # the step holds: where there is one core, it never comes back. Buffers
    # need no such copy. Elsewhere they are not the host's.
    if device != "cpu":
        return None
    try:
        from jax.experimental.buffer_callback import buffer_callback
    except ImportError:  # JAX before 0.6
        return None
    return buffer_callback


def _on_torch(ask, inputs, output_shape, dtype):
    import torch

    shape = (inputs.shape[0], *output_shape)
    if inputs.device.type == "meta":
        return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")

    def ask_of(inputs):
        array = inputs.detach().cpu().numpy()
        return torch.from_numpy(ask(array)).to(inputs.device)

    if torch.compiler.is_compiling():
        # It would trace NumPy's functions, too, and fail in others.
        ask_of = torch.compiler.disable(ask_of)
    return ask_of(inputs)


_CALLS = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
