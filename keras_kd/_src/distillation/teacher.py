"""Teacher: the interface of a `Distiller`'s teacher, and its usual kinds."""

import inspect

import keras
import numpy as np
from keras import ops

from keras_kd._src.diagnosis.features import TO_BE_FINITE
from keras_kd._src.diagnosis.features import where_not_finite
from keras_kd._src.distillation.batch import Batch
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.head import find_head
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.taps import activation_at
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.naming import batches_text
from keras_kd._src.naming import model_text
from keras_kd._src.specs import check_teacher
from keras_kd._src.specs import explained
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import output_spec

FINGERPRINT = "fingerprint"


class Teacher:
    """Base class of all teachers; subclass it for a kind of your own.

    A `Distiller` takes any Keras model and wraps it itself. Subclass this for
    a teacher that is not a single Keras model, such as predictions from a
    server. Only `predictions` must be written; everything else has defaults,
    for a teacher without weights that never changes.

    Attributes:
        name: the name in errors.
        variables: the variables that the compiled step reads: the weights, if
            any.
        supports_jit: False if `predictions` can't be compiled by XLA.
        replaceable: False if a `Distiller` can't be given another teacher.
        takes_labels: whether its predictions depend on the batch's labels.
        needs_data: whether its inputs are known only from a batch of data.

    Raises:
        ValueError: in a `Distiller`, a transfer names a layer of a teacher
            without layers, or a training state is of another teacher.
        NotImplementedError: a subclass does not implement `predictions`.

    Example:
    >>> class Confident(Teacher):
    ...     def predictions(self, batch, taps, state_mapping=None,
    ...                     training=True):
    ...         logits = 9.0 * ops.one_hot(ops.cast(batch.inputs[:, 0], int), 3)
    ...         return self.at_output(logits, taps)
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> import keras_kd as kd
    >>> distiller = kd.Distiller(Confident(), student)
    >>> distiller.compile("sgd", loss=None)
    >>> history = distiller.fit(ops.ones((8, 4)), verbose=0)
    """

    name = "teacher"
    variables = ()
    supports_jit = True
    replaceable = True
    takes_labels = False
    needs_data = False
    # Whether each process holds a part of it, so that all must read theirs.
    sharded = False

    @property
    def follows_student(self):
        """Whether it changes while the student is trained."""
        return type(self).update is not Teacher.update

    @property
    def wrapped(self):
        """What the user gave as the teacher: a model, or this object."""
        return self

    def describe(self):
        """Its line in `Distiller.summary`."""
        return f"{self.name} ({type(self).__name__})"

    # --- one batch ----------------------------------------------------------

    def predictions(self, batch, taps, state_mapping=None, training=True):
        """Predicts a batch, in inference mode; no gradient is recorded.

        Args:
            batch: a `Batch`: `inputs`, `labels`, `sample_index`, `cached`,
                `sample_weight`; None for those that the data lacks.
            taps: list of `Tap`: the features to return.
            state_mapping: on JAX, pairs of variables and their values, to be
                passed to `keras.StatelessScope`; else None.
            training: whether it is a training step.

        Returns:
            `Predictions(output, features)`: the output, and a dict of the
            features by the text of their tap; or None in evaluation, if there
            are no predictions for the batch.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `predictions(batch, taps, "
            "state_mapping=None, training=True)`."
        )

    def at_output(self, output, taps):
        """The `Predictions` of a teacher that has an output and no layers.

        Args:
            output: its predictions for the batch, shape `(batch, ...)`.
            taps: as `predictions` gets them.

        Returns:
            `Predictions(output, features)`.

        Raises:
            ValueError: a tap names a layer.
        """
        inner = [tap.text for tap in taps if not tap.is_output]
        if inner:
            raise ValueError(
                f"The teacher {self.name!r} has an output and no layers. "
                f"Received: a transfer that reads it at {inner}. Leave out "
                "`teacher=` in that transfer."
            )
        return Predictions(
            output, {tap.text: tap.select(output) for tap in taps}
        )

    def activation_at(self, tap, inputs):
        """The name of the activation whose values a tap reads, if known."""
        return None

    def taps_in_student(self, taps):
        """Those of its taps that are read in the student's forward pass."""
        return []

    def features(self, predictions, student_features):
        """The teacher's features, given the student's of the same batch."""
        return predictions.features

    def leave_out_head(self, inputs, chunk_size):
        """Computes logits a few positions at a time from now on, if it can.

        Args:
            inputs: its inputs, as `KerasTensor`s.
            chunk_size: the number of positions; None for all at once.

        Raises:
            ValueError: it is a model without a head that can be left out.
        """

    def update(self, student, step):
        """Follows the student, at the end of a training step.

        Args:
            student: the student, after the step.
            step: the number of training steps so far, including this one.
        """

    # --- before the first batch ---------------------------------------------

    def check_student(self, student):
        """Raises a `ValueError` if it does not fit this student."""

    def check_taps(self, taps):
        """Raises a `ValueError` if a tap does not exist; runs nothing."""

    def check_output(self, metrics):
        """Raises a `ValueError` if metrics of its output can't be computed."""

    def input_spec(self):
        """Its inputs, as `KerasTensor`s; None if the same as the student's."""
        return None

    def feature_specs(self, taps, inputs):
        """Its features at the taps, as `KerasTensor`s by tap text."""
        return output_spec(
            lambda x: self.predictions(Batch(x), taps).features, inputs
        )

    # --- what is saved of it ------------------------------------------------

    def fingerprint(self):
        """The 32 bytes (a uint8 array) that identify this teacher."""
        if self.wrapped is not self:
            return fingerprint(self.wrapped)
        values = (variable.value for variable in self.variables)
        return digest([type(self).__qualname__.encode()], values)

    def state(self):
        """Its part of a saved training state, a dict of arrays."""
        return {FINGERPRINT: self.fingerprint()}

    def check_state(self, state):
        """Raises a `ValueError` unless the state was saved by this teacher."""
        if FINGERPRINT not in state:
            raise self.wrong_kind(fixed=True)
        found, expected = self.fingerprint(), state[FINGERPRINT]
        if not np.array_equal(found, expected):
            raise ValueError(
                f"The teacher {self.name!r} is not the one that this training "
                "state was made with: the student would continue with other "
                f"targets. Received: a teacher with fingerprint "
                f"{hexadecimal(found[:6])}, expected "
                f"{hexadecimal(expected[:6])}. Load the weights of the first "
                "teacher into it (or open the cache of its predictions), or "
                "start a new run (another folder or file); to train the "
                "student further with a new teacher, make a new Distiller "
                "from `distiller.student`."
            )

    def load_state(self, state):
        """Restores its saved state, if it changes during training.

        Returns:
            The state that `check_state` of the next teacher is to check.
        """
        return state

    # --- errors -------------------------------------------------------------

    def wrong_kind(self, fixed):
        """The error for a state of a teacher of the other kind."""
        kinds = ["that follows its student", "that stays as it is"]
        return ValueError(
            f"The teacher {self.name!r} is not of the kind that this training "
            f"state was made with. Received: a teacher {kinds[fixed]}, "
            f"expected one {kinds[not fixed]} "
            "(`keras_kd.teachers.MovingAverage`)."
        )

    def not_finite(self, batches, taps, transfer):
        """The error for predictions that are not finite."""
        return ValueError(
            f"The teacher {self.name!r} predicted values that are not finite. "
            f"Received: {where_not_finite(batches, taps)} "
            f"(transfer {transfer!r}). {TO_BE_FINITE}"
        )


