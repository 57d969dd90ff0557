"""Distiller: a Keras model that trains a student with a teacher's help."""

import contextlib
import functools

import keras
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import separate_buffers
from keras_kd._src.backend import state_mapping
from keras_kd._src.backend import update_after_step
from keras_kd._src.backend import with_logs
from keras_kd._src.distillation import checkpoint
from keras_kd._src.distillation import checks
from keras_kd._src.distillation import defaults
from keras_kd._src.distillation.adapters import check_memories
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.batch import StudentInputs
from keras_kd._src.distillation.batch import Targets
from keras_kd._src.distillation.batch import common_weight
from keras_kd._src.distillation.batch import split_batch
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.inspection import OutputInspection
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.monitor import Monitor
from keras_kd._src.distillation.shared_state import check_teacher_is_left
from keras_kd._src.distillation.shared_state import claim
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import activation_at
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.distillation.taps import text_of
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.distillation.term_data import TermData
from keras_kd._src.distillation.transfer import as_transfers
from keras_kd._src.metrics import LossParts
from keras_kd._src.metrics import TeacherMetrics
from keras_kd._src.naming import distinct
from keras_kd._src.naming import loss_text
from keras_kd._src.naming import model_text
from keras_kd._src.rules.rule import check_rule_shapes
from keras_kd._src.specs import check_student
from keras_kd._src.specs import explained
from keras_kd._src.specs import input_spec
from keras_kd._src.specs import output_spec


