"""Students: models that are made of a student's and a teacher's parts."""

from keras_kd.students.with_teacher_head import (
    with_teacher_head as with_teacher_head,
)
