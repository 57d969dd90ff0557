"""FunctionTeacher: a plain Python function as the teacher."""

import warnings

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.backend import BACKEND
from keras_kd._src.teachers.host_call import host_call


@keras.saving.register_keras_serializable(package="keras_kd")
class FunctionTeacher(keras.Model):
    """A teacher that is any Python function over NumPy arrays.

    For teachers that are no Keras models: a remote API, an ONNX session, a
    scikit-learn classifier, a table of precomputed predictions. It works in
    compiled steps on all backends: the function runs once a step, on the host,
    and no gradient flows through it. The teacher returns logits in the
    student's numbering of classes:

        logits        as they are; a class that the function does not know
                      has log(floor) + logsumexp(logits)
        probabilities log(q / sum(q)), q = max(p, floor), and floor for a
                      class that the function does not know

    The floor matters, as forests and nearest neighbors predict exact zeros:
    at temperature T an excluded class keeps about `floor ** (1 / T)` of the
    favorite's share. By default all floors together get 1% at most. Lower it
    for a model whose small probabilities are meant, such as a logistic
    regression.

    A function has no weights to tell it by. State a `version`, and change it
    with the function: a cache of predictions, or the state of a training run,
    then refuses the changed one. Without it there is a `UserWarning` where a
    cache is written or a state saved, as any function will pass for this one.

    The teacher is never saved with a distiller. XLA can't compile the step on
    TensorFlow. On JAX the function must not compute with JAX itself, should
    return the same for the same samples, and runs once for each device.

    Args:
        function: takes a NumPy array `(batch, *input_shape)`, returns one of
            shape `(batch, number of columns)`, finite.
        input_shape: shape of a sample, a tuple without the batch.
        num_classes: how many classes the student has.
        from_logits: whether the function returns logits; False for
            probabilities.
        classes: the class of each column, in the student's numbering; by
            default column i is class i.
        floor: smallest probability of a class, in (0, 1/num_classes];
            `0.01 / num_classes` by default.
        input_dtype: type of the array that the function gets.
        version: text that tells this function from others and from what it
            was before, such as `"2024-05"` or a model's checksum.
        name: the teacher's name.

    Call arguments:
        inputs: tensor of shape `(batch, *input_shape)`.

    Returns:
        float32 logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: an argument can't be used; or, when called, the function's
            array has another shape, is not finite, or holds no distributions.

    Example:
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
        num_classes,
        *,
        from_logits=True,
        classes=None,
        floor=None,
        input_dtype="float32",
        version=None,
        name=None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        _check_function(function)
        self.num_classes = integer(num_classes, "num_classes")
        self.from_logits = one_of(from_logits, "from_logits", (True, False))
        self.classes = _checked_classes(classes, num_classes)
        floor = 0.01 / num_classes if floor is None else floor
        self.floor = number(floor, "floor", above=0.0, most=1.0 / num_classes)
        self.version = checked_version(version)
        self.sample_shape = tuple(input_shape)
        self._array_type = input_dtype
        self._warned = False
        # Out of reach of tracking: the function may be a module itself.
        self._get_function = lambda: function
        self.trainable = False
        # On the other backends a compiled step may leave the graph.
        self.supports_jit = BACKEND != "tensorflow"
        self.input_spec = keras.layers.InputSpec(
            shape=(None, *self.sample_shape)
        )
        self.build((None, *self.sample_shape))

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
            classifier: has `predict_proba` and `classes_`.
            input_shape: shape of a sample, a tuple without the batch.
            classes: as above; `classifier.classes_` by default, which must
                then be integers.
            num_classes: one more than the largest class by default.
            kwargs: other arguments of `FunctionTeacher`.

        Returns:
            A `FunctionTeacher`.

        Raises:
            ValueError: it gives no probabilities, is not fitted, has several
                outputs, or its classes are no integers.

        Example:
        >>> class Coin:
        ...     classes_ = np.array([0, 1])
        ...     def predict_proba(self, x):
        ...         return np.full((len(x), 2), 0.5)
        >>> teacher = FunctionTeacher.of_classifier(Coin(), (4,))
        >>> teacher.from_logits, teacher.classes
        (False, (0, 1))
        """
        classes = _classes_of(classifier, classes)
        if num_classes is None:
            num_classes = int(max(classes)) + 1
        return cls(
            _Probabilities(classifier),
            input_shape,
            num_classes,
            from_logits=False,
            classes=classes,
            **kwargs,
        )

    @property
    def function(self):
        return self._get_function()

    def build(self, input_shape):
        self.built = True

    def call(self, inputs, training=None):
        return host_call(self._predict, inputs, (self.num_classes,))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def compute_output_spec(self, inputs, training=None):
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def _predict(self, array):
        array = array.astype(self._array_type)
        outputs = _checked_outputs(self, self.function(array), len(array))
        if self.from_logits:
            highest = outputs.max(axis=-1, keepdims=True)
            total = np.exp(outputs - highest).sum(axis=-1, keepdims=True)
            unknown = np.log(self.floor) + highest + np.log(total)
        else:
            outputs = np.log(np.maximum(outputs, self.floor))
            unknown = np.full((len(array), 1), np.log(self.floor))
        logits = np.repeat(unknown, self.num_classes, axis=-1)
        logits[:, list(self.classes)] = outputs
        if not self.from_logits:
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits

    def fingerprint_bytes(self):
        """What tells this teacher from others: its settings and version."""
        if self.version is None and not self._warned:
            self._warned = True
            warn_of_function(
                f"The teacher {self.name!r} is the function "
                f"{_name_of(self.function)}",
                "FunctionTeacher(..., version='2024-05')",
            )
        config = {**self._settings(), "name": None}
        return repr(sorted(config.items(), key=str)).encode()

    def _settings(self):
        return {
            "input_shape": self.sample_shape,
            "num_classes": self.num_classes,
            "from_logits": self.from_logits,
            "classes": self.classes,
            "floor": self.floor,
            "input_dtype": self._array_type,
            "version": self.version,
            "name": self.name,
        }

    def get_config(self):
        name = keras.saving.get_registered_name(self.function)
        if keras.saving.get_registered_object(name) is not self.function:
            raise ValueError(
                f"The teacher {self.name!r} can't be saved: its function is "
                f"plain Python. Received: {_name_of(self.function)}. A "
                "Distiller saves without its teacher, so it needs not be; give "
                "a loaded one its teacher by `set_teacher`. To save it alone, "
                "decorate the function with "
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
    """Warns that a function without a version can't be told from others."""
    warnings.warn(
        f"{what}, and has no version: a cache of its predictions, or the state "
        "of a training run with it, can't tell it from another function, and "
        "would be used on with a changed one. State a version, and change it "
        f"with the function: `{example}`.",
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
            "Argument `classes` must hold different class numbers from 0 to "
            f"{num_classes - 1}. Received: classes={numbers}."
        )
    return tuple(int(each) for each in numbers)


def _checked_outputs(teacher, outputs, samples):
    """What a function returned, as float64; a `ValueError` if it won't do."""
    expected = (samples, len(teacher.classes))
    outputs = np.asarray(outputs)
    if outputs.shape != expected or outputs.dtype.kind not in "fiu":
        _refuse(
            teacher,
            f"an array of shape {outputs.shape} and type {outputs.dtype}",
            f"numbers of shape {expected}: (batch, classes)",
        )
    outputs = outputs.astype("float64")
    if not np.isfinite(outputs).all():
        wrong = int((~np.isfinite(outputs)).sum())
        _refuse(teacher, f"{wrong} entries NaN or infinite", "finite numbers")
    if not teacher.from_logits:
        sums = outputs.sum(axis=-1)
        # Half precision rounds each of many classes.
        if outputs.min() < 0.0 or np.abs(sums - 1.0).max() > 0.02:
            _refuse(
                teacher,
                f"entries from {outputs.min():.4g} to {outputs.max():.4g}, "
                f"rows that sum to {sums.min():.4g} to {sums.max():.4g}",
                "probabilities, rows that sum to 1 (or from_logits=True)",
            )
    return outputs


def _refuse(teacher, received, expected):
    raise ValueError(
        f"The function {_name_of(teacher.function)} of the teacher "
        f"{teacher.name!r} returned an array that can't be used. Received: "
        f"{received}. Expected: {expected}."
    )


def _name_of(function):
    return getattr(function, "__name__", repr(function))


class _Probabilities:
    """A scikit-learn classifier's probabilities, of samples of any shape."""

    def __init__(self, classifier):
        self.classifier = classifier
        self.__name__ = f"{type(classifier).__name__}.predict_proba"

    def __call__(self, array):
        return self.classifier.predict_proba(array.reshape(len(array), -1))


def _classes_of(classifier, numbers):
    """The class number of each column: `numbers`, or the classifier's own."""
    known = getattr(classifier, "classes_", None)
    kind = type(classifier).__name__
    # scikit-learn hides predict_proba where the settings exclude it.
    if not hasattr(classifier, "predict_proba") or known is None:
        raise ValueError(
            "Argument `classifier` must be a fitted scikit-learn classifier "
            f"that gives probabilities. Received: {classifier!r}, without "
            "`predict_proba` or `classes_`. Fit it, or calibrate it."
        )
    if isinstance(known, list):
        raise ValueError(
            "The classifier must have one output. Received: "
            f"{kind} with {len(known)} outputs."
        )
    if numbers is None and np.asarray(known).dtype.kind not in "iu":
        raise ValueError(
            f"The classes of {kind} are no integers, so the student's "
            f"numbering is not known. Received: {list(known[:5])}. Give "
            "`classes=`, the student's number of each, in this order."
        )
    return known if numbers is None else numbers
