"""InputOptimizer: optimizes a batch of inputs by losses on the teacher."""

import keras
import numpy as np
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.backend import minimize
from keras_kd._src.backend import own_step
from keras_kd._src.backend import separate_buffers
from keras_kd._src.data_free.generator_checks import FEW
from keras_kd._src.data_free.generator_checks import check_logits
from keras_kd._src.data_free.input_values import checked_range
from keras_kd._src.data_free.repeated_batch import RepeatedBatch
from keras_kd._src.data_free.synthesis import Synthesis
from keras_kd._src.specs import known_inputs


class InputOptimizer(keras_compat.Model):
    """The weights of this model are a batch of inputs; `fit` trains them.

    Args:
        teacher, losses, student: as in `Synthesis`.
        batch_size: how many inputs are optimized at once.
        value_range: the smallest and the largest value they may have.
        jitter: the most pixels that images are shifted by in a step.
        learning_rate: Adam's learning rate.
    """

    def __init__(
        self,
        teacher,
        losses,
        student=None,
        *,
        batch_size,
        value_range,
        learning_rate,
        jitter=0,
    ):
        super().__init__(name="input_optimizer")
        self._synthesis = Synthesis(
            teacher, losses, student, student_training=False
        )
        _check_latents(losses)
        self.value_range = checked_range(value_range)
        self.jitter = jitter
        shape = input_shape(teacher)
        self._check_logits((FEW, *shape))
        self.samples = self.add_weight(
            shape=(batch_size, *shape),
            constraint=_Clip(*self.value_range),
            name="samples",
        )
        self.random = keras.random.SeedGenerator(0)
        self.built = True
        self.compile(keras.optimizers.Adam(learning_rate))
        self.optimizer.build([self.samples])
        self._fresh = [
            ops.convert_to_numpy(v) for v in self.optimizer.variables
        ]

    def _check_logits(self, shape):
        random = np.random.default_rng(0)
        samples = random.uniform(*self.value_range, shape).astype("float32")
        logits = self._synthesis.logits(ops.convert_to_tensor(samples))
        check_logits(self._synthesis.teacher, logits)

    @property
    def models(self):
        """The models that the samples depend on."""
        student = [self._synthesis.student] if self._synthesis.student else []
        return [self._synthesis.teacher, *student]

    @property
    def non_trainable_variables(self):
        return [
            *super().non_trainable_variables,
            *(v for model in self.models for v in model.variables),
        ]

    def settings(self, steps, seed):
        """What the samples depend on besides the targets and the models."""
        losses = [
            _without_names(keras.saving.serialize_keras_object(loss))
            for loss in self._synthesis.losses
        ]
        rate = float(ops.convert_to_numpy(self.optimizer.learning_rate))
        return losses, self.value_range, self.jitter, rate, steps, seed

    def run(self, targets, steps, seed):
        """Trains a new batch.

        Args:
            targets: the target class probabilities, `(batch, classes)`.
            steps: how many steps.
            seed: list of integers, the seed of first values and shifts.

        Returns:
            The samples, a NumPy array, and the loss of the last step.
        """
        random = np.random.default_rng(seed)
        self.samples.assign(
            random.uniform(*self.value_range, self.samples.shape)
        )
        self.random.state.assign(random.integers(0, 2**31, 2))
        for variable, value in zip(self.optimizer.variables, self._fresh):
            variable.assign(value)
        separate_buffers(
            self.trainable_variables + self.non_trainable_variables
        )
        with keras_compat.usable_after_errors(self):
            logs = self.fit(RepeatedBatch(targets, steps), verbose=0).history
        return ops.convert_to_numpy(self.samples), logs["last_loss"][-1]

    def train_step(self, *args):
        *state, data = args
        (targets,) = keras.tree.flatten(data)
        return own_step(self, state, lambda: self._take_step(targets))

    def _take_step(self, targets):
        def loss():
            samples = self._shifted(ops.convert_to_tensor(self.samples))
            batch = self._synthesis.run(samples, targets=targets)
            value = sum(self._synthesis.values(batch))
            return value, value

        value = minimize(self, loss, [self.samples], self.optimizer)
        # Not "loss", which in Keras is a mean over the epoch.
        return {"last_loss": ops.stop_gradient(value)}

    def _shifted(self, images):
        """The images, shifted cyclically by a random number of pixels."""
        if not self.jitter:
            return images
        for axis in (1, 2):
            size = images.shape[axis]
            twice = ops.concatenate([images, images], axis=axis)
            begin = keras.random.randint(
                (), -self.jitter, self.jitter + 1, seed=self.random
            )
            places = (begin + ops.arange(size, dtype="int32")) % size
            images = ops.take(twice, places, axis=axis)
        return images


def _without_names(config):
    """A config without names, as Keras numbers the names of new objects."""
    if isinstance(config, dict):
        return {
            key: _without_names(value)
            for key, value in config.items()
            if key != "name"
        }
    if isinstance(config, (list, tuple)):
        return [_without_names(each) for each in config]
    return config


class _Clip(keras.constraints.Constraint):
    """Keeps values in a range."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __call__(self, values):
        return ops.clip(values, self.low, self.high)


def input_shape(teacher):
    """The shape of a teacher's input, without the batch axis."""
    taken = keras.tree.flatten(known_inputs(teacher))
    if len(taken) != 1 or taken[0] is None:
        raise ValueError(
            "The teacher must take one input of a fixed shape, for which "
            f"samples can be made. Received: {teacher.name!r}, of several "
            "inputs or of open sizes. Wrap it: "
            "`inputs = keras.Input((32, 32, 3))`, "
            "`teacher = keras.Model(inputs, teacher(inputs))`."
        )
    return tuple(taken[0].shape[1:])


def _check_latents(losses):
    names = [loss.name for loss in losses if loss.needs_latents]
    if names:
        raise ValueError(
            "Samples that are optimized directly have no latents. Received: "
            f"losses {names}, which need latents. Leave them out, or train a "
            "generator (`DataFreeDistiller`)."
        )
