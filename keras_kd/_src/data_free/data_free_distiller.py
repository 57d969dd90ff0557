"""DataFreeDistiller: trains a student on samples that a generator makes."""

import keras
import numpy as np
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.arguments import integer
from keras_kd._src.backend import current_values
from keras_kd._src.backend import drawn_for_replica
from keras_kd._src.backend import minimize
from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import own_step
from keras_kd._src.backend import per_replica
from keras_kd._src.backend import share_of_mean
from keras_kd._src.backend import unchanged
from keras_kd._src.data_free.class_losses import class_entropy
from keras_kd._src.data_free.generator_checks import FEW
from keras_kd._src.data_free.generator_checks import GeneratorMonitor
from keras_kd._src.data_free.generator_checks import check_classes
from keras_kd._src.data_free.generator_checks import check_generator
from keras_kd._src.data_free.generator_checks import check_logits
from keras_kd._src.data_free.generator_checks import not_finite
from keras_kd._src.data_free.generator_checks import saturation
from keras_kd._src.data_free.repeated_batch import RepeatedBatch
from keras_kd._src.data_free.sample_memory import SampleMemory
from keras_kd._src.data_free.synthesis import Synthesis
from keras_kd._src.data_free.synthesis import check_differentiable
from keras_kd._src.data_free.synthesis import check_losses
from keras_kd._src.diagnosis.few_batches import unchanged_random_states
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.distribution.runs import averaged_gradients
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.metrics import LossParts
from keras_kd._src.naming import batches_text
from keras_kd._src.specs import data_spec
from keras_kd._src.specs import output_spec


