"""FunctionTeacher: a plain Python function as the teacher."""

import warnings

import keras

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.backend import BACKEND
from keras_kd._src.specs import sizes_known
from keras_kd._src.teachers.function_outputs import logits_of_columns
from keras_kd._src.teachers.function_outputs import values_of
from keras_kd._src.teachers.host_call import host_call
from keras_kd._src.teachers.scikit_learn import Probabilities
from keras_kd._src.teachers.scikit_learn import Targets
from keras_kd._src.teachers.scikit_learn import classes_of
from keras_kd._src.teachers.structures import entries_for
from keras_kd._src.teachers.structures import specs_of


@keras.saving.register_keras_serializable(package="keras_kd")
class FunctionTeacher(keras.Model):
    """A teacher that is any Python function over NumPy arrays.

    For teachers that are not Keras models: a remote API, a scikit-learn model,
    a table of precomputed predictions. (`OnnxModel`, `TorchModule` and
    `JaxFunction` are for models of other libraries.) It works in compiled
    steps on all backends: the function runs once per step, on the host, and no
    gradient flows through it.

    With `num_classes`, the teacher returns logits in the student's numbering
    of classes, with p and logits the values that the function returns:

        from logits         the logits; for a class that the function does not
                            know, log(floor) + logsumexp(logits)
        from probabilities  log(q / sum(q)) with q = max(p, floor); for a class
                            that the function does not know, q = floor

    The floor matters, as forests and nearest neighbors predict exact zeros:
    at temperature T such a class keeps about `floor ** (1 / T)` of the
    probability of the most likely class. By default all floors together are at
    most 1%. Lower it for a model whose small probabilities are meaningful, such
    as a logistic regression.

    With `output_shape`, the values are used as they are: numbers of a
    regression, or several outputs, of which a transfer names one with a tap
    such as `"[box]"`.

    A function has no weights for a fingerprint. Give a `version`, and change
    it with the function: a cache of predictions, or the state of a training
    run, then raises an error for a changed function. Without a version there
    is a `UserWarning` when a cache is written or a state is saved, as a changed
    function could not be noticed.

    The teacher is never saved with a distiller. On TensorFlow, XLA can't
    compile the step. On JAX the function must not compute with JAX itself (use
    `JaxFunction`), should return the same values for the same samples, and runs
    once for each device.

    Args:
        function: takes a NumPy array of shape `(batch, *input_shape)`, or a
            dict or list of them if `input_shape` is one; returns a finite
            array of shape `(batch, number of columns)`, or with `output_shape`
            arrays of these shapes (`(batch,)` is taken as `(batch, 1)`).
        input_shape: shape of a sample, a tuple without the batch; or a dict
            or list of them. If the data is a dict with more entries, the
            function gets only these.
        num_classes: the student's number of classes.
        output_shape: in place of `num_classes`: the shape of the output for a
            sample, a tuple without the batch, or a dict or list of them.
        from_logits: whether the function returns logits; False for
            probabilities.
        classes: the class of each column, in the student's numbering; by
            default column i is class i.
        floor: smallest probability of a class, in (0, 1/num_classes];
            `0.01 / num_classes` by default.
        input_dtype: type of the arrays that the function gets; or a dict or
            list of types if `input_shape` is one.
        version: text that identifies this function, and changes with it, such
            as `"2024-05"` or a model's checksum.
        name: the teacher's name.

    Call arguments:
        inputs: tensor of shape `(batch, *input_shape)`, or a dict or list of
            them.

    Returns:
        float32 logits of shape `(batch, num_classes)`, or tensors of the
        shapes `(batch, *output_shape)`.

    Raises:
        ValueError: an argument has the wrong type or value; when called, an
            input is missing, or the function's array has another shape, is not
            finite, or is not made of probabilities.

    Example:
    >>> import numpy as np
    >>> def oracle(x):
    ...     return np.stack([x[:, 0], -x[:, 0]], axis=-1)
    >>> teacher = FunctionTeacher(oracle, (4,), 2, version="1")
    >>> keras.ops.convert_to_numpy(teacher(keras.ops.ones((1, 4)))).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        function,
        input_shape,
        num_classes=None,
        *,
        output_shape=None,
        from_logits=True,
        classes=None,
        floor=None,
        input_dtype="float32",
        version=None,
        name=None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        _check_function(function)
        _check_outputs(num_classes, output_shape, classes, floor)
        self.num_classes = num_classes
        self.from_logits = one_of(from_logits, "from_logits", (True, False))
        self.classes = self.floor = None
        if num_classes is not None:
            self.num_classes = integer(num_classes, "num_classes")
            self.classes = _checked_classes(classes, num_classes)
            floor = 0.01 / num_classes if floor is None else floor
            most = 1.0 / num_classes
            self.floor = number(floor, "floor", above=0.0, most=most)
        self.version = checked_version(version)
        self._warned = False
        inputs = specs_of(input_shape, input_dtype, "input_shape")
        outputs = specs_of(
            (num_classes,) if output_shape is None else output_shape,
            name="output_shape",
        )
        # Hidden from Keras' tracking: the function may be a module itself, and
        # JAX can't handle Keras' tracked dicts and lists.
        self._hidden = lambda: (function, inputs, outputs, input_dtype)
        self.trainable = False
        # On the other backends a compiled step can call a Python function.
        self.supports_jit = BACKEND != "tensorflow"
        if isinstance(inputs, keras.KerasTensor):
            self.input_spec = keras.layers.InputSpec(shape=inputs.shape)
        self.build(keras.tree.map_structure(lambda spec: spec.shape, inputs))

    @classmethod
    def of_classifier(
        cls,
        classifier,
        input_shape,
        *,
        classes=None,
        num_classes=None,
        **kwargs,
    ):
        """A fitted scikit-learn classifier as the teacher.

        Samples are flattened for it, to `(batch, features)`.

        Args:
            classifier: a fitted classifier, with `predict_proba` and
                `classes_`.
            input_shape: shape of a sample, a tuple without the batch.
            classes: as above; by default `classifier.classes_`, which must
                then be integers.
            num_classes: as above; by default the largest class plus 1.
            kwargs: other arguments of `FunctionTeacher`.

        Returns:
            A `FunctionTeacher`.

        Raises:
            ValueError: the classifier has no probabilities, is not fitted, has
                several outputs, or its classes are not integers.

        Example:
        >>> import numpy as np
        >>> class Coin:
        ...     classes_ = np.array([0, 1])
        ...     def predict_proba(self, x):
        ...         return np.full((len(x), 2), 0.5)
        >>> teacher = FunctionTeacher.of_classifier(Coin(), (4,))
        >>> teacher.from_logits, teacher.classes
        (False, (0, 1))
        """
        classes = classes_of(classifier, classes)
        if num_classes is None:
            num_classes = int(max(classes)) + 1
        return cls(
            Probabilities(classifier),
            input_shape,
            num_classes,
            from_logits=False,
            classes=classes,
            **kwargs,
        )

    @classmethod
    def of_regressor(cls, regressor, input_shape, *, outputs=1, **kwargs):
        """A fitted scikit-learn regressor as the teacher.

        Samples are flattened for it, to `(batch, features)`. Compare with
        `keras.losses.MeanSquaredError`, or another loss of numbers.

        Args:
            regressor: a fitted regressor, with `predict`.
            input_shape: shape of a sample, a tuple without the batch.
            outputs: the number of values that it predicts for a sample.
            kwargs: other arguments of `FunctionTeacher`.

        Returns:
            A `FunctionTeacher` with outputs of shape `(batch, outputs)`.

        Raises:
            ValueError: the regressor is a classifier, or has no `predict`.

        Example:
        >>> class Mean:
        ...     def predict(self, x):
        ...         return x.mean(axis=-1)
        >>> teacher = FunctionTeacher.of_regressor(Mean(), (4,))
        >>> teacher(keras.ops.ones((2, 4))).shape == (2, 1)
        True
        """
        outputs = integer(outputs, "outputs")
        return cls(
            Targets(regressor), input_shape, output_shape=(outputs,), **kwargs
        )

    @property
    def function(self):
        return self._hidden()[0]

    @property
    def name_of_function(self):
        """The function's name, for errors."""
        return getattr(self.function, "__name__", repr(self.function))

    def build(self, input_shape):
        self.built = True

    def known_inputs(self):
        """Its inputs as `KerasTensor`s; None if sizes are open."""
        inputs = self._hidden()[1]
        return inputs if sizes_known(inputs) else None

    def call(self, inputs, training=None):
        _, expected, outputs, _ = self._hidden()
        inputs = entries_for(expected, inputs, f"teacher {self.name!r}")
        return host_call(self._predict, inputs, outputs)

    def compute_output_shape(self, input_shape):
        inputs = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        outputs = self.compute_output_spec(inputs)
        return keras.tree.map_structure(lambda spec: spec.shape, outputs)

    def compute_output_spec(self, inputs, training=None):
        batch = keras.tree.flatten(inputs)[0].shape[0]
        return keras.tree.map_structure(
            lambda spec: keras.KerasTensor(
                (batch, *spec.shape[1:]), spec.dtype
            ),
            self._hidden()[2],
        )

    def _predict(self, arrays):
        function, inputs, outputs, _ = self._hidden()
        arrays = keras.tree.map_structure(
            lambda spec, array: array.astype(spec.dtype), inputs, arrays
        )
        samples = len(keras.tree.flatten(arrays)[0])
        if self.num_classes is None:
            return values_of(self, function(arrays), samples, outputs)
        return logits_of_columns(self, function(arrays), samples)

    def fingerprint_bytes(self):
        """The settings and version that identify this teacher, as bytes."""
        if self.version is None and not self._warned:
            self._warned = True
            warn_of_function(
                f"The teacher {self.name!r} is the function "
                f"{self.name_of_function}",
                "FunctionTeacher(..., version='2024-05')",
            )
        config = {**self._settings(), "name": None}
        return repr(sorted(config.items(), key=str)).encode()

    def _settings(self):
        _, inputs, outputs, input_dtype = self._hidden()
        settings = {
            "input_shape": _sample_shapes(inputs),
            "num_classes": self.num_classes,
            "from_logits": self.from_logits,
            "classes": self.classes,
            "floor": self.floor,
            "input_dtype": input_dtype,
            "version": self.version,
            "name": self.name,
        }
        if self.num_classes is None:
            settings["output_shape"] = _sample_shapes(outputs)
        return settings

    def get_config(self):
        name = keras.saving.get_registered_name(self.function)
        if keras.saving.get_registered_object(name) is not self.function:
            raise ValueError(
                f"The teacher {self.name!r} can't be saved: its function is "
                f"plain Python. Received: {self.name_of_function}. A "
                "Distiller is saved without its teacher, so this is rarely "
                "needed; after loading, call `set_teacher`. To save the "
                "teacher alone, decorate the function with "
                "`@keras.saving.register_keras_serializable()`."
            )
        function = keras.saving.serialize_keras_object(self.function)
        return {"function": function, **self._settings()}

    @classmethod
    def from_config(cls, config):
        function = keras.saving.deserialize_keras_object(config["function"])
        return cls(**{**config, "function": function})


