"""Teachers: anything that answers a batch, as a Keras model."""

from keras_kd.teachers.ensemble import Ensemble as Ensemble
from keras_kd.teachers.function_teacher import (
    FunctionTeacher as FunctionTeacher,
)
from keras_kd.teachers.member import Member as Member
from keras_kd.teachers.member_weights import (
    confidence_weights as confidence_weights,
)
from keras_kd.teachers.member_weights import entropy_weights as entropy_weights
from keras_kd.teachers.member_weights import (
    mean_of_probabilities as mean_of_probabilities,
)
from keras_kd.teachers.moving_average import MovingAverage as MovingAverage
