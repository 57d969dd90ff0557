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
            "jax": jax_round,
            "tensorflow": tensorflow_round,
            "torch": torch_round,
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


def jax_round(models, losses, student_steps, draw, seeds, jit_compile):
    import jax
    import jax.numpy as jnp

    teacher, student, generator = models
    optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
    taught = [v.value for v in teacher.trainable_variables], []

    def state_of(model, optimizer):
        # Copies: the state is donated, the models keep theirs.
        optimizer.build(model.trainable_variables)
        return [
            [jnp.array(v.value) for v in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                optimizer.variables,
            )
        ]

    def drawn(seed):
        with keras.StatelessScope([(seeds.state, seed)]) as scope:
            latents = draw()
        return latents, scope.get_current_value(seeds.state)

    def made(trained, rest, latents):
        return generator.stateless_call(trained, rest, latents, training=True)

    def seen(teacher_values, samples):
        return teacher.stateless_call(*teacher_values, samples, training=False)

    def generator_loss(trained, rest, latents, learned, teacher_values):
        samples, rest = made(trained, rest, latents)
        logits, student_logits = seen(teacher_values, samples)[0], None
        if losses.needs_student:
            student_logits, _ = student.stateless_call(
                *learned[:2], samples, training=True
            )
        return losses.of_generator(logits, student_logits), rest

    def student_loss(trained, rest, samples, logits):
        output, rest = student.stateless_call(
            trained, rest, samples, training=True
        )
        return losses.of_student(logits, output), rest

    def step(loss, state, optimizer, *given):
        trained, rest, slots = state
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(
            trained, rest, *given
        )
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return value, [trained, rest, slots]

    def take_round(state, teacher_values):
        seed, making, learning = state
        latents, seed = drawn(seed)
        first, making = step(
            generator_loss,
            making,
            optimizers[0],
            latents,
            learning,
            teacher_values,
        )
        values = []
        for _ in range(student_steps):
            latents, seed = drawn(seed)
            samples, making[1] = made(*making[:2], latents)
            logits, _ = seen(teacher_values, samples)
            value, learning = step(
                student_loss, learning, optimizers[1], samples, logits
            )
            values.append(value)
        return (first, sum(values) / student_steps), [seed, making, learning]

    compiled = jax.jit(take_round, donate_argnums=0)
    state = [
        jnp.array(seeds.state.value),
        state_of(generator, optimizers[0]),
        state_of(student, optimizers[1]),
    ]

    def run():
        nonlocal state
        values, state = compiled(state, taught)
        return values

    return run


def tensorflow_round(models, losses, student_steps, draw, seeds, jit_compile):
    import tensorflow as tf

    teacher, student, generator = models
    optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
    for model, optimizer in zip((generator, student), optimizers):
        optimizer.build(model.trainable_variables)

    def step(loss, model, optimizer):
        with tf.GradientTape() as tape:
            value = loss()
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    @tf.function(jit_compile=jit_compile)
    def take_round():
        latents = draw()

        def generator_loss():
            samples = generator(latents, training=True)
            logits, student_logits = teacher(samples, training=False), None
            if losses.needs_student:
                student_logits = student(samples, training=True)
            return losses.of_generator(logits, student_logits)

        first = step(generator_loss, generator, optimizers[0])
        values = []
        for _ in range(student_steps):
            samples = generator(draw(), training=True)
            logits = teacher(samples, training=False)

            def student_loss():
                output = student(samples, training=True)  # noqa: B023
                return losses.of_student(logits, output)  # noqa: B023

            values.append(step(student_loss, student, optimizers[1]))
        return first, sum(values) / student_steps

    return take_round


def torch_round(models, losses, student_steps, draw, seeds, jit_compile):
    import torch

    teacher, student, generator = models
    optimizers = [
        torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
        for model in (generator, student)
    ]

    def step(value, model, optimizer):
        # What the loss also depends on needs no gradients.
        parameters = [v.value for v in model.trainable_variables]
        gradients = torch.autograd.grad(value, parameters)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        optimizer.step()
        return value.detach()

    def take_round():
        samples = generator(draw(), training=True)
        logits, student_logits = teacher(samples, training=False), None
        if losses.needs_student:
            student_logits = student(samples, training=True)
        value = losses.of_generator(logits, student_logits)
        first, values = step(value, generator, optimizers[0]), []
        for _ in range(student_steps):
            with torch.no_grad():
                samples = generator(draw(), training=True)
                logits = teacher(samples, training=False)
            value = losses.of_student(logits, student(samples, training=True))
            values.append(step(value, student, optimizers[1]))
        return first, sum(values) / student_steps

    return take_round
