"""Schemes: training in stages, with one way of saving and resuming."""

from keras_kd.schemes.born_again import born_again as born_again
from keras_kd.schemes.chain import Chain as Chain
from keras_kd.schemes.collaborative_learning import (
    collaborative_learning as collaborative_learning,
)
from keras_kd.schemes.densely_guided import densely_guided as densely_guided
from keras_kd.schemes.mutual_learning import mutual_learning as mutual_learning
from keras_kd.schemes.native_ensemble import native_ensemble as native_ensemble
from keras_kd.schemes.self_teaching import self_teaching as self_teaching
from keras_kd.schemes.stage import Stage as Stage
