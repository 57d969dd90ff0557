"""MovingAverage: the moving average of a student's weights as its teacher."""

import keras
from keras import ops

from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.taps import activation_at
from keras_kd._src.distillation.teacher import FINGERPRINT
from keras_kd._src.distillation.teacher import LiveTeacher
from keras_kd._src.specs import finalize
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import take_weights

WEIGHT = "weight_"
HALF = {"float16", "bfloat16"}


@keras.saving.register_keras_serializable(package="keras_kd")
class MovingAverage(keras.Model):
    """The moving average (EMA) of a student's weights as teacher: Mean Teacher.

    The averaged weights predict better, and change less, than the student's at
    any one step. Use it if only few samples have labels: the student is trained
    to agree with the average on all others. The `Distiller` updates the average
    at the end of each training step, inside the compiled step:

        teacher = MovingAverage(student, decay=0.999)
        distiller = Distiller(teacher, student, [...])
        distiller.fit(...)
        teacher.model.save("averaged.keras")

        decay_t = min(decay, 1 - 1 / (t + 1)) with `warm_up`, else decay
        average = decay_t * average + (1 - decay_t) * student, after step t

    t counts from 1. All weights of floating type are averaged, including the
    statistics of normalization layers; the others are copied. As the average
    changes, its weights are saved and restored with the distiller's state (of
    other teachers only a fingerprint is saved): set the teacher of a loaded
    distiller to `MovingAverage(distiller.student, decay=0.999)`, with the same
    arguments as before, to continue. `EarlyStopping(restore_best_weights=True)`
    restores the student but not the average;
    `ModelCheckpoint(save_weights_only=True)` saves both. Taps of its layers
    begin with "model": "model/stage3".

    Args:
        student: a built Keras model, which is copied. Its weights must not be
            in half precision (mixed precision is fine).
        decay: the share of the average that is kept in a step, in [0, 1], or a
            `LearningRateSchedule` over training steps (BYOL's rises from 0.996
            to 1: `schedules.Annealing(0.996, 1.0, steps=..., curve="cosine")`).
            The usual values are 0.99 (short runs) to 0.9999.
        warm_up: whether the first steps are averaged equally, so that the
            student's initial weights soon stop counting; as in Mean Teacher.
        name: the model's name.

    Call arguments:
        inputs: the student's inputs.

    Returns:
        The student's predictions with averaged weights, in inference mode.

    Raises:
        ValueError: the student is not a built Keras model, or can't be copied;
            `decay` is out of range.

    Example:
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> teacher = MovingAverage(student, decay=0.5, warm_up=False)
    >>> _ = student.layers[0].bias.assign([1.0, 2.0, 4.0])
    >>> teacher.follow(student, step=1)
    >>> [float(value) for value in teacher.model.layers[0].bias.numpy()]
    [0.5, 1.0, 2.0]

    Reference: Tarvainen and Valpola, 2017, "Mean teachers are better role
    models", arXiv 1703.01780. Grill et al., 2020, "Bootstrap your own latent",
    arXiv 2006.07733.
    """

    def __init__(self, student, decay=0.999, *, warm_up=True, name=None):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.model = _copy_of(student)
        self._decay = _checked_decay(decay)
        self.warm_up = warm_up
        inputs = input_spec(self.model)
        if inputs is not None:
            self.build(keras.tree.map_structure(lambda x: x.shape, inputs))
        self.built = True

    @property
    def decay(self):
        return self._decay.variable

    @decay.setter
    def decay(self, value):
        self._decay.assign(value)

    def build(self, input_shape):
        self.built = True

    def known_inputs(self):
        """Its model's inputs; None if only data can show them."""
        return known_inputs(self.model)

    def call(self, inputs, training=None):
        inputs = inputs_for("teacher", self.model, inputs)
        return self.model(inputs, training=False)

    def as_teacher(self):
        """Itself as a `Teacher`, which a `Distiller` updates in each step."""
        return _MovingTeacher(self)

    def follow(self, student, step):
        """Updates the average; the `Distiller` does it at the end of a step.

        Args:
            student: the model that is averaged.
            step: the number of training steps so far, including this one.
        """
        step = ops.cast(step, "float32")
        self._decay.advance(step)
        decay = ops.convert_to_tensor(self.decay)
        if self.warm_up:
            decay = ops.minimum(decay, 1.0 - 1.0 / (step + 1.0))
        for average, weight in zip(self.model.weights, student.weights):
            value = ops.convert_to_tensor(weight.value)
            if keras.backend.is_float_dtype(average.dtype):
                value = average.value + (1.0 - decay) * (value - average.value)
            average.assign(value)

    def get_config(self):
        return {
            "student": keras.saving.serialize_keras_object(self.model),
            "decay": keras.saving.serialize_keras_object(self._decay.config()),
            "warm_up": self.warm_up,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        student, decay = deserialize(config["student"]), config["decay"]
        if isinstance(decay, dict):
            decay = deserialize(decay)
        rest = {key: config[key] for key in ("warm_up", "name")}
        return cls(student, decay, **rest)


class _MovingTeacher(LiveTeacher):
    """A live teacher that is updated in each step, and saved with weights."""

    def check_student(self, student):
        found, expected = _shapes(student), _shapes(self.model.model)
        if found != expected:
            raise ValueError(
                f"The teacher {self.name!r} is the average of another student. "
                f"Received: a student {student.name!r} with {len(found)} "
                f"weights, and the average of a model with {len(expected)}, or "
                "with other shapes. Make the teacher from the student: "
                "`keras_kd.teachers.MovingAverage(student)`."
            )

    def activation_at(self, tap, inputs):
        # The average is a layer around the model.
        inner = self.model if tap.path else self.model.model
        inputs = inputs_for("teacher", self.model.model, inputs)
        return activation_at(inner, tap, inputs)

    def update(self, student, step):
        self.model.follow(student, step)

    def state(self):
        return {
            f"{WEIGHT}{number}": ops.convert_to_numpy(weight)
            for number, weight in enumerate(self.model.model.weights)
        }

    def check_state(self, state):
        if FINGERPRINT in state:
            raise self.wrong_kind(fixed=False)
        found = [state[f"{WEIGHT}{n}"].shape for n in range(len(state))]
        expected = _shapes(self.model.model)
        if found != expected:
            raise ValueError(
                f"The teacher {self.name!r} is the average of another student "
                "than this training state's. Received: a teacher with weights "
                f"of the shapes {expected}, expected {found}. Make it from the "
                "student: `keras_kd.teachers.MovingAverage(distiller.student)`."
            )

    def load_state(self, state):
        if state:
            for number, weight in enumerate(self.model.model.weights):
                weight.assign(state[f"{WEIGHT}{number}"])
            finalize(self.model)
        return {}  # Nothing to check later, as the weights change.


def _shapes(model):
    return [tuple(weight.shape) for weight in model.weights]


def _copy_of(student):
    if not isinstance(student, keras.Model) or not student.built:
        raise ValueError(
            "Argument `student` must be a built Keras model, whose weights can "
            f"be copied. Received: student={student!r}. Give it a "
            "`keras.Input`, or call it on a batch first."
        )
    copy = keras.models.clone_model(student)
    if not copy.built:
        copy(input_spec(student))
    take_weights(copy, student)
    half = sorted({weight.dtype for weight in copy.weights} & HALF)
    if half:
        raise ValueError(
            f"The student {student.name!r} has weights of type {half[0]}, in "
            "which an average never changes, as rounding removes its small "
            "updates. Received: a student in half precision. Make it with the "
            'policy "mixed_bfloat16" or "mixed_float16", which keep weights in '
            "float32."
        )
    return copy


def _checked_decay(decay):
    checked = Hyperparameter(decay, "decay")
    start = float(checked.schedule(0) if checked.schedule else decay)
    if start > 1.0:
        raise ValueError(
            "Argument `decay` must be at most 1, which keeps the average "
            f"constant. Received: decay={start:g}. The usual values are 0.99 "
            "to 0.9999."
        )
    return checked
