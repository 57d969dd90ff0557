"""The student's side of the distiller."""

from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.distillation.steps import Answer
from keras_kd._src.distillation.steps import StudentInputs
from keras_kd._src.distillation.taps import run_tapped


class Studying:
    """The part of the `Distiller` that runs the student.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> teacher = keras.models.clone_model(student)
    >>> distiller = kd.Distiller(teacher, student)
    >>> answer = distiller(StudentInputs(keras.ops.ones((2, 4))))
    >>> answer.output.shape == distiller(keras.ops.ones((2, 4))).shape
    True
    """

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, StudentInputs):
            # A step's own call: what Keras does around calls is done around
            # the student's, and twice would be felt on PyTorch.
            return self.call(inputs, *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None):
        if isinstance(inputs, StudentInputs):
            return self._run_student(inputs.inputs, training)
        return self.student(inputs, training=training)

    def _run_student(self, inputs, training):
        taps = [tap for term in self.transfers for tap in term.student_taps]
        answer = run_tapped(self.student, inputs, taps, training=training)
        return Answer(*answer)

    def _student_losses(self):
        losses = keras_compat.additional_losses(self)
        return sum(
            (ops.cast(loss, "float32") for loss in losses), ops.zeros(())
        )

    @property
    def output_names(self):
        return self.student.output_names
