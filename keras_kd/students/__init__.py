"""Students: models that are made of a student's and a teacher's parts."""

from keras_kd.students.exits import Exits as Exits
from keras_kd.students.gated_branches import gated_branches as gated_branches
from keras_kd.students.peers import peers as peers
from keras_kd.students.shrink import shrink as shrink
from keras_kd.students.with_teacher_head import (
    with_teacher_head as with_teacher_head,
)