class LiveTeacher(Teacher):
    """A Keras model as the teacher, run in each step.

    It is no layer of the distiller, which therefore leaves its losses, metrics,
    weights and `trainable` flags alone. If its `call` has an argument `labels`,
    it gets the batch's labels (None where there are none).
    """

    def __init__(self, model):
        check_teacher(model)
        self.model = model
        self.head = None  # The last layer, if it is left out of a pass.
        self.takes_labels = "labels" in inspect.signature(model.call).parameters

    @property
    def wrapped(self):
        return self.model

    @property
    def name(self):
        return self.model.name

    def describe(self):
        return model_text(self.model)

    @property
    def variables(self):
        return self.model.variables

    @property
    def supports_jit(self):
        return all(layer.supports_jit for layer in all_layers(self.model))

    def predictions(self, batch, taps, state_mapping=None, training=True):
        arguments = {"labels": batch.labels} if self.takes_labels else {}
        inputs = inputs_for("teacher", self.model, batch.inputs)
        # The scope discards all that a pass would write to the teacher.
        with (
            keras.StatelessScope(state_mapping=state_mapping),
            explained("teacher", self.model, inputs),
        ):
            run = self.head.run if self.head else run_tapped
            return Predictions(
                *run(self.model, inputs, taps, training=False, **arguments)
            )

    def leave_out_head(self, inputs, chunk_size):
        self.head = None
        if chunk_size:
            inputs = inputs_for("teacher", self.model, inputs)
            with keras.StatelessScope():
                self.head = find_head("teacher", self.model, inputs, chunk_size)

    def activation_at(self, tap, inputs):
        inputs = inputs_for("teacher", self.model, inputs)
        with keras.StatelessScope():
            return activation_at(self.model, tap, inputs)

    def check_student(self, student):
        if self.model is student:
            raise ValueError(
                "The teacher and the student must be two models. Received: "
                f"the same model {self.name!r} twice. Copy it with "
                "`keras.models.clone_model` and `set_weights` to distil a "
                "model into itself."
            )

    @property
    def needs_data(self):
        return known_inputs(self.model) is None

    def check_taps(self, taps):
        for tap in taps:
            find_layer(self.model, tap.path)

    def input_spec(self):
        return known_inputs(self.model)

    def feature_specs(self, taps, inputs):
        with explained("teacher", self.model, inputs):
            return super().feature_specs(taps, inputs)


