"""Rules: what a teacher says is filtered or mended before it is taught."""

from keras_kd.rules.audit import Audit as Audit
from keras_kd.rules.audit import Touched as Touched
from keras_kd.rules.audit import audit as audit
from keras_kd.rules.clip_tail import ClipTail as ClipTail
from keras_kd.rules.drop_at_random import DropAtRandom as DropAtRandom
from keras_kd.rules.drop_unsure import DropUnsure as DropUnsure
from keras_kd.rules.drop_unusual import DropUnusual as DropUnusual
from keras_kd.rules.drop_wrong import DropWrong as DropWrong
from keras_kd.rules.easiest_first import EasiestFirst as EasiestFirst
from keras_kd.rules.learned_temperature import (
    LearnedTemperature as LearnedTemperature,
)
from keras_kd.rules.lesson import Lesson as Lesson
from keras_kd.rules.lift_true_class import LiftTrueClass as LiftTrueClass
from keras_kd.rules.probability_shift import (
    ProbabilityShift as ProbabilityShift,
)
from keras_kd.rules.rule import Rule as Rule
from keras_kd.rules.temperature_by_entropy import (
    TemperatureByEntropy as TemperatureByEntropy,
)
from keras_kd.rules.weigh_by_agreement import (
    WeighByAgreement as WeighByAgreement,
)
from keras_kd.rules.weigh_by_difficulty import (
    WeighByDifficulty as WeighByDifficulty,
)
from keras_kd.rules.weigh_by_entropy import WeighByEntropy as WeighByEntropy
from keras_kd.rules.weigh_by_loss import WeighByLoss as WeighByLoss
