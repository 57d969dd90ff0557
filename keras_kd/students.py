"""Students made from a teacher or from several models.

Any Keras model can be the student of a `Distiller`. The functions here make a
smaller one from the teacher, or join models for self-distillation.
"""

from keras_kd._src.students.exits import Exits
from keras_kd._src.students.gated_branches import gated_branches
from keras_kd._src.students.peers import peers
from keras_kd._src.students.shrink import shrink
from keras_kd._src.students.with_teacher_head import with_teacher_head

__all__ = [
    "Exits",
    "gated_branches",
    "peers",
    "shrink",
    "with_teacher_head",
]


def __dir__():
    return __all__
