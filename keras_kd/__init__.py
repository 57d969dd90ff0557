"""Knowledge distillation for Keras 3 on TensorFlow, JAX and PyTorch."""

from keras_kd import cache as cache
from keras_kd import callbacks as callbacks
from keras_kd import layers as layers
from keras_kd import losses as losses
from keras_kd import metrics as metrics
from keras_kd import rules as rules
from keras_kd import schedules as schedules
from keras_kd import schemes as schemes
from keras_kd import students as students
from keras_kd import teachers as teachers
from keras_kd import testing as testing
from keras_kd.distiller import Distiller as Distiller
from keras_kd.self_distiller import SelfDistiller as SelfDistiller
from keras_kd.taps import Tap as Tap
from keras_kd.transfer import Transfer as Transfer

__version__ = "0.1.0"