@keras.saving.register_keras_serializable(package="keras_kd")
class DataFreeDistiller(Distiller):
    """Data-free (zero-shot) distillation with a generator of samples.

    For a teacher whose training data is lost or may not be used. A generator is
    trained to make samples on which the teacher is confident, or on which
    student and teacher still differ. The student is distilled on these samples.
    Each step of `fit` is a round of both:

        generator_steps times:  z ~ N(0, 1);  generator step on
                                sum of synthesis losses(generator(z))
        student_steps times:    z ~ N(0, 1);  student step on
                                sum of transfers(generator(z)), as `Distiller`

    `dafl`, `dfad`, `zskt` and `kegnet` create one with the settings of their
    papers. `fit` takes no data:

        distiller = dfad(teacher, student, generator)
        distiller.compile("adam", generator_optimizer="adam",
                          metrics=["accuracy"])
        distiller.fit(epochs=40, steps_per_epoch=50, batch_size=256,
                      validation_data=(x_test, y_test))

    Metrics that need labels are computed in validation only. The logs have
    `generator_loss` (with the generator's regularizers), its parts, and
    `class_entropy`, the entropy of the teacher's mean class probabilities over
    a batch, in nats. If it is near 0, the generator has collapsed to one class,
    and a warning says so. If a loss is not finite, `fit` raises an error and
    restores student, generator and optimizers to the beginning of the epoch. A
    choice made with `validation_data` (of settings, or of the best epoch) is
    made on real data: say so when you report the result.

    A round is compiled as one function, which takes as long to compile as all
    its steps together. In the generator's steps the student runs in training
    mode, but its moving statistics are not updated. The student's
    `BatchNormalization` layers get the statistics of synthetic samples only.

    Published results of such methods are often those of the best epoch on the
    test data, and reproductions were far lower. Report the baselines of
    `keras_kd.data_free.compare` beside yours.

    Args:
        teacher: a built Keras model with one output `(batch, classes)`.
        student: a Keras model that takes the same inputs.
        generator: a Functional or Sequential Keras model from latents
            `(batch, latent_size)` to the teacher's inputs, such as
            `image_generator`. If it has a second input, that gets one-hot
            classes.
        losses: list of synthesis losses of `keras_kd.data_free`.
        transfers: as in `Distiller`; `SoftTargets(temperature=1.0)` by
            default.
        student_steps: integer, steps of the student in each round.
        generator_steps: integer, steps of the generator in each round.
        memory_size: integer, how many earlier samples are kept against
            forgetting (PRE-DFKD, CMI): usually 10 to 100 batches; 0 for none.
        replay: integer, how many of them are added to each student batch.
        seed: integer, the seed of latents, classes and memory; a random one
            by default.
        name: the model's name.

    Raises:
        ValueError: the generator's outputs don't fit the teacher; the teacher
            is not a Keras model with one output of classes, or predicts
            probabilities without a softmax; a loss does not find a layer that
            it needs; `fit` is given data.

    Example:
    >>> import keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> distiller = DataFreeDistiller(
    ...     teacher,
    ...     student,
    ...     generator,
    ...     [kd.data_free.ClassCertainty(), kd.data_free.ClassBalance(2.0)],
    ... )
    >>> distiller.compile("adam")
    >>> history = distiller.fit(steps_per_epoch=2, batch_size=8, verbose=0)
    >>> sorted(history.history)[:3]
    ['class_balance', 'class_certainty', 'class_entropy']

    Reference: Chen et al., 2019, "Data-Free Learning of Student Networks",
    arXiv 1904.01186; Fang et al., 2019, "Data-Free Adversarial Distillation",
    arXiv 1912.11006; for the memory, Binici et al., 2022, "Robust and
    Resource-Efficient Data-Free Knowledge Distillation by Generative Pseudo
    Replay" (PRE-DFKD), arXiv 2201.03019.
    """

    def __init__(
        self,
        teacher,
        student,
        generator,
        losses,
        transfers=None,
        *,
        student_steps=5,
        generator_steps=1,
        memory_size=0,
        replay=0,
        seed=None,
        name=None,
    ):
        check_generator(generator, student)
        check_losses(losses)
        if transfers is None:
            transfers = SoftTargets(temperature=1.0)
        known = {"input_shape": generator.output_shape, "name": name}
        super().__init__(None, student, transfers, hard_weight=0.0, **known)
        self.generator = generator
        self.synthesis_losses = list(losses)
        self.student_steps = integer(student_steps, "student_steps")
        self.generator_steps = integer(generator_steps, "generator_steps")
        self._random = keras.random.SeedGenerator(seed)
        self._settings = {"memory_size": memory_size, "replay": replay}
        self._memory = _memory(generator, self._random, **self._settings)
        self._trained_with_generator = [
            layer for loss in losses for layer in loss.layers
        ]
        self.generator_optimizer = self._synthesis = None
        self._generator_parts = None
        if teacher is not None:
            self.set_teacher(teacher)

    def set_teacher(self, teacher):
        check_differentiable(as_teacher(teacher).wrapped)
        check_generator(self.generator, teacher)
        super().set_teacher(teacher)
        losses, student = self.synthesis_losses, self.student
        self._synthesis = Synthesis(teacher, losses, student)
        check_classes(self.generator, self._synthesis.classes)
        self._logits_checked = False
        if self._generator_parts is None:
            names = "generator_loss", "class_entropy", "saturation"
            self._generator_parts = LossParts(
                [*names, *self._synthesis.names], name="generator_parts"
            )

    # --- the variables of student and generator -----------------------------

    @property
    def _generator_variables(self):
        parts = [self.generator, *self._trained_with_generator]
        return [v for part in parts for v in part.trainable_variables]

    @property
    def trainable_variables(self):
        others = {id(variable) for variable in self._generator_variables}
        own = super().trainable_variables
        return [variable for variable in own if id(variable) not in others]

    @property
    def non_trainable_variables(self):
        optimizer = self.generator_optimizer
        return [
            *super().non_trainable_variables,
            *self._generator_variables,
            *(optimizer.variables if optimizer else []),
        ]

    @property
    def losses(self):
        # The student's step adds these up; the generator has its own.
        parts = [self.student, *self.transfers]
        return [loss for part in parts for loss in part.losses]

    # --- one round ----------------------------------------------------------

    def train_step(self, *args):
        """One round; `(data)`, on JAX `(state, data)`: only its size counts."""
        *state, data = args
        size = ops.shape(keras.tree.flatten(data)[0])[0]
        with (
            averaged_gradients(self.optimizer),
            averaged_gradients(self.generator_optimizer),
        ):
            return own_step(self, state, lambda: self._round(size))

    def _round(self, size):
        for _ in range(self.generator_steps):
            minimize(
                self,
                lambda: (self._generator_loss(size), None),
                self._generator_variables,
                self.generator_optimizer,
            )
        (loss,) = (each for each in self.metrics if each.name == "loss")
        for _ in range(self.student_steps):
            self._train_student(size, loss)
        parts = self._loss_parts, self._generator_parts
        return _results([loss, *parts, *self._teacher_metrics.all])

    def get_metrics_result(self):
        # No generator runs in evaluation; label metrics may not be built yet.
        left_out = {id(self._generator_parts)}
        compiled = keras_compat.compiled_metrics(self)
        if compiled is not None and not compiled.built:
            left_out.add(id(compiled))
        return _results(m for m in self.metrics if id(m) not in left_out)

    def _generator_loss(self, size):
        inputs, targets = self._draw(size)
        samples = self.generator(inputs, training=True)
        latents = keras.tree.flatten(inputs)[0]
        batch = self._synthesis.run(samples, latents, targets)
        values = self._synthesis.values(batch)
        parts = [self.generator, *self._trained_with_generator]
        own = sum(keras_compat.additional_losses(self, parts))
        total = sum(values) + per_replica(own)
        measures = class_entropy(batch.teacher_logits), saturation(samples)
        # A `LossParts` takes a replica's share of each.
        self._generator_parts.update_state(
            [
                share_of_mean(ops.stop_gradient(value))
                for value in (total, *measures, *values)
            ],
            size,
        )
        return share_of_mean(total)

    def _draw(self, size):
        """Random inputs of the generator, and target class probabilities."""
        return drawn_for_replica(self._draw_all, size)

    def _draw_all(self, size):
        latent, *others = self.generator.inputs
        seed = self._random
        latents = keras.random.normal((size, *latent.shape[1:]), seed=seed)
        if not (others or self._synthesis.needs_targets):
            return latents, None
        classes = self._synthesis.classes
        drawn = keras.random.uniform((size,), 0.0, classes, seed=seed)
        drawn = ops.minimum(ops.cast(drawn, "int32"), classes - 1)
        targets = ops.one_hot(drawn, classes)
        return [latents, targets] if others else latents, targets

    def _train_student(self, size, loss_metric):
        samples = self._student_samples(size)
        mapping = current_values(self.non_trainable_variables)
        inputs, targets, weight = self.complete_batch(samples, mapping)

        def loss():
            predictions = self(inputs, training=True)
            value = self.compute_loss(inputs, targets, predictions, weight)
            return value, (value, predictions.output)

        value, output = minimize(
            self, loss, self.trainable_variables, self.optimizer
        )
        loss_metric.update_state(per_replica(ops.stop_gradient(value)))
        with no_gradient():
            self._teacher_metrics.update(targets, output, None)

    def _inspect_outputs(self, targets, predictions, sample_weight):
        """Does nothing: without labels, these checks don't apply."""

    def _student_samples(self, size):
        with no_gradient():
            inputs, _ = self._draw(size)
            samples = self.generator(inputs, training=True)
            if self._memory is not None:
                earlier = self._memory.exchange(samples)
                samples = ops.concatenate([samples, earlier])
        return ops.stop_gradient(samples)

    # --- fit ----------------------------------------------------------------

    @keras_compat.as_in_keras
    def fit(self, **arguments):
        data = [arguments.pop(name, None) for name in ("x", "y")]
        if any(each is not None for each in data):
            raise _made_here("fit")
        self._need_teacher()
        size = _count(arguments, "batch_size", 32)
        rounds = _count(arguments, "steps_per_epoch", 1)
        self._check_replay(size)
        if not self._logits_checked:
            check_logits(
                self.teacher, self._synthesis.logits(self.generate(FEW))
            )
            self._logits_checked = True
        self._build_metrics(arguments.get("validation_data"))
        given = arguments.pop("callbacks", None)
        given = keras.tree.flatten(given) if given else []
        monitor = GeneratorMonitor(self._synthesis.classes)
        arguments["callbacks"] = [monitor, *given]
        try:
            # A round needs only the size of a batch.
            batch = np.zeros((size,), "float32")
            return super().fit(x=RepeatedBatch(batch, rounds), **arguments)
        except ValueError:
            monitor.restore()
            raise

    def train_on_batch(self, *args, **kwargs):
        """Raises a `ValueError`, as samples are only made in `fit`."""
        raise _made_here("train_on_batch")

    def diagnose(self, *data, batch_size=32, batches=8, **more):
        """Runs the checks of `Distiller.diagnose` on generated samples.

        Checks of labels and caches are left out, as there are none.

        Args:
            *data: must be empty.
            batch_size: as in `fit`.
            batches: integer, how many batches are generated.
            **more: must be empty.

        Returns:
            A `keras_kd.diagnosis.Diagnosis`.

        Raises:
            ValueError: data is given.
        """
        if data or more:
            raise _made_here("diagnose")
        self._need_teacher()
        batches = integer(batches, "batches")
        batch_size = integer(batch_size, "batch_size")
        with unchanged_random_states():
            samples = self.generate(batches * batch_size)
        sizes = {"batch_size": batch_size, "batches": batches}
        return super().diagnose(samples, **sizes)

    _samples_return = False

    def check_finite(self):
        # The teacher was finite before training, so the samples are not.
        for transfer in self.transfers:
            batches, *_ = transfer.inspection.read()
            if batches:
                self.reset_inspections()
                seen = f"NaN or infinity in {batches_text(batches)}"
                raise not_finite(self, seen)

    def _check_replay(self, size):
        replay = self._settings["replay"]
        if replay > size:
            raise ValueError(
                "A step writes as many samples to the memory as it draws. "
                f"Received: replay={replay}, batch_size={size}. Give a "
                "`replay` of at most the batch size."
            )

    def _build_metrics(self, held_out):
        """Builds the metrics of labels, so that JAX compiles a round once."""
        arrays = isinstance(held_out, tuple) and len(held_out) > 1
        if arrays and hasattr(held_out[1], "shape"):
            x, y = data_spec(tuple(np.asarray(a[:1]) for a in held_out[:2]))
            output = output_spec(self.student, x)
            output_spec(
                lambda args: self.compute_metrics(*args), (x, y, output)
            )

    def _preprocessed_run(self, arguments):
        return arguments  # Generated samples need no preprocessing.

    def generate(self, count, *, seed=0):
        """Samples of the current generator, made in training mode.

        Args:
            count: integer, how many samples; they are made in one batch.
            seed: integer, the seed of latents and classes.

        Returns:
            NumPy array of shape `(count, ...)`.
        """
        random = np.random.default_rng(seed)
        latent, *others = self.generator.inputs
        shape = (integer(count, "count"), *latent.shape[1:])
        inputs = random.standard_normal(shape).astype("float32")
        if others:
            classes = others[0].shape[-1]
            drawn = random.integers(0, classes, count)
            inputs = [inputs, np.eye(classes, dtype="float32")[drawn]]
        with no_gradient(), unchanged(self.generator):
            samples = self.generator(inputs, training=True)
        return ops.convert_to_numpy(samples)

    # --- compiling and saving -----------------------------------------------

    def compile(
        self,
        optimizer="adam",
        loss=None,
        *,
        generator_optimizer="adam",
        **arguments,
    ):
        """Sets both optimizers, and metrics.

        Args:
            optimizer: the student's optimizer.
            loss: must be None, as generated samples have no labels.
            generator_optimizer: the generator's optimizer.
            **arguments: as in `keras.Model.compile`; `metrics` that need
                labels are computed in validation.

        Raises:
            ValueError: a loss is given, or the same optimizer for both.
        """
        if loss is not None:
            raise ValueError(
                "A DataFreeDistiller takes no loss, as the samples that it "
                f"makes have no labels. Received: loss={loss!r}. Leave it "
                "out; `metrics=['accuracy']` is computed in validation."
            )
        if generator_optimizer is optimizer and not isinstance(optimizer, str):
            raise ValueError(
                "Student and generator each need their own optimizer. "
                "Received: the "
                f"same object {optimizer!r} twice. Make two of them."
            )
        self.generator_optimizer = keras.optimizers.get(generator_optimizer)
        super().compile(optimizer=optimizer, **arguments)
        self.optimizer.build(self.trainable_variables)
        self.generator_optimizer.build(self._generator_variables)

    def get_compile_config(self):
        config = super().get_compile_config()
        optimizer = keras.saving.serialize_keras_object(
            self.generator_optimizer
        )
        return config and {**config, "generator_optimizer": optimizer}

    def get_config(self):
        config = super().get_config()
        for name in ("hard_weight", "chunk_size", "input_shape"):
            del config[name]
        return {
            **config,
            "generator": self.generator,
            "losses": list(self.synthesis_losses),
            "student_steps": self.student_steps,
            "generator_steps": self.generator_steps,
            **self._settings,
        }


