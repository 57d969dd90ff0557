"""Rules: target filtering and refinement.

Not all of a teacher's predictions are good targets. A rule of a `Transfer`
drops or re-weights samples (target filtering), or changes logits and
temperatures (refinement). The field also calls this knowledge purification:
removing from the transferred knowledge what would mislead the student.
"""

from keras_kd._src.rules.audit import Audit
from keras_kd._src.rules.audit import Touched
from keras_kd._src.rules.audit import audit
from keras_kd._src.rules.clip_tail import ClipTail
from keras_kd._src.rules.drop_at_random import DropAtRandom
from keras_kd._src.rules.drop_unsure import DropUnsure
from keras_kd._src.rules.drop_unusual import DropUnusual
from keras_kd._src.rules.drop_wrong import DropWrong
from keras_kd._src.rules.easiest_first import EasiestFirst
from keras_kd._src.rules.learned_temperature import LearnedTemperature
from keras_kd._src.rules.lift_true_class import LiftTrueClass
from keras_kd._src.rules.probability_shift import ProbabilityShift
from keras_kd._src.rules.rule import Rule
from keras_kd._src.rules.rule_inputs import RuleInputs
from keras_kd._src.rules.rule_inputs import apply_rules
from keras_kd._src.rules.temperature_by_entropy import TemperatureByEntropy
from keras_kd._src.rules.weigh_by_agreement import WeighByAgreement
from keras_kd._src.rules.weigh_by_difficulty import WeighByDifficulty
from keras_kd._src.rules.weigh_by_entropy import WeighByEntropy
from keras_kd._src.rules.weigh_by_loss import WeighByLoss

__all__ = [
    "Audit",
    "ClipTail",
    "DropAtRandom",
    "DropUnsure",
    "DropUnusual",
    "DropWrong",
    "EasiestFirst",
    "LearnedTemperature",
    "LiftTrueClass",
    "ProbabilityShift",
    "Rule",
    "RuleInputs",
    "TemperatureByEntropy",
    "Touched",
    "WeighByAgreement",
    "WeighByDifficulty",
    "WeighByEntropy",
    "WeighByLoss",
    "apply_rules",
    "audit",
]


def __dir__():
    return __all__
