"""host_call: runs a NumPy function inside a step, on each backend."""

import keras
import numpy as np

from keras_kd._src.backend import BACKEND


def host_call(function, inputs, outputs):
    """The result of a NumPy function inside a step, compiled or not.

    Args:
        function: function from one structure of arrays to another.
        inputs: its inputs, a structure of tensors with one row per sample.
        outputs: its outputs, as a structure of `keras.KerasTensor`s of any
            batch size.
    """
    # The function runs on the host, outside the graph and without a gradient.
    # It does not run while Keras infers shapes. On TensorFlow, XLA can't
    # compile such a call. On JAX the function must not compute with JAX, as the
    # device is waiting for its result.

    def run(*arrays):
        # Copies, as the backend reuses its memory after the call.
        arrays = [np.array(array) for array in arrays]
        results = function(keras.tree.pack_sequence_as(inputs, arrays))
        return [
            np.ascontiguousarray(result, dtype=spec.dtype)
            for result, spec in zip(keras.tree.flatten(results), specs)
        ]

    specs = keras.tree.flatten(outputs)
    tensors = [
        keras.ops.stop_gradient(keras.ops.convert_to_tensor(each))
        for each in keras.tree.flatten(inputs)
    ]
    results = _CALLS[BACKEND](run, tensors, specs)
    return keras.tree.pack_sequence_as(
        outputs, [keras.ops.stop_gradient(result) for result in results]
    )


def _shape(inputs, spec):
    return (inputs[0].shape[0], *spec.shape[1:])


def _on_tensorflow(run, inputs, specs):
    import tensorflow as tf

    types = [tf.as_dtype(spec.dtype) for spec in specs]
    results = tf.numpy_function(run, inputs, types)
    if not isinstance(results, list):  # A single result in eager mode.
        results = [results]
    for result, spec in zip(results, specs):
        result.set_shape(_shape(inputs, spec))
    return results


def _on_jax(run, inputs, specs):
    import jax

    shapes = [
        jax.ShapeDtypeStruct(_shape(inputs, spec), spec.dtype) for spec in specs
    ]
    options = {"vmap_method": "sequential"}
    buffer_callback = _buffer_callback(jax.default_backend())
    if buffer_callback is None:
        return jax.pure_callback(run, shapes, *inputs, **options)

    def fill(_, results, *buffers):
        values = run(*[np.asarray(buffer) for buffer in buffers])
        for result, value in zip(results, values):
            np.asarray(result)[...] = value

    return buffer_callback(fill, shapes, **options)(*inputs)


def _buffer_callback(device):
    # On the CPU, pure_callback copies larger inputs on the threads that the
    # step occupies: with one core it never returns. Buffers need no such copy.
    # On other devices they are not in the host's memory.
    if device != "cpu":
        return None
    try:
        from jax.experimental.buffer_callback import buffer_callback
    except ImportError:  # JAX before 0.6
        return None
    return buffer_callback


def _on_torch(run, inputs, specs):
    import torch

    device = inputs[0].device
    if device.type == "meta":
        return [
            torch.empty(
                _shape(inputs, spec),
                dtype=getattr(torch, spec.dtype),
                device="meta",
            )
            for spec in specs
        ]

    def run_on(*inputs):
        results = run(*[each.detach().cpu().numpy() for each in inputs])
        return [torch.from_numpy(each).to(device) for each in results]

    if torch.compiler.is_compiling():
        # The compiler would trace into NumPy, too, and fail in other code.
        run_on = torch.compiler.disable(run_on)
    return run_on(*inputs)


_CALLS = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
