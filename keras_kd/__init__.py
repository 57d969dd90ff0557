"""Knowledge distillation for Keras 3 on TensorFlow, JAX and PyTorch.

A `Distiller` is a Keras model that trains a student on a teacher's outputs and
on labels. Each of its distillation terms is a `Transfer`: a loss of
`keras_kd.losses` between a layer of the teacher and one of the student.
"""

# First, as it explains the error if Keras finds no backend.
from keras_kd._src import keras_import as keras_import

# isort: split
from keras_kd import cache
from keras_kd import callbacks
from keras_kd import data_free
from keras_kd import diagnosis
from keras_kd import distribution
from keras_kd import layers
from keras_kd import losses
from keras_kd import metrics
from keras_kd import quantization
from keras_kd import rules
from keras_kd import schedules
from keras_kd import schemes
from keras_kd import students
from keras_kd import teachers
from keras_kd import testing
from keras_kd import text
from keras_kd._src.compare.compare import compare
from keras_kd._src.compare.report import ComparisonReport
from keras_kd._src.compare.ways import Way
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.layer_paths import find_layer
from keras_kd._src.distillation.self_distiller import SelfDistiller
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.distillation.taps import extract_features
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.export.export import export
from keras_kd._src.export.report import ExportReport

__all__ = [
    "ComparisonReport",
    "Distiller",
    "ExportReport",
    "SelfDistiller",
    "Tap",
    "Transfer",
    "Way",
    "cache",
    "callbacks",
    "compare",
    "data_free",
    "diagnosis",
    "distribution",
    "export",
    "extract_features",
    "find_layer",
    "layers",
    "losses",
    "metrics",
    "quantization",
    "rules",
    "schedules",
    "schemes",
    "students",
    "teachers",
    "testing",
    "text",
]
__version__ = "0.1.0"


def __dir__():
    return __all__
