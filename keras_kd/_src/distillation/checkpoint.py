"""What a distiller saves, and how it is resumed."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_kd._src.distillation.steps import random_states
from keras_kd._src.distillation.steps import set_random_states
from keras_kd._src.distillation.teacher_state import check_state
from keras_kd._src.distillation.teacher_state import state_of


class TrainingState:
    """The part of the `Distiller` that saves and loads.

    Saved are the student, the adapters, the optimizer, the hyperparameters
    and the seeds; of the teacher only its fingerprint, unless it moves.

    Example:
    >>> import keras_kd as kd
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> distiller = kd.Distiller(keras.models.clone_model(student), student)
    >>> sorted(distiller.get_config())
    ['hard_weight', 'name', 'student', 'transfers']
    """

    # What the constructor takes besides the config.
    _not_saved = {"teacher": None}

    @property
    def non_trainable_variables(self):
        # On JAX all that a step reads must be in here; a closure would bake
        # the teacher's weights into the compiled step as constants.
        own = super().non_trainable_variables
        if self.teacher is None:
            return own
        known = {id(variable) for variable in self.variables}
        teachers = self.teacher.variables
        return own + [v for v in teachers if id(v) not in known]

    def get_config(self):
        return {
            "student": self.student,
            "transfers": list(self.transfers),
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

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            for key in ("plain", "weighted"):
                config[f"{key}_teacher_metrics"] = [
                    keras.saving.serialize_keras_object(metric)
                    for metric in getattr(self._teacher_metrics, key)
                ]
        return config

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        for key, argument in (
            ("plain", "metrics"),
            ("weighted", "weighted_metrics"),
        ):
            teacher_metrics = config.pop(f"{key}_teacher_metrics")
            if teacher_metrics:
                config[argument] = [*(config[argument] or []), *teacher_metrics]
        self.compile(**config)
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store):
        store["training_step"] = ops.convert_to_numpy(self._training_step.value)
        for number, seed in enumerate(self._seeds()):
            store[f"seed_{number}"] = ops.convert_to_numpy(seed.value)
        for name, state in random_states().items():
            store[name] = state
        loaded = self.teacher is None
        state = self._teacher_state if loaded else state_of(self.teacher)
        for name, value in state.items():
            store[name] = value

    def load_own_variables(self, store):
        saved = {key: np.array(store[key]) for key in store.keys()}  # noqa: SIM118
        state = {
            name: value
            for name, value in saved.items()
            if name.startswith("teacher_")
        }
        if self.teacher is None:
            self._teacher_state = state
        else:
            check_state(self.teacher, state)
            self.take_state(self.teacher, state)
        self._training_step.assign(saved["training_step"])
        for number, seed in enumerate(self._seeds()):
            seed.assign(saved[f"seed_{number}"])
        set_random_states(saved)

    def _seeds(self):
        # Keras doesn't save the state of random layers; without it, a resumed
        # run would draw other dropout masks.
        weights = {id(weight) for weight in self.weights}
        return [v for v in self.variables if id(v) not in weights]

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        with self._restored_on_error():
            super().load_weights(filepath, skip_mismatch, **kwargs)

    @contextlib.contextmanager
    def _restored_on_error(self):
        """Puts the state back if loading fails half-way."""
        variables = self.trainable_variables + self.non_trainable_variables
        if self.compiled:
            variables += self.optimizer.variables
        values = [
            ops.convert_to_numpy(variable.value) for variable in variables
        ]
        try:
            yield
        except Exception:
            for variable, value in zip(variables, values):
                variable.assign(value)
            raise
