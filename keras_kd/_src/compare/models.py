"""New teachers, students and optimizers for each run."""

import keras

from keras_kd._src.compare.ways import TEACHER
from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.specs import unbuilt_layers


def is_trained(teacher):
    """Whether a teacher was given, and not a function that builds one."""
    kinds = keras.layers.Layer, Teacher
    return isinstance(teacher, kinds) or hasattr(teacher, "as_teacher")


def student_of(model):
    """The model that is tested: a distiller's student, or the model."""
    return getattr(model, "student", model)


class NewModels:
    """Calls a function that builds models, each of which must be new.

    Args:
        build: the function.
        argument: its name in errors.

    Raises:
        ValueError: it returns the model of the previous call, or a value that
            is not a built model.
    """

    def __init__(self, build, argument):
        self._build, self._argument, self._last = build, argument, None

    def __call__(self):
        model = self._build()
        again = model is self._last
        if again or not isinstance(model, keras.Model):
            raise ValueError(
                f"`{self._argument}` must return a new Keras model each time. "
                f"Received: {model!r}"
                f"{', the model of the last call' if again else ''}."
                " Build the model inside the function."
            )
        unbuilt = unbuilt_layers(model)
        if unbuilt:
            raise ValueError(
                f"`{self._argument}` must return a model that has its weights, "
                f"as they are drawn with the seed. Received: {model.name!r}, "
                f"whose layers {unbuilt[:5]} have none yet. Call it on a batch "
                "inside the function."
            )
        self._last = model
        return model


class ModelMaker:
    """Makes what each run compiles and fits.

    Args:
        teacher: a trained teacher, or a function that builds one.
        build_student: function that builds a student.
    """

    def __init__(self, teacher, build_student):
        self.trained = teacher if is_trained(teacher) else None
        self.teacher = self.trained
        self._new_teacher = NewModels(teacher, "teacher")
        self._new_student = NewModels(build_student, "build_student")
        self._optimizer = None

    def any_teacher(self):
        """A teacher, trained or not, to see its outputs."""
        return self._new_teacher() if self.trained is None else self.trained

    def make(self, name, way):
        """The student of a run, and the model that is fitted to train it."""
        if name == TEACHER:
            teacher = self._new_teacher()
            return teacher, teacher
        student = self._new_student()
        model = way.make(self.teacher, student)
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"The function of the way {name!r} must return a Keras model "
                "that is compiled and fitted, such as a `Distiller`. Received: "
                f"{model!r}."
            )
        return student, model

    def settings(self, name, way):
        """The arguments of `compile`, with a new optimizer."""
        arguments = way.compile()
        if not isinstance(arguments, dict):
            raise ValueError(
                "The function `compile` must return the arguments of `compile` "
                'as a dict, such as `{"optimizer": "adam", "loss": "mse"}`. '
                f"Received: {arguments!r}, for the way {name!r}."
            )
        optimizer = arguments.get("optimizer")
        if optimizer is self._optimizer and not isinstance(
            optimizer, (str, type(None))
        ):
            raise ValueError(
                "The function `compile` must make a new optimizer each time, "
                "as a used one begins with the state of its last run. "
                f"Received: {optimizer!r} of the previous run, for the way "
                f"{name!r}. Make it inside the function."
            )
        self._optimizer = optimizer
        return arguments
