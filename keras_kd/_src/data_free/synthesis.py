"""Synthesis: the losses of synthetic samples, from teacher and student."""

import contextlib
import copy

import keras

from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import unchanged
from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.data_free.synthesis_loss import SyntheticBatch
from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import activation_at
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.naming import distinct
from keras_kd._src.specs import input_spec
from keras_kd._src.teachers.function_teacher import FunctionTeacher


class Synthesis:
    """Runs teacher and student on samples, and sums the losses.

    Args:
        teacher: a built Keras model with one output `(batch, classes)`.
        losses: list of `SynthesisLoss`.
        student: a Keras model; None if no loss uses it.
        student_training: whether the student runs in training mode.
    """

    def __init__(self, teacher, losses, student=None, *, student_training=True):
        check_losses(losses)
        if student is teacher:
            raise ValueError(
                "The teacher and the student must be two models, or they never "
                f"disagree. Received: the same model {teacher.name!r} twice."
            )
        self.student_training = student_training
        self.classes = _classes(teacher)
        # Copies, as a loss stores the layers of the teacher that it reads.
        losses = [copy.copy(loss) for loss in losses]
        self.teacher, self.losses, self.student = teacher, losses, student
        self.names = distinct(loss.name for loss in losses)
        self.needs_student = any(loss.needs_student for loss in losses)
        self.needs_targets = any(loss.needs_targets for loss in losses)
        if self.needs_student and student is None:
            names = [loss.name for loss in losses if loss.needs_student]
            raise ValueError(
                "A loss compares teacher and student. Received: losses "
                f"{names}, student=None. Pass the student."
            )
        self._logits = _logits_tap(teacher)
        texts = [text for loss in losses for text in loss.taps(teacher)]
        self._taps = [self._logits, *map(Tap, dict.fromkeys(texts))]
        if self.needs_student:
            self._student_logits = _logits_tap(student)

    def run(self, samples, latents=None, targets=None):
        """Runs the models without updating their variables.

        Args:
            samples: shape `(batch, ...)`.
            latents: the generator's latents.
            targets: the target class probabilities.

        Returns:
            `SyntheticBatch`.
        """
        with unchanged(self.teacher):
            _, features = run_tapped(
                self.teacher, samples, self._taps, training=False
            )
        student_logits = None
        if self.needs_student:
            tap = self._student_logits
            with unchanged(self.student):
                _, found = run_tapped(
                    self.student,
                    samples,
                    [tap],
                    training=self.student_training,
                )
            student_logits = found[tap.text]
        return SyntheticBatch(
            samples,
            features[self._logits.text],
            student_logits,
            features,
            latents,
            targets,
        )

    def logits(self, samples):
        """Only the teacher's logits, outside a training step."""
        with no_gradient(), unchanged(self.teacher):
            _, features = run_tapped(
                self.teacher, samples, [self._logits], training=False
            )
        return features[self._logits.text]

    def values(self, batch):
        """The weighted value of each loss for a `SyntheticBatch`."""
        return [loss(batch) for loss in self.losses]


def check_losses(losses):
    """Raises a `ValueError` unless it is a list of `SynthesisLoss`."""
    listed = isinstance(losses, (list, tuple)) and losses
    if not listed or not all(isinstance(one, SynthesisLoss) for one in losses):
        raise ValueError(
            "Argument `losses` must be a list of losses of "
            "`keras_kd.data_free`, such as `[ClassCertainty(), "
            f"ClassBalance(2.0)]`. Received: losses={losses!r}."
        )


def check_differentiable(teacher):
    """Raises a `ValueError` unless the teacher has a gradient for samples."""
    layers = all_layers(teacher) if isinstance(teacher, keras.Model) else []
    if not layers or any(isinstance(one, FunctionTeacher) for one in layers):
        raise ValueError(
            "Samples are made by the teacher's gradient, which only a Keras "
            "model gives, and no function. Received: "
            f"teacher={teacher!r} (of type {type(teacher).__name__}). "
            "For a function, such as a forest's predictions, use "
            "`data_free.noise` and `data_free.boundary_samples`."
        )


def _classes(teacher):
    check_differentiable(teacher)
    shape = None
    with contextlib.suppress(AttributeError):
        shape = teacher.output_shape
    one = isinstance(shape, tuple) and len(shape) == 2
    if not one or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            "The teacher must have one output, of shape (batch, classes) and "
            f"two or more classes. Received: the teacher {teacher.name!r}, of "
            f"output shape {shape}. Wrap a subclassed model: "
            "`keras.Model(inputs, teacher(inputs))`."
        )
    return shape[-1]


def _logits_tap(model):
    """The tap of a model's logits: before its last softmax, if it has one."""
    tap = Tap("")
    name = activation_at(model, tap, input_spec(model))
    return tap.before_activation() if name in PROBABILITIES else tap
