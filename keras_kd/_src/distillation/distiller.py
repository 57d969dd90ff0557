"""Distiller: a Keras model that trains a student on a teacher's outputs."""

import contextlib
import functools

import keras
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.arguments import integer
from keras_kd._src.atomic_write import save_in_place_of
from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import separate_buffers
from keras_kd._src.backend import state_mapping
from keras_kd._src.backend import update_after_step
from keras_kd._src.backend import with_logs
from keras_kd._src.diagnosis.diagnose import Subject
from keras_kd._src.diagnosis.diagnose import diagnose
from keras_kd._src.diagnosis.output_kinds import mistaken_features
from keras_kd._src.diagnosis.output_kinds import mistaken_hard_loss
from keras_kd._src.diagnosis.output_kinds import output_names
from keras_kd._src.diagnosis.setup import ensemble_temperatures
from keras_kd._src.diagnosis.setup import rounded_head
from keras_kd._src.diagnosis.setup import unused_labels
from keras_kd._src.diagnosis.teacher_accuracy import no_better_than_chance
from keras_kd._src.diagnosis.term_sizes import too_small
from keras_kd._src.distillation import checkpoint
from keras_kd._src.distillation import checks
from keras_kd._src.distillation import defaults
from keras_kd._src.distillation.adapters import check_memories
from keras_kd._src.distillation.batch import ObservedStep
from keras_kd._src.distillation.batch import PairedInputs
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.batch import StudentInputs
from keras_kd._src.distillation.batch import Targets
from keras_kd._src.distillation.batch import common_weight
from keras_kd._src.distillation.batch import split_batch
from keras_kd._src.distillation.batch import student_inputs
from keras_kd._src.distillation.batch import teacher_inputs
from keras_kd._src.distillation.chunks import check_chunks
from keras_kd._src.distillation.chunks import computed
from keras_kd._src.distillation.chunks import hard_term
from keras_kd._src.distillation.chunks import update_metrics
from keras_kd._src.distillation.class_weights import with_class_weight
from keras_kd._src.distillation.head import find_head
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.inspection import OutputInspection
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.monitor import Monitor
from keras_kd._src.distillation.preprocessing import Preprocessing
from keras_kd._src.distillation.preprocessing import has_preprocessor
from keras_kd._src.distillation.preprocessing import with_validation_data
from keras_kd._src.distillation.shared_state import check_teacher_is_left
from keras_kd._src.distillation.shared_state import claim
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import activation_at
from keras_kd._src.distillation.taps import run_tapped
from keras_kd._src.distillation.taps import text_of
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.distillation.term_data import TermData
from keras_kd._src.distillation.transfer import as_transfers
from keras_kd._src.distribution import runs
from keras_kd._src.distribution.processes import check_joined
from keras_kd._src.distribution.processes import is_writer
from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.metrics import LossParts
from keras_kd._src.metrics import TeacherMetrics
from keras_kd._src.naming import distinct
from keras_kd._src.naming import loss_text
from keras_kd._src.naming import model_text
from keras_kd._src.rules.rule import check_rule_shapes
from keras_kd._src.specs import any_batch
from keras_kd._src.specs import batch_size_of
from keras_kd._src.specs import check_same_inputs
from keras_kd._src.specs import check_student
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import explained
from keras_kd._src.specs import inputs_for
from keras_kd._src.specs import known_inputs
from keras_kd._src.specs import of_batch_size
from keras_kd._src.specs import output_spec
from keras_kd._src.specs import output_structure
from keras_kd._src.specs import sizes_known
from keras_kd._src.specs import stated_spec
from keras_kd._src.specs import untracked

METRICS = "metrics", "weighted_metrics"  # Arguments of `compile`.