def _count(arguments, name, usual):
    """Removes a positive integer from arguments; None becomes `usual`."""
    given = arguments.pop(name, None)
    return integer(usual if given is None else given, name)


def _made_here(method):
    """The error for training data that was given to a method."""
    return ValueError(
        "A DataFreeDistiller makes its own samples. Received: data in "
        f"`{method}`. Call `fit` with `steps_per_epoch` and `batch_size`; pass "
        "data to measure accuracy on as `validation_data`. To train on data, "
        "use `keras_kd.Distiller`."
    )


def _results(metrics):
    """The results of metrics as logs."""
    logs = {}
    for metric in metrics:
        value = metric.result()
        logs |= value if isinstance(value, dict) else {metric.name: value}
    return logs


def _memory(generator, seed, memory_size, replay):
    memory_size = integer(memory_size, "memory_size", least=0)
    replay = integer(replay, "replay", least=0)
    if (memory_size == 0) != (replay == 0) or replay > memory_size:
        raise ValueError(
            "A sample memory needs both `memory_size` and `replay`, the number "
            "of samples that a step draws, and `replay` must not be larger. "
            f"Received: memory_size={memory_size}, replay={replay}. Usual "
            "values are 10 to 100 batches, and half a batch."
        )
    if not memory_size:
        return None
    return SampleMemory(generator.output_shape[1:], memory_size, replay, seed)
