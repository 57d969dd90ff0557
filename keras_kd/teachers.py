"""Teachers: anything that answers a batch, as a Keras model."""

from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.teachers.ensemble import Ensemble
from keras_kd._src.teachers.function_teacher import FunctionTeacher
from keras_kd._src.teachers.member import Member
from keras_kd._src.teachers.member_weights import confidence_weights
from keras_kd._src.teachers.member_weights import entropy_weights
from keras_kd._src.teachers.member_weights import mean_of_probabilities
from keras_kd._src.teachers.moving_average import MovingAverage

__all__ = [
    "Ensemble",
    "FunctionTeacher",
    "Member",
    "MovingAverage",
    "Teacher",
    "confidence_weights",
    "entropy_weights",
    "mean_of_probabilities",
]


def __dir__():
    return __all__
