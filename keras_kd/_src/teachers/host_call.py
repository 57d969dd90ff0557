"""host_call: runs a NumPy function inside of a step, on each backend."""

import keras
import numpy as np

from keras_kd._src.backend import BACKEND


def host_call(function, inputs, output_shape, dtype="float32"):
    """What a NumPy function returns, inside of a step, compiled or not."""
    # The function runs on the host, outside of the graph and of the gradient;
    # not while Keras only infers shapes. XLA can't compile such a call on
    # TensorFlow; on JAX the function must not compute with JAX, whose device
    # waits for it.

    def run(array):
        # A copy: the backend's own memory is reused after the call.
        result = function(np.array(array))
        return np.ascontiguousarray(result, dtype=dtype)

    inputs = keras.ops.stop_gradient(keras.ops.convert_to_tensor(inputs))
    return keras.ops.stop_gradient(
        _CALLS[BACKEND](run, inputs, output_shape, dtype)
    )


def _on_tensorflow(run, inputs, output_shape, dtype):
    import tensorflow as tf

    result = tf.numpy_function(run, [inputs], tf.as_dtype(dtype))
    result.set_shape((inputs.shape[0], *output_shape))
    return result


def _on_jax(run, inputs, output_shape, dtype):
    import jax

    shape = jax.ShapeDtypeStruct((inputs.shape[0], *output_shape), dtype)
    options = {"vmap_method": "sequential"}
    buffer_callback = _buffer_callback(jax.default_backend())
    if buffer_callback is None:
        return jax.pure_callback(run, shape, inputs, **options)

    def fill(_, result, buffer):
        np.asarray(result)[...] = run(np.asarray(buffer))

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


def _on_torch(run, inputs, output_shape, dtype):
    import torch

    shape = (inputs.shape[0], *output_shape)
    if inputs.device.type == "meta":
        return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")

    def run_on(inputs):
        array = inputs.detach().cpu().numpy()
        return torch.from_numpy(run(array)).to(inputs.device)

    if torch.compiler.is_compiling():
        # It would trace NumPy's functions, too, and fail in others.
        run_on = torch.compiler.disable(run_on)
    return run_on(inputs)


_CALLS = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
