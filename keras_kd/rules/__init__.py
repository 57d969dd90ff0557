"""Rules: what a teacher says is filtered or mended before it is taught."""

from keras_kd.rules.audit import Audit as Audit
from keras_kd.rules.audit import Touched as Touched
from keras_kd.rules.audit import audit as audit
from keras_kd.rules.clip_tail import ClipTail as ClipTail
from keras_kd.rules.drop_unsure import DropUnsure as DropUnsure
from keras_kd.rules.drop_wrong import DropWrong as DropWrong
from keras_kd.rules.lift_true_class import LiftTrueClass as LiftTrueClass
from keras_kd.rules.probability_shift import (
    ProbabilityShift as ProbabilityShift,
)
from keras_kd.rules.rule import Lesson as Lesson
from keras_kd.rules.rule import Rule as Rule
