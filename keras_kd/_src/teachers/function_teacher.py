"""FunctionTeacher: a plain Python function as the teacher."""

import keras
import numpy as np

from keras_kd._src.teachers.classifier import Probabilities
from keras_kd._src.teachers.classifier import classes_of
from keras_kd._src.teachers.function_checks import check_arguments
from keras_kd._src.teachers.function_checks import checked_answer
from keras_kd._src.teachers.function_checks import name_of
from keras_kd._src.teachers.host_call import BACKEND
from keras_kd._src.teachers.host_call import host_call

PROBE_SAMPLES = 8


@keras.saving.register_keras_serializable(package="keras_kd")
class FunctionTeacher(keras.Model):
    """A teacher that is any Python function over NumPy arrays.

    For teachers that are no Keras models: a remote API, an ONNX session, a
    scikit-learn classifier, a table of stored answers. It works in compiled
    steps on all backends, and is asked once a step, on the host; no gradient
    flows through it. It answers logits in the student's numbering of classes:

        logits        as they are; a class that the function does not know
                      has log(floor) + logsumexp(logits)
        probabilities log(q / sum(q)), q = max(p, floor), and floor for a
                      class that the function does not know

    The floor matters, as forests and nearest neighbours answer exact zeros:
    at temperature T an excluded class keeps about `floor ** (1 / T)` of the
    favorite's share. By default all floors together get 1% at most. Lower it
    for a model whose small probabilities are meant, such as a logistic
    regression.

    The teacher is never saved with a distiller. XLA can't compile the step on
    TensorFlow. On JAX the function must not compute with JAX itself, should
    answer the same to the same samples, and is asked once for each device.

    Args:
        function: takes a NumPy array `(batch, *input_shape)`, returns one of
            shape `(batch, number of columns)`, finite.
        input_shape: shape of a sample, a tuple without the batch.
        num_classes: how many classes the student has.
        answers: `"logits"` or `"probabilities"`.
        classes: the class of each column, in the student's numbering; by
            default column i is class i.
        floor: smallest probability of a class, in (0, 1/num_classes];
            `0.01 / num_classes` by default.
        input_dtype: type of the array that the function is given.
        probe: whether `fingerprint_bytes` may ask the function about random
            samples, once. False where calls are billed, answers vary, or
            only certain samples have one: then any function of the same
            settings passes for the same teacher.
        name: the teacher's name.

    Call arguments:
        inputs: tensor of shape `(batch, *input_shape)`.

    Returns:
        float32 logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: an argument can't be used; or, when called, the answer
            has another shape, is not finite, or is no distribution.

    Example:
    >>> def oracle(x):
    ...     return np.stack([x[:, 0], -x[:, 0]], axis=-1)
    >>> teacher = FunctionTeacher(oracle, (4,), 2, answers="logits")
    >>> keras.ops.convert_to_numpy(teacher(keras.ops.ones((1, 4)))).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        function,
        input_shape,
        num_classes,
        *,
        answers="logits",
        classes=None,
        floor=None,
        input_dtype="float32",
        probe=True,
        name=None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        check_arguments(function, num_classes, answers, classes, floor)
        classes = range(num_classes) if classes is None else classes
        self.num_classes = int(num_classes)
        self.answers = answers
        self.classes = tuple(int(number) for number in classes)
        self.floor = 0.01 / num_classes if floor is None else float(floor)
        self.probe = probe
        self._probed = None
        self.sample_shape = tuple(input_shape)
        self._array_type = input_dtype
        # Out of reach of tracking: the function may be a module itself.
        self._asked = lambda: function
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
        >>> teacher.answers, teacher.classes
        ('probabilities', (0, 1))
        """
        classes = classes_of(classifier, classes)
        if num_classes is None:
            num_classes = int(max(classes)) + 1
        return cls(
            Probabilities(classifier),
            input_shape,
            num_classes,
            answers="probabilities",
            classes=classes,
            **kwargs,
        )

    @property
    def function(self):
        return self._asked()

    def build(self, input_shape):
        self.built = True

    def call(self, inputs, training=None):
        return host_call(self._answer, inputs, (self.num_classes,))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def compute_output_spec(self, inputs, training=None):
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def _answer(self, array):
        array = array.astype(self._array_type)
        answer = checked_answer(self, self.function(array), len(array))
        if self.answers == "logits":
            highest = answer.max(axis=-1, keepdims=True)
            total = np.exp(answer - highest).sum(axis=-1, keepdims=True)
            unknown = np.log(self.floor) + highest + np.log(total)
        else:
            answer = np.log(np.maximum(answer, self.floor))
            unknown = np.full((len(array), 1), np.log(self.floor))
        logits = np.repeat(unknown, self.num_classes, axis=-1)
        logits[:, list(self.classes)] = answer
        if self.answers == "probabilities":
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits

    def fingerprint_bytes(self):
        """What tells this teacher from others: it has no weights.

        Returns:
            The settings, and (with `probe`) what the function answers to 8
            fixed random samples, asked once and rounded to 3 decimals of a
            probability.
        """
        config = {**self._settings(), "name": None, "probe": None}
        found = repr(sorted(config.items(), key=str)).encode()
        if self.probe and self._probed is None:
            self._probed = self._probe()
        return found + (self._probed if self.probe else b"")

    def _probe(self):
        shape = (PROBE_SAMPLES, *self.sample_shape)
        samples = np.random.default_rng(0).normal(size=shape)
        if np.dtype(self._array_type).kind not in "fc":
            samples = np.abs(samples)  # as indices are not negative
        logits = self._answer(samples)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        # Other machines differ in the last digits. No negative zeros.
        odds = np.round(odds / odds.sum(axis=-1, keepdims=True), 3) + 0.0
        return np.ascontiguousarray(odds, "float32").tobytes()

    def _settings(self):
        return {
            "input_shape": self.sample_shape,
            "num_classes": self.num_classes,
            "answers": self.answers,
            "classes": self.classes,
            "floor": self.floor,
            "input_dtype": self._array_type,
            "probe": self.probe,
            "name": self.name,
        }

    def get_config(self):
        name = keras.saving.get_registered_name(self.function)
        if keras.saving.get_registered_object(name) is not self.function:
            raise ValueError(
                f"The teacher {self.name!r} can't be saved: its function is "
                f"plain Python. Received: {name_of(self.function)}. A "
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