@keras.saving.register_keras_serializable(package="keras_kd")
class Distiller(keras_compat.Model):
    """Knowledge distillation (KD): trains a student on labels and a teacher.

    `Distiller(teacher, student)` alone is Hinton's method with the usual
    values: soft targets at temperature 4, weight 0.9, labels 0.1. It is
    compiled and fitted like any Keras model, and `distiller.student` is a
    plain model throughout.

        loss = hard_weight * compiled loss
             + sum over transfers of
                   weight * loss(teacher features, student features)
             + the student's own losses (regularizers, `add_loss`)

    In each step the teacher runs once, in inference mode and outside of the
    gradient, and the student runs once. Each part is in the logs, weighted,
    so that the parts add up to `loss`: `hard_loss`, one `<name>_loss` for
    each transfer, and `student_losses`.

    Where only some samples have labels, give the others the label -1 and the
    compiled loss `ignore_class=-1` (a `sample_weight` of 0 would silence the
    teacher). Metrics of labels then count only in validation. Tokens and
    pixels of that label count in no transfer, unless it has
    `ignore_class=False`; which weights, labels and masks reach a transfer is
    told in `Transfer`.

    Methods that keep something of each sample need its index in the data: give
    `y` as a dict of `"labels"` (if any) and `"sample_index"`, integers of
    shape `(batch,)`.

    Without `transfers`, a student of several outputs is distilled at each of
    them, once it is compiled: by soft targets where the output's compiled loss
    is a cross-entropy or its last activation a softmax (binary soft targets
    for yes and no), else by squared error, which a warning tells. Each has the
    weight 0.9.

    What trains on but is likely a mistake is warned of once, at the first
    batch or epoch: labels without a loss, probabilities where logits are
    expected (or the other way round), a teacher no better than chance, a term
    too small to matter.

    The teacher is left as it was, and is never saved: the training state holds
    its fingerprint, and refuses another teacher. Its weights, statistics,
    `trainable` flags, random seeds and the states of its stateful layers stay:
    what its pass writes to variables is dropped, so that a stateful recurrent
    teacher begins each batch in the state that it was given in. A teacher that
    shares trained layers with the student is refused. What a layer keeps
    elsewhere than in Keras' variables is out of reach.

    Args:
        teacher: a built Keras model, its cached predictions
            (`keras_kd.cache.open`), or a `keras_kd.teachers.Teacher`. (None
            only until `set_teacher`.)
        student: a Keras model that takes the same inputs.
        transfers: a `Transfer`, a loss (a transfer of the outputs, of weight
            1), or a list of them; soft targets by default (see above).
        hard_weight: weight of the compiled loss, non-negative, or a
            `LearningRateSchedule` over training steps.
        name: the model's name.

    Raises:
        ValueError: teacher, student or transfers are not of their kind, a tap
            does not exist, or features don't fit each other.

    Example:
    >>> import keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> distiller = kd.Distiller(teacher, student)
    >>> distiller.compile(
    ...     optimizer="adam",
    ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ... )
    >>> x, y = keras.ops.ones((8, 4)), keras.ops.zeros((8,))
    >>> history = distiller.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['hard_loss', 'loss', 'soft_targets_loss', 'student_losses']

    Reference: Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a
    Neural Network", arXiv 1503.02531.
    """

    def __init__(
        self, teacher, student, transfers=None, *, hard_weight=0.1, name=None
    ):
        check_student(student)
        # The student's policy: Keras scales the loss by it. No autocast: each
        # model casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self._by_default = transfers is None
        if self._by_default:
            transfers = defaults.one_output()
        self.student = student
        self.transfers = as_transfers(transfers)
        self._hard_weight = Hyperparameter(hard_weight, "hard_weight")
        self._training_step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="training_step",
        )
        self._name_loss_parts()
        self._teacher_metrics = TeacherMetrics()
        self._teacher = self._output_inspection = None
        self._teacher_state = {}  # What a loaded one expects of its teacher.
        self._start_checks(loss=None)
        if teacher is not None:
            self.set_teacher(teacher)
        self.built = all(part.built for part in [student, *self.transfers])

    def _name_loss_parts(self):
        if hasattr(self, "_loss_parts"):
            keras_compat.untrack(self, self._loss_parts)
        self._loss_parts = LossParts(
            ["hard_loss", *self._term_names(), "student_losses"]
        )

    # --- the teacher --------------------------------------------------------

    @property
    def teacher(self):
        """The teacher as it was given; None in one that was just loaded."""
        return self._teacher and self._teacher.wrapped

    def __dir__(self):
        # Saving follows dir(): the teacher is no part of the training state.
        return [name for name in super().__dir__() if name != "teacher"]

    def set_teacher(self, teacher):
        """Gives a distiller its teacher; one that was loaded has none.

        Args:
            teacher: what the constructor takes; for a distiller that was
                loaded, the teacher that it was trained with.

        Raises:
            ValueError: it is another teacher, or can't teach the student.
        """
        teacher = as_teacher(teacher)
        if not (self._teacher is None or self._teacher.replaceable):
            raise ValueError(
                "A SelfDistiller learns from its own student. Received: "
                f"teacher={teacher.wrapped!r}. With a teacher use "
                "`keras_kd.Distiller(teacher, student, transfers)`."
            )
        teacher.check_student(self.student)
        if self._teacher_state:
            teacher.check_state(self._teacher_state)
        with checks.own_errors():
            self._match_features(teacher)
        self._teacher_state = teacher.load_state(self._teacher_state)
        self._teacher = teacher
        self.supports_jit = teacher.supports_jit
        if self.compiled and not self.supports_jit:
            self.jit_compile = False
        # Steps that were compiled before go on with the earlier teacher.
        self.train_function = self.test_function = None

    def _match_features(self, teacher):
        """Builds what the features need, once both sides' shapes are known."""
        # First of all, as Keras wraps what is raised while a model is traced.
        check_memories(self.transfers)
        for tap in self._student_taps():
            find_layer(self.student, tap.path)
        inputs = self._find_inputs(teacher)
        if not self.student.built:
            self.student(inputs)
        if self._by_default:
            self._choose_transfers(inputs)
        taught = teacher.feature_specs(self._teacher_taps(), inputs)
        output, features = output_spec(
            lambda x: self._run_student(x, False, teacher), inputs
        )
        for transfer in self.transfers:
            check_rule_shapes(transfer, taught)
            transfer.match(
                [each.shape for each in transfer.teacher_features(taught)],
                [each.shape for each in transfer.student_features(features)],
            )
        self._student_output = output
        if self._output_inspection is None:
            outputs = len(keras.tree.flatten(output))
            self._output_inspection = OutputInspection(outputs)
        self._find_activations(teacher, inputs)
        self._check_shared_state(teacher)
        checks.warn_of_temperature(teacher.wrapped, self.transfers)

    def _choose_transfers(self, inputs):
        """The default ones of several outputs, once there is a loss."""
        output = getattr(self.student, "output", None)
        if output is None:
            output = output_spec(self.student, inputs)
        if len(keras.tree.flatten(output)) < 2:
            return
        chosen = []
        if self.compiled:
            chosen = defaults.several_outputs(
                self.student, output, self._loss_given
            )
        # In place: Keras then forgets those before.
        self.transfers.clear()
        self.transfers.extend(chosen)
        self._name_loss_parts()

    def _check_shared_state(self, teacher):
        claim(teacher, self.transfers, self._training_step, self.student)
        trainable = self.trainable_variables
        check_teacher_is_left(teacher, self.student, trainable)

    def _find_activations(self, teacher, inputs):
        """Finds out where outputs are probabilities in place of logits."""

        @functools.cache
        def of_teacher(text):
            return teacher.activation_at(Tap(text), inputs)

        @functools.cache
        def of_student(text):
            return activation_at(self.student, Tap(text), inputs)

        for transfer in self.transfers:
            transfer.read_logits(of_teacher, of_student)
        self._activations = of_teacher(""), of_student("")

    def _find_inputs(self, teacher):
        inputs = input_spec(self.student)
        if inputs is None:
            inputs = teacher.input_spec()
        if inputs is None:
            raise ValueError(
                "The shape of the inputs is not known. Received: a student "
                f"{self.student.name!r} and a teacher {teacher.name!r} that "
                "do not say what they take. Call the student on a batch, then "
                "make the Distiller."
            )
        return inputs

    def _teacher_taps(self):
        return [tap for term in self.transfers for tap in term.all_teacher_taps]

    def _student_taps(self):
        return [tap for term in self.transfers for tap in term.student_taps]

    # --- one step -----------------------------------------------------------

    def train_step(self, *args):
        """One training step; `(data)`, on JAX `(state, data)`."""
        *state, data = args
        batch = self.complete_batch(data, state_mapping(self, *state))
        results = super().train_step(*state, batch)
        if self._teacher.follows_student:
            results = update_after_step(self, results, self._update_teacher)
        return results

    def test_step(self, *args):
        """One step of evaluation; `(data)`, on JAX `(state, data)`."""
        *state, data = args
        values = state_mapping(self, *state)
        batch = self.complete_batch(data, values, training=False)
        results = super().test_step(*state, batch)
        _, targets, _ = batch
        if targets.teacher is None:
            results = with_logs(results, self._without_teacher)
        return results

    def complete_batch(self, data, state_mapping=None, training=True):
        """Completes a batch: marks its inputs, adds the teacher's predictions.

        Args:
            data: a batch as `fit` has it, `x`, `(x, y)` or
                `(x, y, sample_weight)`.
            state_mapping: on JAX, pairs of variables and values.
            training: False if a batch without predictions will do.

        Returns:
            `(StudentInputs, Targets, sample_weight)`.

        Raises:
            ValueError: the distiller has no teacher.
        """
        self._need_teacher()
        batch = split_batch(data, training)
        with no_gradient():
            predictions = self._teacher.predictions(
                batch, self._teacher_taps(), state_mapping, training
            )
        targets = Targets(batch.labels, predictions, batch.sample_index)
        return StudentInputs(batch.inputs), targets, batch.sample_weight

    def _update_teacher(self):
        with no_gradient():
            step = ops.convert_to_tensor(self._training_step)
            self._teacher.update(self.student, step)

    def _without_teacher(self, logs):
        """The logs of a batch without predictions: no terms, and no sum."""
        absent = {"loss", *self._term_names()}
        absent |= {metric.name for metric in self._teacher_metrics.all}
        return {key: logs[key] for key in logs if key not in absent}

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, StudentInputs):
            # A step's own call: what Keras does around calls is done around
            # the student's, and twice would be felt on PyTorch.
            return self.call(inputs, *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None):
        if isinstance(inputs, StudentInputs):
            return self._run_student(inputs.inputs, training, self._teacher)
        with explained("student", self.student, inputs):
            return self.student(inputs, training=training)

    def _run_student(self, inputs, training, teacher):
        own = teacher.taps_in_student(self._teacher_taps())
        taps = [*self._student_taps(), *own]
        with explained("student", self.student, inputs):
            return Predictions(
                *run_tapped(self.student, inputs, taps, training=training)
            )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not isinstance(y, Targets):
            # Keras builds the compiled loss and metrics with bare batches.
            batch = split_batch((x, y, sample_weight))
            return self._hard_loss(batch.labels, y_pred, batch.sample_weight)
        if training:
            self._advance_schedules()
            self._inspect_outputs(y, y_pred, sample_weight)
        parts = [
            self._hard_loss(y.labels, y_pred.output, sample_weight),
            *self._terms(x, y, y_pred.features, sample_weight, training),
            self._student_losses(),
        ]
        samples = ops.shape(keras.tree.flatten(x)[0])[0]
        self._loss_parts.update_state(parts, samples)
        return sum(parts)

    def _advance_schedules(self):
        step = ops.convert_to_tensor(self._training_step)
        for hyperparameter in self.hyperparameters().values():
            hyperparameter.advance(step)
        self._training_step.assign_add(1)

    def _inspect_outputs(self, targets, predictions, sample_weight):
        if not self.in_first_epoch:
            return
        classes = any(each.distills_classes for each in self.transfers)
        self._output_inspection.update(
            targets.labels if classes else None,
            targets.teacher.output,
            predictions.output,
            common_weight(sample_weight),
        )
        if self._check_labels and targets.labels is not None:
            self._check_labels = False
            checks.warn_of_labels()

    def _hard_loss(self, labels, output, sample_weight):
        compiled_loss = keras_compat.compiled_loss(self)
        if compiled_loss is None:
            return ops.zeros(())
        if labels is None:
            raise ValueError(
                "The distiller was compiled with a loss, and the data has no "
                "labels. Received: batches without `y`. Compile with "
                "`loss=None` and without metrics to train without labels."
            )
        labels = self._labels_for(labels, output)
        hard_loss = compiled_loss(labels, output, sample_weight)
        return hard_loss * ops.convert_to_tensor(self.hard_weight)

    def _labels_for(self, labels, output):
        """The labels as the compiled loss and metrics take them."""
        return labels

    def _terms(self, x, targets, student_features, sample_weight, training):
        if targets.teacher is None:
            return [ops.zeros(()) for _ in self.transfers]
        teacher_features = self._teacher.features(
            targets.teacher, student_features
        )
        data = TermData(
            x.inputs,
            targets.labels,
            sample_weight,
            targets.sample_index,
            getattr(self.student, "output_names", None),
            self._loss_given,
        )
        return [
            transfer.term(
                teacher_features,
                student_features,
                data,
                training=training,
                check_probabilities=self.check_probabilities,
            )
            for transfer in self.transfers
        ]

    def _student_losses(self):
        losses = keras_compat.additional_losses(self)
        return sum(
            (ops.cast(loss, "float32") for loss in losses), ops.zeros(())
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y, Targets):
            if y.teacher is not None:
                self._teacher_metrics.update(
                    y.teacher.output,
                    y_pred.output,
                    common_weight(sample_weight),
                )
            y, y_pred = y.labels, y_pred.output
        else:
            _, y, _, _, sample_weight = split_batch((x, y, sample_weight))
        y = self._labels_for(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    # --- fit, and what is checked around it ---------------------------------

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        monitor = Monitor(x, kwargs.get("steps_per_epoch"))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            monitor.set_model(self)
            callbacks.append(monitor)
        else:
            given = keras.tree.flatten(callbacks) if callbacks else []
            callbacks = [monitor, *given]
        with self._checked_run():
            return super().fit(x, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, *args, **kwargs):
        with self._checked_run():
            results = super().evaluate(*args, **kwargs)
        self.check_finite()
        return results

    def train_on_batch(self, *args, **kwargs):
        with self._checked_run():
            results = super().train_on_batch(*args, **kwargs)
        self.check_finite()
        return results

    def test_on_batch(self, *args, **kwargs):
        with self._checked_run():
            results = super().test_on_batch(*args, **kwargs)
        self.check_finite()
        return results

    @contextlib.contextmanager
    def _checked_run(self):
        self._need_teacher()
        self._check_shared_state(self._teacher)
        self._teacher.check_output(self._teacher_metrics.all)
        for metric in self._teacher_metrics.all:
            metric.tell(*self._activations)
        separate_buffers(
            self.trainable_variables + self.non_trainable_variables
        )
        if checks.uses_labels(
            self._teacher, self.transfers, self._teacher_metrics
        ):
            self._check_labels = False
        with checks.own_errors(), keras_compat.usable_after_errors(self):
            yield

    def _need_teacher(self):
        if self._teacher is None:
            raise ValueError(
                f"The distiller {self.name!r} has no teacher: it was loaded, "
                "and teachers are not saved. Received: a call that needs the "
                "teacher. Give it the one that it was trained with: "
                "`distiller.set_teacher(teacher)`."
            )

    def check_finite(self):
        """Raises a `ValueError` if a batch can't be what a transfer takes."""
        for transfer in self.transfers:
            batches, *_ = transfer.inspection.read()
            if batches:
                self.reset_inspections()  # The next run may have other data.
                taps = text_of(transfer.teacher_taps)
                raise self._teacher.not_finite(batches, taps, transfer.name)
            if transfer.inspection.weights_differ():
                self.reset_inspections()
                raise transfer.different_weights()

    def _start_checks(self, loss):
        """Warnings are given once after each `compile`."""
        self._loss_given = loss
        self.check_probabilities = self.in_first_epoch = True
        self._check_labels = loss is None
        if self._output_inspection is not None:
            self._output_inspection.reset()

    def reset_inspections(self):
        """Sets to 0 what the steps have counted; for the monitor of `fit`."""
        parts = [transfer.inspection for transfer in self.transfers]
        for part in [*parts, self._output_inspection]:
            part.reset()

    def end_first_batch(self):
        """Warns of what the first batch shows; for the monitor of `fit`."""
        if self.check_probabilities:
            self.check_probabilities = False
            for transfer in self.transfers:
                checks.warn_of_probabilities(transfer)
            if self._hard_weight.number > 0.0 or self._hard_weight.moves:
                checks.warn_of_hard_loss(
                    self._loss_given,
                    self.student,
                    self._student_output,
                    self._output_inspection,
                )

    def end_first_epoch(self, logs):
        """Warns of what the first epoch shows; for the monitor of `fit`."""
        if self.in_first_epoch:
            self.in_first_epoch = False
            checks.warn_of_teacher(self._teacher, self._output_inspection)
            checks.warn_of_small_terms(
                self._teacher, self.transfers, self._term_names(), logs
            )

    # --- what Keras asks of a model -----------------------------------------

    @property
    def hard_weight(self):
        """The weight of the compiled loss, a variable; assign a number."""
        return self._hard_weight.variable

    @hard_weight.setter
    def hard_weight(self, value):
        self._hard_weight.assign(value)

    @property
    def training_step(self):
        """How many training steps have been made, over all calls of `fit`."""
        return int(ops.convert_to_numpy(self._training_step.value))

    def hyperparameters(self):
        """The numbers that may move, by the key that they have in the logs.

        Returns:
            Dict of `Hyperparameter`s: `"hard_weight"`, `"<transfer>_weight"`,
            `"<transfer>_temperature"`: what its loss and its rules have.
        """
        found = {"hard_weight": self._hard_weight}
        for term, transfer in zip(self._term_names(), self.transfers):
            prefix = term.removesuffix("loss")
            for hyperparameter in transfer.hyperparameters():
                found[prefix + hyperparameter.name] = hyperparameter
        return found

    def _term_names(self):
        names = distinct(transfer.name for transfer in self.transfers)
        return [f"{name}_loss" for name in names]

    @property
    def non_trainable_variables(self):
        # On JAX all that a step reads must be in here; a closure would bake
        # the teacher's weights into the compiled step as constants.
        own = super().non_trainable_variables
        if self._teacher is None:
            return own
        known = {id(variable) for variable in self.variables}
        return own + [v for v in self._teacher.variables if id(v) not in known]

    @property
    def output_names(self):
        """The names of the student's outputs, as Keras' losses need them."""
        return self.student.output_names

    @property
    def metrics(self):
        return [*super().metrics, *self._teacher_metrics.all]

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        **kwargs,
    ):
        teacher_metrics = TeacherMetrics(metrics, weighted_metrics)
        if self._teacher is not None:
            self._teacher.check_output(teacher_metrics.all)
        keras_compat.forget_compiled_loss(self)
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=teacher_metrics.others,
            weighted_metrics=teacher_metrics.weighted_others,
            **kwargs,
        )
        self._teacher_metrics = teacher_metrics
        self._start_checks(loss)
        if self._by_default and self._teacher is not None:
            self.set_teacher(self._teacher)  # The loss tells the transfers.

    def get_compile_config(self):
        config = super().get_compile_config()
        return config and {**config, **self._teacher_metrics.get_config()}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    # --- what is saved ------------------------------------------------------

    # What the constructor takes besides the config.
    _not_saved = {"teacher": None}

    def get_config(self):
        return {
            "student": self.student,
            "transfers": list(self.transfers) or None,
            "hard_weight": self._hard_weight.config(),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            key: keras.saving.deserialize_keras_object(
                value, custom_objects=custom_objects
            )
            for key, value in config.items()
        }
        return cls(**cls._not_saved, **config)

    def save_own_variables(self, store):
        known = self._teacher is not None
        state = self._teacher.state() if known else self._teacher_state
        checkpoint.save(self, store, state)

    def load_own_variables(self, store):
        saved, teacher_state = checkpoint.read(store)
        if self._teacher is None:
            self._teacher_state = teacher_state
        else:
            self._teacher.check_state(teacher_state)
            self._teacher_state = self._teacher.load_state(teacher_state)
        self._training_step.assign(saved[checkpoint.STEP])
        checkpoint.restore_seeds(self, saved)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        variables = self.trainable_variables + self.non_trainable_variables
        if self.compiled:
            variables += self.optimizer.variables
        with checkpoint.restored_on_error(variables):
            super().load_weights(filepath, skip_mismatch, **kwargs)

    # --- what it says of itself ---------------------------------------------

    def __repr__(self):
        lines = "; ".join(self._description())
        return f"<{type(self).__name__} {self.name!r}: {lines}>"

    def summary(self, *args, print_fn=None, **kwargs):
        """Prints teacher, student and terms, then Keras' table of the layers.

        Args:
            *args: as in `keras.Model.summary`.
            print_fn: called on each line; `print` by default.
            **kwargs: as in `keras.Model.summary`.
        """
        write = print_fn or print
        write(f"{type(self).__name__}: {self.name!r}")
        for line in self._description():
            write(f"  {line}")
        super().summary(*args, print_fn=print_fn, **kwargs)

    def _description(self):
        teacher = self._teacher and self._teacher.describe()
        student = self.student
        return [
            f"teacher {teacher or 'not set'}",
            f"student {model_text(student)}",
            f"hard_loss: {loss_text(self._loss_given)}, "
            f"hard_weight {self._hard_weight.text}",
            *(transfer.describe() for transfer in self.transfers),
        ]
