"""The teacher's side of the distiller."""

import inspect

import keras
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.cache.teacher_cache import TeacherCache
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.memories import check_memories
from keras_kd._src.distillation.steps import Answer
from keras_kd._src.distillation.steps import StudentInputs
from keras_kd._src.distillation.steps import Targets
from keras_kd._src.distillation.steps import carries_answers
from keras_kd._src.distillation.steps import no_gradient
from keras_kd._src.distillation.steps import separate_buffers
from keras_kd._src.distillation.steps import split_targets
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.distillation.teacher_state import check_state
from keras_kd._src.distillation.teacher_state import give_state
from keras_kd._src.distillation.teacher_state import moves
from keras_kd._src.rules.rule import check_rule_shapes
from keras_kd._src.specs import check_teacher
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import output_spec


class _Untracked:
    """Holds a model out of reach of Keras' and PyTorch's tracking."""

    def __init__(self, model):
        self.model = model


class Teaching:
    """The part of the `Distiller` that holds the teacher and asks it.

    The teacher is no layer of the distiller: its losses, metrics, weights
    and `trainable` flags stay its own. One whose `call` has an argument
    `labels` is shown the batch's labels (None where there are none).

    Example:
    >>> import keras_kd as kd
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> teacher = keras.models.clone_model(student)
    >>> distiller = kd.Distiller(teacher, student)
    >>> inputs, targets, _ = distiller.ask_teacher((keras.ops.ones((2, 4)),))
    >>> targets.teacher.output.shape == (2, 3)
    True
    """

    _teacher = _Untracked(None)
    _teacher_state = {}  # what a loaded distiller expects of its teacher

    @property
    def teacher(self):
        return self._teacher.model

    def __dir__(self):
        # Saving follows dir(): the teacher is no part of the training state.
        return [name for name in super().__dir__() if name != "teacher"]

    def set_teacher(self, teacher):
        """Gives a distiller its teacher; one that was loaded has none.

        Args:
            teacher: a built Keras model, the one that it was trained with.

        Raises:
            ValueError: it is another teacher, or can't teach the student.
        """
        if not isinstance(teacher, TeacherCache):
            check_teacher(teacher, self.student)
        if moves(teacher):
            teacher.check_student(self.student)
        check_state(teacher, self._teacher_state)
        self._match_views(teacher)
        self.take_state(teacher, self._teacher_state)
        self._teacher = _Untracked(teacher)
        # Keras asks the model's layers, of which the teacher is none.
        layers = keras_compat.all_layers(teacher)
        self.supports_jit = all(layer.supports_jit for layer in layers)
        if self.compiled and not self.supports_jit:
            self.jit_compile = False
        # Steps that were compiled before go on asking the earlier teacher.
        self.train_function = self.test_function = None

    def take_state(self, teacher, state):
        """Gives a teacher that moves what was saved of it."""
        give_state(teacher, state)
        # One that moves is soon no more what was saved.
        self._teacher_state = {} if moves(teacher) else state

    def _match_views(self, teacher):
        # First of all, as Keras wraps what is raised while a model is traced.
        check_memories(self.transfers)
        stored = isinstance(teacher, TeacherCache)
        for transfer in self.transfers:
            for tap in [] if stored else transfer.asked_taps:
                find_layer(teacher, tap.path)
            for tap in transfer.student_taps:
                find_layer(self.student, tap.path)
        inputs = input_spec(self.student)
        if inputs is None and not stored:
            inputs = input_spec(teacher)
        if inputs is None:
            raise ValueError(
                "The shape of the inputs is not known. Received a student "
                f"{self.student.name!r} and a teacher {teacher.name!r} that "
                "do not say what they take. Call the student on a batch, then "
                "make the Distiller."
            )
        if not self.student.built:
            self.student(inputs)
        self._student_inputs = inputs
        told = self._told_by(teacher, inputs)
        made = output_spec(lambda x: self._run_student(x, False).views, inputs)
        for transfer in self.transfers:
            check_rule_shapes(transfer.rules, told)
            transfer.match(
                [view.shape for view in transfer.teacher_features(told)],
                [view.shape for view in transfer.student_features(made)],
            )

    def _asked_taps(self):
        return [tap for term in self.transfers for tap in term.asked_taps]

    def _told_by(self, teacher, inputs):
        if isinstance(teacher, TeacherCache):
            return teacher.specs(self._asked_taps())
        return output_spec(lambda x: self._ask(teacher, x).views, inputs)

    def _ask(self, teacher, inputs, labels=None, state_mapping=None):
        taps = self._asked_taps()
        arguments = {"training": False}
        if "labels" in inspect.signature(teacher.call).parameters:
            arguments["labels"] = labels
        # The scope drops whatever a pass would write to the teacher.
        with no_gradient(), keras.StatelessScope(state_mapping=state_mapping):
            return Answer(*run_tapped(teacher, inputs, taps, **arguments))

    def ask_teacher(self, data, state_mapping=None, training=True):
        """Completes a batch: marks its inputs, adds the teacher's answer.

        Args:
            data: a batch as `fit` has it, `x`, `(x, y)` or
                `(x, y, sample_weight)`.
            state_mapping: on JAX, pairs of variables and values.
            training: False if a batch without the answer of a cache will do.

        Returns:
            `(StudentInputs, Targets, sample_weight)`.

        Raises:
            ValueError: the distiller has no teacher.
        """
        self._need_teacher()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        labels, sample_index, sample_weight = split_targets(y, sample_weight)
        if not isinstance(self.teacher, TeacherCache):
            answer = self._ask(self.teacher, x, labels, state_mapping)
        elif training or carries_answers(y):
            views = self.teacher.answer(y)
            answer = Answer(views.get(""), views)
        else:
            answer = None
        targets = Targets(labels, answer, sample_index)
        return StudentInputs(x), targets, sample_weight

    def answered(self, data, logs):
        """The logs of a batch, without those that need an answer it lacks."""
        _, targets, _ = data
        if targets.teacher is not None:
            return logs
        absent = {*self._term_names()}
        absent |= {metric.name for metric in self._teacher_metrics.all}
        return {key: logs[key] for key in logs if key not in absent}

    def follow_student(self):
        """Moves a teacher that follows its student; at the end of a step."""
        if moves(self.teacher):
            with no_gradient():
                step = ops.convert_to_tensor(self._training_step)
                self.teacher.follow(self.student, step)

    def _need_teacher(self):
        if self.teacher is None:
            raise ValueError(
                f"The distiller {self.name!r} has no teacher: it was loaded, "
                "and teachers are not saved. Received: a call that asks the "
                "teacher. Give it the one that it was trained with: "
                "`distiller.set_teacher(teacher)`."
            )

    def _need_output(self):
        """Metrics of the teacher need its output, which may not be stored."""
        stored = isinstance(self.teacher, TeacherCache)
        if (
            stored
            and self._teacher_metrics.all
            and "" not in self.teacher.shapes
        ):
            raise ValueError(
                f"The cache {self.teacher.name!r} does not hold the teacher's "
                "output. Received: metrics of it, "
                f"{[metric.name for metric in self._teacher_metrics.all]}; the "
                f"cache holds {list(self.teacher.shapes)}. Compile without "
                'them, or write the cache with `outputs={"": ..., ...}`.'
            )

    def _prepare(self):
        self._need_teacher()
        self._need_output()
        separate_buffers(
            self.trainable_variables + self.non_trainable_variables
        )
