"""Schemes: published ways to train, in one `fit` or in a chain of several.

Most functions return a list of `Transfer`s for a `Distiller` or a
`SelfDistiller`; `Chain` trains several students, one after the other.
"""

from keras_kd._src.schemes.be_your_own_teacher import be_your_own_teacher
from keras_kd._src.schemes.born_again import born_again
from keras_kd._src.schemes.causal_lm import causal_lm
from keras_kd._src.schemes.chain import Chain
from keras_kd._src.schemes.chain import Stage
from keras_kd._src.schemes.collaborative_learning import collaborative_learning
from keras_kd._src.schemes.densely_guided import densely_guided
from keras_kd._src.schemes.layer_map import layer_map
from keras_kd._src.schemes.mutual_learning import mutual_learning
from keras_kd._src.schemes.native_ensemble import native_ensemble

__all__ = [
    "Chain",
    "Stage",
    "be_your_own_teacher",
    "born_again",
    "causal_lm",
    "collaborative_learning",
    "densely_guided",
    "layer_map",
    "mutual_learning",
    "native_ensemble",
]


def __dir__():
    return __all__