class StudentAsTeacher(Teacher):
    """The student itself: its features are read in its own forward pass."""

    replaceable = False
    follows_student = True

    def __init__(self, student):
        self.student = student
        self.name = student.name

    def predictions(self, batch, taps, state_mapping=None, training=True):
        return Predictions(None, {})

    def activation_at(self, tap, inputs):
        return activation_at(self.student, tap, inputs)

    def taps_in_student(self, taps):
        return taps

    def features(self, predictions, student_features):
        return keras.tree.map_structure(ops.stop_gradient, student_features)

    def check_taps(self, taps):
        for tap in taps:
            find_layer(self.student, tap.path)

    def feature_specs(self, taps, inputs):
        return output_spec(
            lambda x: run_tapped(self.student, x, taps, training=False)[1],
            inputs,
        )

    def check_output(self, metrics):
        if metrics:
            raise ValueError(
                "Metrics that compare with a teacher need one. Received: "
                f"{metrics[0].name!r} in `compile` of a SelfDistiller, whose "
                "student has no teacher but itself."
            )

    def state(self):
        return {}

    def check_state(self, state):
        """Checks nothing, as it is saved as the student."""

    def not_finite(self, batches, taps, transfer):
        return ValueError(
            f"The student {self.name!r} predicted values that are not finite. "
            f"Received: NaN or infinity in {batches_text(batches)} (transfer "
            f"{transfer!r}). Lower the learning rate, or check the data."
        )


def as_teacher(teacher):
    """Any kind of teacher as a `Teacher`; Keras models as a `LiveTeacher`."""
    if isinstance(teacher, Teacher):
        return teacher
    if hasattr(teacher, "as_teacher"):
        return teacher.as_teacher()
    return LiveTeacher(teacher)