def checked_version(version):
    """The argument `version`, None or a text; else a `ValueError`."""
    if version is not None and (not isinstance(version, str) or not version):
        raise ValueError(
            "Argument `version` must be a text that you change with the "
            "function, such as '2024-05', or None. Received: "
            f"version={version!r} (of type {type(version).__name__})."
        )
    return version


def warn_of_function(what, example):
    """Warns that a function without a version can't be identified."""
    warnings.warn(
        f"{what}, and has no version: a cache of its predictions, or the state "
        "of a training run with it, can't tell it from another function, and "
        "would still be used after the function has changed. Give it a version "
        f"that you change with the function: `{example}`.",
        UserWarning,
        stacklevel=3,
    )


def _check_function(function):
    if not callable(function) or isinstance(function, keras.layers.Layer):
        raise ValueError(
            "Argument `function` must be a Python function over NumPy arrays "
            f"(a Keras model is a teacher itself). Received: {function!r}."
        )


def _checked_classes(classes, num_classes):
    numbers = list(range(num_classes) if classes is None else classes)
    different = len(set(numbers)) == len(numbers) > 0
    if not different or not set(numbers) <= set(range(num_classes)):
        raise ValueError(
            "Argument `classes` must be a list of different class numbers from "
            f"0 to {num_classes - 1}. Received: classes={numbers}."
        )
    return tuple(int(each) for each in numbers)


def _check_outputs(num_classes, output_shape, classes, floor):
    given = [num_classes is not None, output_shape is not None]
    if sum(given) != 1:
        raise ValueError(
            "Give `num_classes` if the function returns logits or "
            "probabilities of classes, or else `output_shape`. Received: "
            f"num_classes={num_classes!r}, output_shape={output_shape!r}."
        )
    if given[1] and (classes is not None or floor is not None):
        raise ValueError(
            "Arguments `classes` and `floor` are for a function that returns "
            f"classes. Received: classes={classes!r}, floor={floor!r} and "
            f"output_shape={output_shape!r}. Give `num_classes` instead."
        )


def _sample_shapes(specs):
    return keras.tree.map_structure(lambda spec: tuple(spec.shape[1:]), specs)
