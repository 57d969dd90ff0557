"""A round of data-free distillation, for `step_time.py --generator`.

`DataFreeDistiller`, and the same round written by hand for each backend, on the
models of DAFL's experiment on MNIST.
"""

import math

import keras
from keras import layers
from keras import ops

import keras_kd as kd

BACKEND = keras.backend.backend()
SEED = 7


class GeneratorRound:
    """LeNet-5, one of half its width, and a generator of 28 x 28 pixels."""

    cases = {"DAFL": "dafl", "DFAD": "dfad"}
    # Steps of the student in a round; the generator has one.
    student_steps = {"dafl": 1, "dfad": 5}
    widths = {"teacher": (6, 16, 120, 84), "student": (3, 8, 60, 42)}
    latent_size, generator_width = 100, 16
    compared = "generator_loss", "loss"

    def __init__(self, compile_settings):
        self.compile_settings = compile_settings

    @property
    def ways(self):
        kind = type(self)
        return {"by hand": kind.by_hand, "keras_kd": kind.keras_kd_fit}

    def data(self, samples):
        """There is none; how many samples the rounds are to have."""
        return samples

    def models(self, with_features=False):
        """Teacher, student and generator."""
        keras.utils.set_random_seed(0)
        generator = kd.data_free.image_generator(
            (28, 28, 1),
            statistics=(0.0, 1.0),
            latent_size=self.latent_size,
            width=self.generator_width,
        )
        teacher = self._network("teacher", with_features)
        return teacher, self._network("student"), generator

    def _network(self, name, with_features=False):
        first, second, third, fourth = self.widths[name]
        inputs = keras.Input((28, 28, 1))
        x = layers.Conv2D(first, 5, padding="same", activation="relu")(inputs)
        x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(second, 5, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Dense(third, activation="relu")(layers.Flatten()(x))
        feature = layers.Dense(fourth, activation="relu")(x)
        logits = layers.Dense(10)(feature)
        outputs = [logits, feature] if with_features else logits
        return keras.Model(inputs, outputs, name=name)

    def keras_kd_fit(self, samples, batch, method):
        make = getattr(kd.data_free, method)
        distiller = make(*self.models(), seed=SEED)
        distiller.compile(
            keras.optimizers.Adam(),
            generator_optimizer=keras.optimizers.Adam(),
            **self.compile_settings,
        )
        rounds = samples // batch
        return lambda: distiller.fit(
            steps_per_epoch=rounds, batch_size=batch, verbose=0
        )

    def by_hand(self, samples, batch, method):
        # One pass of the teacher gives logits and features.
        teacher, student, generator = self.models(method == "dafl")
        make = {
            "jax": JaxRound,
            "tensorflow": TensorflowRound,
            "torch": TorchRound,
        }[BACKEND]
        losses = {"dafl": DAFL, "dfad": DFAD}[method]
        seeds = keras.random.SeedGenerator(SEED)

        def draw():
            return keras.random.normal((batch, self.latent_size), seed=seeds)

        take_round = make(
            (teacher, student, generator),
            losses,
            self.student_steps[method],
            draw,
            seeds,
            self.compile_settings["jit_compile"],
        )

        def train():
            """All rounds; the first's losses, of generator and student."""
            found = [take_round() for _ in range(samples // batch)]
            first, last = (
                [float(ops.stop_gradient(value)) for value in each]
                for each in (found[0], found[-1])
            )  # of the last one, to wait for it
            return first

        return train


# --- the losses of the methods ------------------------------------------------


class DAFL:
    needs_student = False

    @staticmethod
    def of_generator(teacher, student):
        logits, features = teacher
        log_p = ops.log_softmax(logits)
        p = ops.mean(ops.softmax(logits), axis=0)
        certainty = -ops.mean(ops.max(log_p, axis=-1))
        balance = ops.sum(p * ops.log(p)) * 5.0 / math.log(10.0)
        return certainty + balance - 0.1 * ops.mean(ops.abs(features))

    @staticmethod
    def of_student(teacher, student):
        p, q = ops.log_softmax(teacher[0]), ops.log_softmax(student)
        return ops.mean(ops.sum(ops.exp(p) * (p - q), axis=-1))


class DFAD:
    needs_student = True

    @staticmethod
    def of_generator(teacher, student):
        return -ops.mean(ops.abs(teacher - student))

    @staticmethod
    def of_student(teacher, student):
        return ops.mean(ops.abs(teacher - student))


# --- a round by hand ----------------------------------------------------------


class JaxRound:
    """Compiled, of values: its state is given in and comes back."""

    def __init__(self, models, losses, student_steps, draw, seeds, jit_compile):
        import jax

        self.teacher, self.student, self.generator = models
        self.losses, self.student_steps = losses, student_steps
        self.draw, self.seeds = draw, seeds
        self.optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
        self.taught = [v.value for v in self.teacher.trainable_variables], []
        pairs = zip((self.generator, self.student), self.optimizers)
        self.state = [
            jax.numpy.array(seeds.state.value),
            *(self._state_of(*pair) for pair in pairs),
        ]
        self.compiled = jax.jit(self._take, donate_argnums=0)

    def _state_of(self, model, optimizer):
        # Copies: the state is donated, the models keep theirs.
        optimizer.build(model.trainable_variables)
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
        return [[ops.copy(v.value) for v in group] for group in groups]

    def __call__(self):
        values, self.state = self.compiled(self.state, self.taught)
        return values

    def _take(self, state, taught):
        seed, making, learning = state
        latents, seed = self._drawn(seed)
        given = latents, learning, taught
        first, making = self._step(self._generator_loss, making, 0, *given)
        values = []
        for _ in range(self.student_steps):
            latents, seed = self._drawn(seed)
            samples, making[1] = self._made(*making[:2], latents)
            given = samples, self._seen(taught, samples)
            value, learning = self._step(
                self._student_loss, learning, 1, *given
            )
            values.append(value)
        mean = sum(values) / self.student_steps
        return (first, mean), [seed, making, learning]

    def _step(self, loss, state, which, *given):
        import jax

        trained, rest, slots = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(
            trained, rest, *given
        )
        trained, slots = self.optimizers[which].stateless_apply(
            slots, gradients, trained
        )
        return value, [trained, rest, slots]

    def _generator_loss(self, trained, rest, latents, learned, taught):
        samples, rest = self._made(trained, rest, latents)
        logits, student_logits = self._seen(taught, samples), None
        if self.losses.needs_student:
            student_logits, _ = self.student.stateless_call(
                *learned[:2], samples, training=True
            )
        return self.losses.of_generator(logits, student_logits), rest

    def _student_loss(self, trained, rest, samples, logits):
        output, rest = self.student.stateless_call(
            trained, rest, samples, training=True
        )
        return self.losses.of_student(logits, output), rest

    def _drawn(self, seed):
        with keras.StatelessScope([(self.seeds.state, seed)]) as scope:
            latents = self.draw()
        return latents, scope.get_current_value(self.seeds.state)

    def _made(self, trained, rest, latents):
        return self.generator.stateless_call(
            trained, rest, latents, training=True
        )

    def _seen(self, taught, samples):
        output, _ = self.teacher.stateless_call(
            *taught, samples, training=False
        )
        return output


class TensorflowRound:
    """A `tf.function`."""

    def __init__(self, models, losses, student_steps, draw, seeds, jit_compile):
        import tensorflow as tf

        self.teacher, self.student, self.generator = models
        self.losses, self.student_steps = losses, student_steps
        self.draw = draw
        self.optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
        for model, optimizer in zip(models[:0:-1], self.optimizers):
            optimizer.build(model.trainable_variables)
        self.compiled = tf.function(self._take, jit_compile=jit_compile)

    def __call__(self):
        return self.compiled()

    def _take(self):
        latents = self.draw()
        first = self._step(lambda: self._generator_loss(latents), 0)
        values = []
        for _ in range(self.student_steps):
            samples = self.generator(self.draw(), training=True)
            logits = self.teacher(samples, training=False)
            values.append(
                self._step(lambda: self._student_loss(samples, logits), 1)  # noqa: B023
            )
        return first, sum(values) / self.student_steps

    def _step(self, loss, which):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        variables = (self.generator, self.student)[which].trainable_variables
        gradients = tape.gradient(value, variables)
        self.optimizers[which].apply(gradients, variables)
        return value

    def _generator_loss(self, latents):
        samples = self.generator(latents, training=True)
        logits, student_logits = self.teacher(samples, training=False), None
        if self.losses.needs_student:
            student_logits = self.student(samples, training=True)
        return self.losses.of_generator(logits, student_logits)

    def _student_loss(self, samples, logits):
        output = self.student(samples, training=True)
        return self.losses.of_student(logits, output)


class TorchRound:
    """Eager, with PyTorch's optimizer."""

    def __init__(self, models, losses, student_steps, draw, seeds, jit_compile):
        import torch

        self.teacher, self.student, self.generator = models
        self.losses, self.student_steps = losses, student_steps
        self.draw = draw
        self.optimizers = [
            torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
            for model in (self.generator, self.student)
        ]

    def __call__(self):
        import torch

        samples = self.generator(self.draw(), training=True)
        logits, student_logits = self.teacher(samples, training=False), None
        if self.losses.needs_student:
            student_logits = self.student(samples, training=True)
        value = self.losses.of_generator(logits, student_logits)
        first, values = self._step(value, 0), []
        for _ in range(self.student_steps):
            with torch.no_grad():
                samples = self.generator(self.draw(), training=True)
                logits = self.teacher(samples, training=False)
            output = self.student(samples, training=True)
            values.append(self._step(self.losses.of_student(logits, output), 1))
        return first, sum(values) / self.student_steps

    def _step(self, value, which):
        import torch

        # What the loss also depends on needs no gradients.
        model = (self.generator, self.student)[which]
        parameters = [v.value for v in model.trainable_variables]
        gradients = torch.autograd.grad(value, parameters)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        self.optimizers[which].step()
        return value.detach()
