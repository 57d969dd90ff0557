"""Schemes: training in stages, with one way of saving and resuming."""

from keras_kd._src.schemes.born_again import born_again
from keras_kd._src.schemes.chain import Chain
from keras_kd._src.schemes.collaborative_learning import collaborative_learning
from keras_kd._src.schemes.densely_guided import densely_guided
from keras_kd._src.schemes.mutual_learning import mutual_learning
from keras_kd._src.schemes.native_ensemble import native_ensemble
from keras_kd._src.schemes.self_teaching import self_teaching
from keras_kd._src.schemes.stage import Stage

__all__ = [
    "Chain",
    "Stage",
    "born_again",
    "collaborative_learning",
    "densely_guided",
    "mutual_learning",
    "native_ensemble",
    "self_teaching",
]


def __dir__():
    return __all__
