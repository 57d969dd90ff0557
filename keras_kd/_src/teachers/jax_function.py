"""JaxFunction: a JAX function and its parameters as the teacher, on JAX."""

import keras
from keras import ops

from keras_kd._src.backend import BACKEND
from keras_kd._src.fingerprint import digest
from keras_kd._src.teachers.foreign import ForeignTeacher
from keras_kd._src.teachers.function_teacher import warn_of_function
from keras_kd._src.teachers.structures import call_with
from keras_kd._src.teachers.structures import check_call


class JaxFunction(ForeignTeacher):
    """A teacher that is a JAX function, compiled into the step, on JAX.

    For a model of Flax (`of_nnx` for its NNX modules), Equinox or your own:

        teacher = JaxFunction(linen_model.apply, variables)
        teacher = JaxFunction(lambda x: x @ matrix, version="1")
        teacher = JaxFunction.of_nnx(module)

    The function is traced with the step, without a call to the host. Its
    parameters are variables of the step, not constants, and do not change.
    They are copied, as JAX reuses the buffers of a step. The function must be
    pure and in inference mode.

    Its fingerprint is computed from its parameters, or from the `version` alone
    if it has none. It is never saved with a distiller. Several outputs are a
    dict, of which a transfer names one with a tap such as `"[hidden]"`.

    Args:
        function: `function(parameters, inputs)`, or `function(inputs)` without
            parameters; returns `(batch, ...)`, or a dict or list of such.
        parameters: a structure (pytree) of arrays, or None.
        version: text that identifies the function, and changes with it, such
            as `"2024-05"`.
        name: the teacher's name; by default the function's.

    Raises:
        ValueError: the backend is not JAX; or `function` can't be called.

    Example:
    >>> import keras_kd as kd
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> def linear(parameters, x):
    ...     return x @ parameters["kernel"]
    >>> if keras.backend.backend() == "jax":
    ...     teacher = JaxFunction(linear, {"kernel": ops.ones((4, 3))})
    ...     distiller = kd.Distiller(teacher, student)
    """

    def __init__(self, function, parameters=None, *, version=None, name=None):
        _check_function(function)
        import jax

        name = name or getattr(function, "__name__", type(function).__name__)
        super().__init__(name, None, version)
        self._pytree = _Parameters(parameters)
        self.variables = self._pytree.variables
        self._has_parameters = parameters is not None
        # So that it is compiled outside a step, too.
        self._function = jax.jit(function)

    @classmethod
    def of_nnx(cls, module, output=None, *, version=None, name=None):
        """A Flax NNX module as the teacher, in evaluation mode.

        The teacher is a copy of the module, which is not changed. If a batch's
        inputs are a dict they become keyword arguments, if a list positional
        ones.

        Args:
            module: a `flax.nnx.Module`.
            output: function from the module's result to the teacher's output;
                by default the result as it is.
            version: as above.
            name: the teacher's name; by default that of the module's class.

        Returns:
            A `JaxFunction`.

        Raises:
            ValueError: the backend is not JAX, or `module` is not an NNX
                module.
        """
        _check_function(module)
        from flax import nnx

        if not isinstance(module, nnx.Module):
            raise ValueError(
                "Argument `module` must be a `flax.nnx.Module`. Received: "
                f"{type(module).__name__}. A Linen module is a teacher as "
                "`JaxFunction(module.apply, variables)`."
            )
        copy = nnx.clone(module)
        copy.eval()
        definition, state = nnx.split(copy)
        name = name or type(module).__name__

        def function(state, inputs):
            module = nnx.merge(definition, state)
            check_call(module.__call__, inputs, f"module {name!r}")
            result = call_with(module, inputs)
            return result if output is None else output(result)

        return cls(function, state, version=version, name=name)

    def predictions(self, batch, taps, state_mapping=None, training=True):
        with keras.StatelessScope(state_mapping=state_mapping):
            values = [ops.convert_to_tensor(each) for each in self.variables]
        return self.at_output(self._call(values, batch.inputs), taps)

    def _call(self, values, inputs):
        if not self._has_parameters:
            return self._function(inputs)
        return self._function(self._pytree.of(values), inputs)

    def run(self, arrays, taps):
        """The shapes of the predictions for NumPy arrays."""
        import jax

        values = [each.value for each in self.variables]
        return self.at_output(jax.eval_shape(self._call, values, arrays), taps)

    def fingerprint(self):
        if not self._has_parameters and self.version is None:
            self.warn_of_function()
        values = (each.value for each in self.variables)
        return digest([repr(self.version).encode()], values)

    def warn_of_function(self):
        """Warns once that a function without a version can't be identified."""
        if not self._warned:
            self._warned = True
            warn_of_function(
                f"The teacher {self.name!r} is a function without parameters",
                "JaxFunction(..., version='2024-05')",
            )


class _Parameters:
    """A pytree with its arrays as Keras variables, other leaves as they are."""

    def __init__(self, tree):
        import jax

        leaves, self.structure = jax.tree.flatten(tree)
        self.leaves = [None if _is_array(leaf) else leaf for leaf in leaves]
        self.places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]
        self.variables = [_variable(leaves[place]) for place in self.places]

    def of(self, values):
        """The pytree, with these values of the variables."""
        import jax

        leaves = list(self.leaves)
        for place, value in zip(self.places, values):
            leaves[place] = value
        return jax.tree.unflatten(self.structure, leaves)


def _is_array(leaf):
    import jax

    # Not the keys of random generators, which are arrays of a special type.
    numbers = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
    return numbers and not jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _variable(leaf):
    import jax.numpy as jnp

    return keras.Variable(
        jnp.array(leaf), dtype=str(leaf.dtype), trainable=False, autocast=False
    )


def _check_function(function):
    if BACKEND != "jax":
        raise ValueError(
            "A JaxFunction needs the JAX backend, as it is compiled into the "
            f"training step. Received: the backend {BACKEND!r}. Set "
            "KERAS_BACKEND=jax, or write its predictions to a cache on JAX "
            "(`keras_kd.cache.write`), which can be read on any backend."
        )
    if not callable(function) or isinstance(function, keras.layers.Layer):
        raise ValueError(
            "Argument `function` must be a JAX function (a Keras model is a "
            f"teacher itself). Received: {function!r}."
        )
