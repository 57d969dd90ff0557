"""Teachers: ensembles, functions, models of other libraries, moving averages.

Any built Keras model can be the teacher of a `Distiller` as it is. The classes
here make a teacher from several models, from a function or a model of another
library, or from the student's own past weights. `Teacher` is the base class for
kinds of your own.
"""

from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.teachers.ensemble import Ensemble
from keras_kd._src.teachers.ensemble_weights import confidence_weights
from keras_kd._src.teachers.ensemble_weights import entropy_weights
from keras_kd._src.teachers.ensemble_weights import mean_of_probabilities
from keras_kd._src.teachers.function_teacher import FunctionTeacher
from keras_kd._src.teachers.jax_function import JaxFunction
from keras_kd._src.teachers.member import Member
from keras_kd._src.teachers.moving_average import MovingAverage
from keras_kd._src.teachers.onnx_model import OnnxModel
from keras_kd._src.teachers.teacher_by_sample import TeacherBySample
from keras_kd._src.teachers.torch_module import TorchModule

__all__ = [
    "Ensemble",
    "FunctionTeacher",
    "JaxFunction",
    "Member",
    "MovingAverage",
    "OnnxModel",
    "Teacher",
    "TeacherBySample",
    "TorchModule",
    "confidence_weights",
    "entropy_weights",
    "fingerprint",
    "mean_of_probabilities",
]


def __dir__():
    return __all__