@keras.saving.register_keras_serializable(package="keras_kd")
class Distiller(keras_compat.Model):
    """Knowledge distillation (KD): trains a student on labels and a teacher.

    `Distiller(teacher, student)` alone is Hinton's method with the usual
    values: soft targets at temperature 4 with weight 0.9, labels with weight
    0.1. It is compiled and fitted like any Keras model, and
    `distiller.student` stays a plain Keras model.

        loss = hard_weight * compiled loss
             + sum over transfers of
                   weight * loss(teacher features, student features)
             + the student's own losses (regularizers, `add_loss`)

    In each step the teacher runs once, in inference mode and without a
    gradient, and the student runs once. The logs show each part with its
    weight applied, so that the parts add up to `loss`: `hard_loss`, one
    `<name>_loss` for each transfer, and `student_losses`.

    Where only some samples have labels, give the others the label -1 and the
    compiled loss `ignore_class=-1`. (A `sample_weight` of 0 would remove them
    from the distillation terms, too.) Metrics of labels are then right only in
    validation. Tokens and pixels with that label count in no transfer, unless
    it has `ignore_class=False`. `Transfer` describes which weights, labels and
    masks each transfer uses.

    Methods that keep values for each sample need its index in the data: give
    `y` as a dict of `"labels"` (if any) and `"sample_index"`, integers of
    shape `(batch,)`.

    Without `transfers`, a student with several outputs is distilled at each of
    them, once the distiller is compiled: by soft targets where the output's
    compiled loss is a cross-entropy or its last activation is a softmax (by
    binary soft targets for a binary cross-entropy), else by squared error, with
    a warning. Each transfer has the weight 0.9.

    Settings that can train but are likely mistakes cause one warning, at the
    first batch or epoch: labels without a loss, probabilities where logits are
    expected (or the other way round), a teacher no better than chance, a term
    too small to matter.

    A student that overrides `compute_loss` keeps it: its result is the hard
    loss, and its metrics are in the logs. It uses the loss of
    `distiller.compile`, or else of `student.compile`. If it adds the student's
    own losses, they count in the hard loss and not in `student_losses`. A
    student that overrides `train_step` raises an error, as that method would
    never be called.

    Sizes, types and keys of the inputs are read from both models where these
    fix them, as a Functional model with fixed sizes does. Otherwise (an open
    length or image size, an optional input, a subclassed model) they are read
    from the first batch of data: adapters are built and features are checked
    then, before the first step. Of a dict of inputs, each model gets the
    entries that it names. Tasks with a preprocessor, such as KerasHub's, are
    fitted on its inputs, such as texts; teacher and student each use their own.

    The teacher never changes and is never saved. A saved training state holds
    the teacher's fingerprint, and loading it with another teacher raises an
    error. The teacher's weights, statistics, `trainable` flags and random
    seeds stay as they are, and so do the states of stateful layers: a stateful
    recurrent teacher starts each batch from the same state. A teacher that
    shares trained layers with the student raises an error. Values that a layer
    keeps outside Keras' variables are not protected.

    Args:
        teacher: a built Keras model, its cached predictions
            (`keras_kd.cache.open`), or a `keras_kd.teachers.Teacher`. (None
            only until `set_teacher`.)
        student: a Keras model that takes the teacher's inputs. With inputs
            in a dict, either model may use only some of the entries.
        transfers: a `Transfer`, a loss (a transfer of the outputs, of weight
            1), or a list of them; soft targets by default (see above).
        hard_weight: weight of the compiled loss, non-negative, or a
            `LearningRateSchedule` over training steps.
        input_shape: shape of the data's inputs with the batch axis, such as
            `(None, 128)`; or a `keras.Input`, to give the type, too; or a dict
            or list of them. Needed only where the models leave sizes open and
            everything must be built before there is data, as for
            `load_weights` into a new distiller.
        chunk_size: for language models, the number of positions of each
            sequence whose logits are in memory at once; None for all. Both
            models then run without their last layer, and the hard loss, the
            transfers of logits and the metrics are computed chunk by chunk
            (see `keras_kd.losses.ChunkedLogits`). 64 to 256 are usual. The
            first epoch's checks of the outputs (are they probabilities? is the
            teacher better than chance?) are left out.
        name: the model's name.

    Raises:
        ValueError: teacher, student or transfers have the wrong type, a tap
            does not exist, or features don't fit each other (raised as soon as
            their shapes are known, at the latest at the first batch).

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
        self,
        teacher,
        student,
        transfers=None,
        *,
        hard_weight=0.1,
        input_shape=None,
        chunk_size=None,
        name=None,
    ):
        check_student(student)
        # The student's dtype policy, as it decides the loss scaling. No
        # autocast: each model casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self._by_default = transfers is None
        if self._by_default:
            transfers = defaults.one_output()
        self.student = student
        self.transfers = as_transfers(transfers)
        self._stated_inputs = stated_spec(input_shape, student)
        self.chunk_size = chunk_size
        if chunk_size is not None:
            self.chunk_size = integer(chunk_size, "chunk_size")
            check_chunks(student, self.transfers)
        self._head = None  # The student's, if `chunk_size` leaves it out.
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
        self._student_output = output_structure(student)
        self._matched = False  # Whether the features are known to fit.
        self._activations = None, None
        self._teacher_state = {}  # The saved state of a teacher not given yet.
        self._saved_in_fit = None  # The teacher's state while `fit` runs.
        self._start_checks(loss=None)
        checks.warn_of(rounded_head(student))
        if teacher is not None:
            self.set_teacher(teacher)
        self.built = True  # `meet_data` builds the rest.

    def _name_loss_parts(self):
        if hasattr(self, "_loss_parts"):
            keras_compat.untrack(self, self._loss_parts)
        self._loss_parts = LossParts(
            ["hard_loss", *self._term_names(), "student_losses"]
        )

    # --- the teacher --------------------------------------------------------

    @property
    def teacher(self):
        """The teacher as it was given; None in a distiller just loaded."""
        return self._teacher and self._teacher.wrapped

    def __dir__(self):
        # Keras saves what dir() lists, and the teacher is not to be saved.
        return [name for name in super().__dir__() if name != "teacher"]

    def set_teacher(self, teacher):
        """Sets the teacher, as of a distiller that was loaded without one.

        Args:
            teacher: as in the constructor; for a distiller that was loaded,
                the teacher that it was trained with.

        Raises:
            ValueError: it is not that teacher, or does not fit the student.
        """
        teacher = as_teacher(teacher)
        if not (self._teacher is None or self._teacher.replaceable):
            raise ValueError(
                "The teacher of a SelfDistiller is its own student. Received: "
                f"teacher={teacher.wrapped!r}. With a teacher use "
                "`keras_kd.Distiller(teacher, student, transfers)`."
            )
        teacher.check_student(self.student)
        if self._teacher_state:
            teacher.check_state(self._teacher_state)
        with checks.own_errors():
            inputs = self._known_inputs(teacher)
            self._check_taps(teacher)
            if inputs is None:
                self._check_shared_state(teacher)
            else:
                self._match_features(teacher, inputs)
        checks.warn_of(ensemble_temperatures(teacher.wrapped, self.transfers))
        self._matched = inputs is not None
        self.awaits_data = self._own_loss or not self._matched
        self._teacher_state = teacher.load_state(self._teacher_state)
        self._teacher = teacher
        if self._saved_in_fit is not None:
            self._saved_in_fit = {}
        self.supports_jit = teacher.supports_jit
        if self.compiled and not self.supports_jit:
            self.jit_compile = False
        # Steps compiled so far would keep using the earlier teacher.
        self.train_function = self.test_function = None

    def _check_taps(self, teacher):
        """Checks losses and taps without running a model."""
        check_memories(self.transfers)
        for tap in self._student_taps():
            find_layer(self.student, tap.path)
        teacher.check_taps(self._teacher_taps())

    def _known_inputs(self, teacher):
        """Both models' inputs as specs; None if only data can show them."""
        if self._stated_inputs is not None:
            return PairedInputs(self._stated_inputs, self._stated_inputs)
        student_spec = known_inputs(self.student)
        teacher_spec = teacher.input_spec()
        if student_spec is None or teacher.needs_data:
            return None
        if teacher_spec is None:
            teacher_spec = student_spec
        elif not sizes_known(teacher_spec):
            return None
        elif not has_preprocessor(self.student):
            check_same_inputs(teacher.name, teacher_spec, student_spec)
        specs = student_spec, teacher_spec
        size = batch_size_of([teacher_spec, student_spec])
        return PairedInputs(*(of_batch_size(each, size) for each in specs))

    def meet_data(self, batch):
        """Builds what depends on the data; Keras' `fit` calls it.

        Args:
            batch: the first batch, as `fit` gets it.

        Raises:
            ValueError: features don't fit each other or their loss.
        """
        inputs, labels, _, _, weight = split_batch(batch)
        inputs = PairedInputs(student_inputs(inputs), teacher_inputs(inputs))
        inputs, labels, weight = data_spec((inputs, labels, weight))
        if not self._matched:
            self._match_features(self._teacher, inputs)
        if self._own_loss and not keras_compat.knows_loss(self.student):
            # On JAX its metrics can't be created inside a step.
            size = batch_size_of(inputs.student)
            output = of_batch_size(untracked(self._student_output), size)
            output_spec(
                lambda data: self._student_loss(*data, training=False),
                (inputs.student, labels, output, weight),
            )
        self._matched, self.awaits_data = True, False

    @contextlib.contextmanager
    def ready_for(self, batch):
        """A context in which a step can run on such batches before `fit`.

        What depends on the data is built, as `fit` would build it; a later
        `fit` begins in the same way as without this context.

        Args:
            batch: the first batch, as `fit` gets it.
        """
        awaits_data = self.awaits_data
        if awaits_data:
            self.meet_data(batch)
            self.awaits_data = True  # So that `fit` still reads it first.
        with keras_compat.another_compiled_loss(self) as loss:
            if loss is not None and batch[1] is not None:
                x, y, _, _, weight = split_batch(batch)
                y, weight = data_spec((y, weight))
                size = batch_size_of(data_spec(student_inputs(x)))
                output = of_batch_size(untracked(self._student_output), size)
                output_spec(
                    lambda data: loss(*data),
                    (self._labels_for(y, output), output, weight),
                )
            yield

    def _match_features(self, teacher, inputs):
        """Builds what the features need, once both sides' shapes are known."""
        size = batch_size_of(inputs.student)
        student_spec = inputs_for("student", self.student, inputs.student)
        if not self.student.built:
            self.student(of_batch_size(student_spec, None))
        if self._by_default:
            self._choose_transfers(student_spec)
        teacher.leave_out_head(inputs.teacher, None)
        found = (
            teacher.feature_specs(self._teacher_taps(), inputs.teacher),
            *output_spec(
                lambda x: self._run_student(x, False, teacher), student_spec
            ),
        )
        of_teacher, output, of_student = any_batch(found, size)
        for transfer in self.transfers:
            check_rule_shapes(transfer, of_teacher)
            transfer.match(
                [each.shape for each in transfer.teacher_features(of_teacher)],
                [each.shape for each in transfer.student_features(of_student)],
            )
        self._student_output = output
        if self._output_inspection is None:
            outputs = len(keras.tree.flatten(output))
            self._output_inspection = OutputInspection(outputs)
        self._find_activations(teacher, inputs.teacher, student_spec)
        self._check_shared_state(teacher)
        if self.chunk_size:
            size = self.chunk_size
            self._head = find_head("student", self.student, student_spec, size)
            teacher.leave_out_head(inputs.teacher, size)

    def _choose_transfers(self, inputs):
        """Sets the default transfers of several outputs, once compiled."""
        output = output_structure(self.student)
        if output is None:
            output = output_spec(self.student, inputs)
        if len(keras.tree.flatten(output)) < 2:
            return
        chosen = []
        if self.compiled:
            chosen = defaults.several_outputs(
                self.student, output, self._loss_given
            )
        # In place, so that Keras no longer tracks the earlier ones.
        self.transfers.clear()
        self.transfers.extend(chosen)
        self._name_loss_parts()

    def _check_shared_state(self, teacher):
        claim(teacher, self.transfers, self._training_step, self.student)
        trainable = self.trainable_variables
        check_teacher_is_left(teacher, self.student, trainable)

    def _find_activations(self, teacher, teacher_spec, student_spec):
        """Finds out where outputs are probabilities instead of logits."""

        @functools.cache
        def of_teacher(text):
            return teacher.activation_at(Tap(text), teacher_spec)

        @functools.cache
        def of_student(text):
            return activation_at(self.student, Tap(text), student_spec)

        for transfer in self.transfers:
            transfer.read_logits(of_teacher, of_student)
        self._activations = of_teacher(""), of_student("")
        self._set_activations_of_metrics()

    def _set_activations_of_metrics(self):
        for metric in self._teacher_metrics.all:
            metric.set_activations(*self._activations)

    def _teacher_taps(self):
        return [tap for term in self.transfers for tap in term.all_teacher_taps]

    def _student_taps(self):
        return [tap for term in self.transfers for tap in term.student_taps]

    # --- one step -----------------------------------------------------------

    def train_step(self, *args):
        """One training step; `(data)`, on JAX `(state, data)`."""
        *state, data = args
        batch = self.complete_batch(data, state_mapping(self, *state))
        with runs.averaged_gradients(self.optimizer):
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
            data: a batch as `fit` gets it, `x`, `(x, y)` or
                `(x, y, sample_weight)`.
            state_mapping: on JAX, pairs of variables and values.
            training: False if the predictions may be missing, as they are
                where a cache does not hold the validation data.

        Returns:
            `(StudentInputs, Targets, sample_weight)`.

        Raises:
            ValueError: the distiller has no teacher.
        """
        self._need_teacher()
        batch = split_batch(runs.whole_batch(data, training), training)
        inputs = student_inputs(batch.inputs)
        batch = batch._replace(inputs=teacher_inputs(batch.inputs))
        with no_gradient():
            predictions = runs.on_own_rows(
                lambda rows: self._teacher.predictions(
                    rows, self._teacher_taps(), state_mapping, training
                ),
                batch,
            )
        targets = Targets(batch.labels, predictions, batch.sample_index)
        return StudentInputs(inputs), targets, batch.sample_weight

    def _update_teacher(self):
        with no_gradient():
            step = ops.convert_to_tensor(self._training_step)
            self._teacher.update(self.student, step)

    def _without_teacher(self, logs):
        """The logs of a batch without predictions: no terms, no total loss."""
        absent = {"loss", *self._term_names()}
        absent |= {metric.name for metric in self._teacher_metrics.all}
        return {key: logs[key] for key in logs if key not in absent}

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, StudentInputs):
            # Called by a step. Keras' own work around a call is done around
            # the student's; doing it twice would take time on PyTorch.
            return self.call(inputs, *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None):
        if isinstance(inputs, StudentInputs):
            return runs.student_pass(
                lambda rows: self._run_student(
                    rows, training, self._teacher, self._head
                ),
                inputs.inputs,
                training,
            )
        inputs = inputs_for("student", self.student, student_inputs(inputs))
        with explained("student", self.student, inputs):
            return self.student(inputs, training=training)

    def _run_student(self, inputs, training, teacher, head=None):
        own = teacher.taps_in_student(self._teacher_taps())
        taps = [*self._student_taps(), *own]
        inputs = inputs_for("student", self.student, inputs)
        with explained("student", self.student, inputs):
            run = head.run if head else run_tapped
            return Predictions(
                *run(self.student, inputs, taps, training=training)
            )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not isinstance(y, Targets):
            # Keras builds the compiled loss and metrics with plain batches.
            x, y, _, _, sample_weight = split_batch((x, y, sample_weight))
            x = student_inputs(x)
            return self._hard_loss(x, y, y_pred, sample_weight, training)
        if training:
            self._advance_schedules()
            self._inspect_outputs(y, y_pred, sample_weight)
        parts = self._parts(x, y, y_pred, sample_weight, training)
        if self._head:
            metrics = self._teacher_metrics.position_means(
                y, y_pred.output, common_weight(sample_weight)
            )
            parts = computed(parts, metrics, training)
            with no_gradient():
                labels = self._labels_for(y.labels, y_pred.output)
                update_metrics(self, labels, y_pred.output, sample_weight)
        given = [each for each in keras.tree.flatten(x) if each is not None]
        samples = ops.shape(given[0])[0]
        self._loss_parts.update_state(parts, samples)
        return sum(parts)

    def _parts(self, x, y, y_pred, sample_weight, training):
        """The hard loss, the terms, and the student's own losses."""
        return [
            self._hard_loss(
                x.inputs, y.labels, y_pred.output, sample_weight, training
            ),
            *self._terms(x, y, y_pred.features, sample_weight, training),
            runs.over_all_rows(self._student_losses(), x.inputs),
        ]

    def observe(self, data, state_mapping=None):
        """What a training step computes for a batch; for the diagnosis.

        Args:
            data: a batch as `fit` gets it.
            state_mapping: on JAX, pairs of variables and values.

        Returns:
            An `ObservedStep`.
        """
        inputs, targets, weight = self.complete_batch(data, state_mapping)
        predictions = self(inputs, training=True)
        parts = self._parts(inputs, targets, predictions, weight, True)
        if self._head:  # One by one, so that each has its own gradient.
            parts = [
                part for each in parts for part in computed([each], [], True)
            ]
        features = self._teacher.features(targets.teacher, predictions.features)
        weight = None if weight is None else common_weight(weight)
        return ObservedStep(parts, targets, predictions, features, weight)

    def _advance_schedules(self):
        step = ops.convert_to_tensor(self._training_step)
        for hyperparameter in self.hyperparameters().values():
            hyperparameter.advance(step)
        self._training_step.assign_add(1)

    def _inspect_outputs(self, targets, predictions, sample_weight):
        if not self.in_first_epoch or self._head:
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
            checks.warn_of(unused_labels())

    def _hard_loss(self, inputs, labels, output, sample_weight, training):
        weight = ops.convert_to_tensor(self.hard_weight)
        if self._own_loss:
            batch = (inputs, labels, output, sample_weight)
            return weight * self._student_loss(*batch, training)
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
        if isinstance(output, ChunkedLogits):
            term = hard_term(self._loss_given, labels, output, sample_weight)
            return term.scaled(weight)
        return weight * compiled_loss(labels, output, sample_weight)

    def _student_loss(self, inputs, labels, output, sample_weight, training):
        """What the student's own `compute_loss` returns for a batch."""
        return keras_compat.student_loss(
            self.student,
            keras_compat.compiled_loss(self),
            inputs_for("student", self.student, inputs),
            labels,
            output,
            sample_weight,
            training,
        )

    @property
    def _own_loss(self):
        return keras_compat.overrides(self.student, "compute_loss")

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
        # The student's own `compute_loss` has added those of the student.
        parts = self.transfers if self._own_loss else [self]
        losses = keras_compat.additional_losses(self, parts)
        return sum(
            (ops.cast(loss, "float32") for loss in losses), ops.zeros(())
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y, Targets):
            if y.teacher is not None and not self._head:
                self._teacher_metrics.update(
                    y, y_pred.output, common_weight(sample_weight)
                )
            y, y_pred = y.labels, y_pred.output
        else:
            _, y, _, _, sample_weight = split_batch((x, y, sample_weight))
        y = self._labels_for(y, y_pred)
        if isinstance(y_pred, ChunkedLogits):
            return self.get_metrics_result()  # `compute_loss` updated them.
        return super().compute_metrics(x, y, y_pred, sample_weight)

    # --- fit, and what is checked around it ---------------------------------

    @keras_compat.as_in_keras
    def fit(self, **arguments):
        check_joined()
        given_data = arguments.get("x")
        arguments = runs.own_arguments(self._preprocessed_run(arguments))
        data, callbacks = arguments.get("x"), arguments.get("callbacks")
        monitor = Monitor(data, arguments.get("steps_per_epoch"))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            monitor.set_model(self)
            callbacks.append(monitor)
        else:
            given = keras.tree.flatten(callbacks) if callbacks else []
            arguments["callbacks"] = [monitor, *given, runs.StopTogether()]
        checks.check_trainable(self.student)
        with self._checked_run(given_data), self._teacher_is_fixed():
            return super().fit(**with_class_weight(arguments))

    @keras_compat.as_in_keras
    def evaluate(self, **arguments):
        data = arguments.get("x")
        # `fit` has preprocessed the data that it evaluates on.
        if "_use_cached_eval_dataset" not in arguments:
            arguments = self._preprocessed(arguments)
        with self._checked_run(data, evaluation=True):
            results = super().evaluate(**runs.own_arguments(arguments))
            runs.end_epoch()
        self.check_finite()
        return results

    @keras_compat.as_in_keras
    def train_on_batch(self, **arguments):
        check_joined()
        checks.check_trainable(self.student)
        with self._checked_run():
            arguments = with_class_weight(arguments)
            results = super().train_on_batch(**arguments)
        self.check_finite()
        return results

    @keras_compat.as_in_keras
    def test_on_batch(self, **arguments):
        with self._checked_run():
            results = super().test_on_batch(**arguments)
        self.check_finite()
        return results

    @keras_compat.as_in_keras
    def predict(self, **arguments):
        return super().predict(**self._preprocessed(arguments, teacher=None))

    def _preprocessed(self, arguments, **settings):
        """Arguments of `fit` and its like, with the data preprocessed."""
        teacher = settings.pop("teacher", self.teacher)
        preprocessing = Preprocessing(self.student, teacher)
        if not preprocessing.needed:
            return arguments
        names = "x", "y", "sample_weight", "batch_size"
        data = {name: arguments.get(name) for name in names}
        rest = {key: arguments[key] for key in arguments if key not in names}
        return {**rest, "x": preprocessing.data(**data, **settings)}

    def _preprocessed_run(self, arguments):
        """Like `_preprocessed`, with the validation data, too."""
        if not Preprocessing(self.student, self.teacher).needed:
            return arguments
        arguments = with_validation_data(arguments)
        held_out = arguments.get("validation_data")
        if held_out is not None:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(held_out)
            size = arguments.get("validation_batch_size")
            held_out = dict(x=x, y=y, sample_weight=weight)
            held_out["batch_size"] = size or arguments.get("batch_size")
            arguments["validation_data"] = self._preprocessed(held_out)["x"]
        shuffle = arguments.pop("shuffle", True)
        arguments["shuffle"] = False
        return self._preprocessed(arguments, shuffle=shuffle)

    def diagnose(
        self, x, y=None, sample_weight=None, *, batch_size=None, batches=8
    ):
        """Checks a few batches before training for likely mistakes.

        Use it before the first `fit` of a new pair of models, or where a
        student is less accurate than expected. It looks for

        - a teacher that is no better than chance on the labels, or whose
          classes are in another order than the labels;
        - probabilities where logits are expected, or the other way round;
        - inputs unlike those that the teacher was trained on, as far as its
          `BatchNormalization`, `Normalization` and `Rescaling` layers show
          it, and whether it is right more often on inputs of another range;
        - a teacher whose predictions are random in inference mode, or depend
          on the other samples of the batch;
        - terms whose gradient in the student is too small to matter, or far
          larger than that of the hard loss;
        - features that are all 0, the same for all samples, or not finite;
        - a temperature that is too low or too high for this teacher;
        - kernels of the student that can't train, as after
          `quantize("int8")`;

        and measures the time that the teacher takes, and the epoch from which
        a cache of its predictions saves time. For each term it reports the
        means over the batches, at the student's present weights, of

            value    = weight * loss
            gradient = norm of d value / d (the student's trainable weights)

        Checks that don't apply are left out. Two things can't be checked: the
        inputs that a teacher without such layers was trained on, and state
        that a layer or data set keeps outside Keras' variables and the usual
        random generators.

        Nothing is trained. Weights, optimizer, metrics, random states and the
        order of the data stay as they are, and training afterwards gives the
        same results bit for bit. Only what `fit` would build with its first
        batch is built.

        Args:
            x: as in `fit`: arrays, a `tf.data.Dataset`, a `PyDataset`, a
                PyTorch `DataLoader`, or texts for a task with a preprocessor.
                Not a generator, as `fit` would miss the batches read here.
            y: labels, if `x` is arrays.
            sample_weight: weights, if `x` is arrays.
            batch_size: batch size for arrays, 32 by default; a term's gradient
                depends on it.
            batches: how many batches are read, a positive integer: random rows
                of arrays (always the same), the first batches of other data.

        Returns:
            A `keras_kd.diagnosis.Diagnosis`: `print` shows it, `findings` is a
            list, `ok` is False where something is wrong.

        Raises:
            ValueError: the distiller is not compiled or has no teacher, or
                the data can't be read in this way.

        Example:
        >>> import keras_kd as kd
        >>> teacher = keras.Sequential([keras.Input((4,))])
        >>> teacher.add(keras.layers.Dense(3))
        >>> distiller = kd.Distiller(teacher, keras.models.clone_model(teacher))
        >>> distiller.compile("adam")
        >>> report = distiller.diagnose(keras.random.normal((64, 4)))
        >>> report.of("teacher mode").severity
        'fine'
        """
        self._need_teacher()
        if not self.compiled:
            raise ValueError(
                "A distiller must be compiled before it is diagnosed, as its "
                "loss is checked, too. Received: a distiller that is not "
                "compiled. Call `distiller.compile(...)` first."
            )
        with checks.own_errors():
            return diagnose(
                Subject(
                    self,
                    self._teacher,
                    self._teacher_taps(),
                    self._loss_given,
                    self._reports_unused_labels(),
                    self._samples_return,
                ),
                (x, y, sample_weight),
                batch_size,
                batches,
            )

    # False where samples are generated, so that no cache can hold predictions.
    _samples_return = True

    def _reports_unused_labels(self):
        return self._wants_loss() and not checks.uses_labels(
            self._teacher, self.transfers, self._teacher_metrics
        )

    def _wants_loss(self):
        """Whether the hard loss has a weight, and no loss was compiled."""
        # Not from the variable, which a strategy's scope doesn't let us read.
        counts = self._hard_weight.start > 0.0 or self._hard_weight.moves
        return self._loss_given is None and counts and not self._own_loss

    @contextlib.contextmanager
    def _checked_run(self, data=None, evaluation=False):
        self._need_teacher()
        self._check_shared_state(self._teacher)
        self._teacher.check_output(self._teacher_metrics.all)
        self._set_activations_of_metrics()
        separate_buffers(
            self.trainable_variables + self.non_trainable_variables
        )
        if checks.uses_labels(
            self._teacher, self.transfers, self._teacher_metrics
        ):
            self._check_labels = False
        with (
            checks.own_errors(),
            keras_compat.usable_after_errors(self),
            runs.run(self, self._teacher, data, evaluation),
        ):
            yield

    @contextlib.contextmanager
    def _teacher_is_fixed(self):
        """Reads the teacher's weights once, however often a callback saves."""
        self._saved_in_fit = {}
        self._take_part_in_saving()
        try:
            yield
        finally:
            self._saved_in_fit = None

    def _take_part_in_saving(self):
        """Reads this process's part of a teacher sharded over processes."""
        if self._teacher is not None and self._teacher.sharded:
            self._saved_of_teacher()

    def _saved_of_teacher(self):
        if self._teacher is None:
            return self._teacher_state
        if self._saved_in_fit is None or self._teacher.follows_student:
            return self._teacher.state()
        self._saved_in_fit = self._saved_in_fit or self._teacher.state()
        return self._saved_in_fit

    def _need_teacher(self):
        if self._teacher is None:
            raise ValueError(
                f"The distiller {self.name!r} has no teacher: it was loaded, "
                "and teachers are not saved. Received: a call that needs the "
                "teacher. Give it the one that it was trained with: "
                "`distiller.set_teacher(teacher)`."
            )

    def check_finite(self):
        """Raises a `ValueError` if a transfer couldn't use a batch."""
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
        """Lets each warning be given once more, after a `compile`."""
        self._loss_given = loss
        self.check_probabilities = self.in_first_epoch = True
        self._check_labels = self._wants_loss()
        if self._output_inspection is not None:
            self._output_inspection.reset()

    def reset_inspections(self):
        """Sets the counts of the steps to 0; for the monitor of `fit`."""
        parts = [transfer.inspection for transfer in self.transfers]
        for part in [*parts, self._output_inspection]:
            part.reset()

    def end_first_batch(self):
        """Warns of mistakes seen in the first batch; for `Monitor`."""
        if self.check_probabilities:
            self.check_probabilities = False
            for transfer in self.transfers:
                _, *mistaken = transfer.inspection.read()
                checks.warn_of(mistaken_features(transfer, mistaken))
            if self._hard_weight.number > 0.0 or self._hard_weight.moves:
                checks.warn_of(
                    mistaken_hard_loss(
                        self._loss_given,
                        self.student,
                        output_names(self._student_output),
                        *self._output_inspection.kinds(),
                    )
                )

    def end_first_epoch(self, logs):
        """Warns of mistakes seen in the first epoch; for `Monitor`."""
        if self.in_first_epoch:
            self.in_first_epoch = False
            if not self._teacher.follows_student:  # That starts untrained.
                counts = self._output_inspection.accuracy()
                checks.warn_of(
                    no_better_than_chance(self._teacher.name, *counts)
                )
            total = float(logs.get("loss", 0.0))
            for transfer, name in zip(self.transfers, self._term_names()):
                part = float(logs.get(name, 0.0))
                checks.warn_of(too_small(self._teacher, transfer, part, total))

    # --- what Keras needs of a model ----------------------------------------

    @property
    def hard_weight(self):
        """Weight of the compiled loss, a variable; can be set to a number."""
        return self._hard_weight.variable

    @hard_weight.setter
    def hard_weight(self, value):
        self._hard_weight.assign(value)

    @property
    def training_step(self):
        """The number of training steps so far, over all calls of `fit`."""
        return int(ops.convert_to_numpy(self._training_step))

    def hyperparameters(self):
        """The numbers that may change in training, by their key in the logs.

        Returns:
            Dict of `Hyperparameter`s: `"hard_weight"`, `"<transfer>_weight"`,
            and those of its loss and rules, such as
            `"<transfer>_temperature"`.
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
        # On JAX all variables that a step reads must be in here; otherwise the
        # teacher's weights would become constants of the compiled step.
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
        compiled = keras_compat.compiled_loss(self)
        own = keras_compat.own_metrics(self.student, compiled)
        return [
            *super().metrics,
            *self._teacher_metrics.all,
            *(own if self._own_loss else []),
        ]

    @keras_compat.as_in_keras
    def compile(self, **arguments):
        given = (arguments.get(name) for name in METRICS)
        teacher_metrics = TeacherMetrics(*given)
        if self._teacher is not None:
            self._teacher.check_output(teacher_metrics.all)
        others = teacher_metrics.others, teacher_metrics.weighted_others
        keras_compat.forget_compiled_loss(self)
        super().compile(**{**arguments, **dict(zip(METRICS, others))})
        self._teacher_metrics = teacher_metrics
        self.awaits_data = self._own_loss or not self._matched
        self._start_checks(arguments.get("loss"))
        if self._by_default and self._teacher is not None:
            self.set_teacher(self._teacher)  # The transfers depend on the loss.

    def _all_built(self):
        return all(part.built for part in [self.student, *self.transfers])

    def get_compile_config(self):
        config = super().get_compile_config()
        return config and {**config, **self._teacher_metrics.get_config()}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self._all_built():
            self.optimizer.build(self.trainable_variables)

    # --- what is saved ------------------------------------------------------

    # Arguments of the constructor that are not in the config.
    _not_saved = {"teacher": None}

    def get_config(self):
        return {
            "student": self.student,
            "transfers": list(self.transfers) or None,
            "hard_weight": self._hard_weight.config(),
            "input_shape": self._stated_inputs,
            "chunk_size": self.chunk_size,
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

    @keras_compat.as_in_keras
    def save(self, **arguments):
        # Where saving fails, as on a full disk, the earlier file remains.
        in_place = arguments.get("zipped") is False
        if is_writer():
            save_in_place_of(super().save, arguments, in_place)
        else:
            self._take_part_in_saving()

    @keras_compat.as_in_keras
    def save_weights(self, **arguments):
        in_place = arguments.get("max_shard_size") is not None
        if is_writer():
            save_in_place_of(super().save_weights, arguments, in_place)
        else:
            self._take_part_in_saving()

    def export(self, *args, **kwargs):
        if is_writer():
            super().export(*args, **kwargs)

    def save_own_variables(self, store):
        checkpoint.save(self, store, self._saved_of_teacher())

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
        self._check_loadable(filepath)
        variables = list(self.variables)
        # A teacher that doesn't follow the student is not written to.
        if self._teacher is not None and self._teacher.follows_student:
            variables += self._teacher.variables
        if self.compiled:
            variables += self.optimizer.variables
        with checkpoint.restored_on_error(variables):
            super().load_weights(filepath, skip_mismatch, **kwargs)

    def _check_loadable(self, filepath):
        parts = [self.student]
        for transfer in self.transfers:
            parts += [*transfer.adapters, *transfer.teacher_adapters]
        unbuilt = [each.name for each in parts if each and not each.built]
        if unbuilt:
            raise ValueError(
                f"The distiller {self.name!r} is not built yet, as sizes of "
                f"its inputs are open: {unbuilt} have no weights to load into. "
                f"Received: filepath={str(filepath)!r}. Give the sizes, as in "
                "`Distiller(..., input_shape=(None, 128))`, or call "
                "`evaluate` on a batch first."
            )

    # --- its description ----------------------------------------------------

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
            f"hard_loss: {self._hard_loss_text()}, "
            f"hard_weight {self._hard_weight.text}",
            *(transfer.describe() for transfer in self.transfers),
        ]

    def _hard_loss_text(self):
        if self._own_loss and self._loss_given is None:
            return f"{type(self.student).__name__}.compute_loss"
        return loss_text(self._loss_given)
