"""Teachers: ensembles, functions and moving averages, as Keras models.

Any built Keras model is a teacher as it is. These make one of several models,
of a function that is no Keras model, and of the student's own past; `Teacher`
is the base class for kinds of your own.
"""

from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.teachers.ensemble import Ensemble
from keras_kd._src.teachers.ensemble_weights import confidence_weights
from keras_kd._src.teachers.ensemble_weights import entropy_weights
from keras_kd._src.teachers.ensemble_weights import mean_of_probabilities
from keras_kd._src.teachers.function_teacher import FunctionTeacher
from keras_kd._src.teachers.member import Member
from keras_kd._src.teachers.moving_average import MovingAverage

__all__ = [
    "Ensemble",
    "FunctionTeacher",
    "Member",
    "MovingAverage",
    "Teacher",
    "confidence_weights",
    "entropy_weights",
    "fingerprint",
    "mean_of_probabilities",
]


def __dir__():
    return __all__
