"""Data-free (zero-shot) distillation: the teacher is there, its data isn't."""

from keras_kd._src.data_free.batch_norm_matching import BatchNormMatching
from keras_kd._src.data_free.boundary_samples import boundary_samples
from keras_kd._src.data_free.class_losses import ClassBalance
from keras_kd._src.data_free.class_losses import ClassCertainty
from keras_kd._src.data_free.class_losses import FeatureActivation
from keras_kd._src.data_free.class_losses import TargetClasses
from keras_kd._src.data_free.compare import Comparison
from keras_kd._src.data_free.compare import ComparisonRow
from keras_kd._src.data_free.compare import compare
from keras_kd._src.data_free.data_free_distiller import DataFreeDistiller
from keras_kd._src.data_free.disagreement import Disagreement
from keras_kd._src.data_free.generators import image_generator
from keras_kd._src.data_free.image_priors import SquaredNorm
from keras_kd._src.data_free.image_priors import TotalVariation
from keras_kd._src.data_free.impressions import impressions
from keras_kd._src.data_free.inversion import invert
from keras_kd._src.data_free.latent_losses import LatentDiversity
from keras_kd._src.data_free.latent_losses import LatentReconstruction
from keras_kd._src.data_free.methods import dafl
from keras_kd._src.data_free.methods import dfad
from keras_kd._src.data_free.methods import kegnet
from keras_kd._src.data_free.methods import zskt
from keras_kd._src.data_free.noise import noise
from keras_kd._src.data_free.sample_pictures import SamplePictures
from keras_kd._src.data_free.sample_pictures import sample_sheet
from keras_kd._src.data_free.synthesis_loss import SynthesisLoss
from keras_kd._src.data_free.synthesis_loss import SyntheticBatch

__all__ = [
    "BatchNormMatching",
    "ClassBalance",
    "ClassCertainty",
    "Comparison",
    "ComparisonRow",
    "DataFreeDistiller",
    "Disagreement",
    "FeatureActivation",
    "LatentDiversity",
    "LatentReconstruction",
    "SamplePictures",
    "SquaredNorm",
    "SynthesisLoss",
    "SyntheticBatch",
    "TargetClasses",
    "TotalVariation",
    "boundary_samples",
    "compare",
    "dafl",
    "dfad",
    "image_generator",
    "impressions",
    "invert",
    "kegnet",
    "noise",
    "sample_sheet",
    "zskt",
]


def __dir__():
    return __all__
