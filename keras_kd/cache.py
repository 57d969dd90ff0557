"""Caches of a teacher's predictions on disk, used in place of the teacher."""

from keras_kd._src.cache.data.augmented_views import AugmentedViews
from keras_kd._src.cache.encodings import Dense
from keras_kd._src.cache.encodings import Int8
from keras_kd._src.cache.encodings import TopK
from keras_kd._src.cache.merge import merge
from keras_kd._src.cache.plan.choices import Choice
from keras_kd._src.cache.plan.plan import Plan
from keras_kd._src.cache.plan.plan import plan
from keras_kd._src.cache.teacher_cache import TeacherCache
from keras_kd._src.cache.teacher_cache import open
from keras_kd._src.cache.verify import verify
from keras_kd._src.cache.writer import write

__all__ = [
    "AugmentedViews",
    "Choice",
    "Dense",
    "Int8",
    "Plan",
    "TeacherCache",
    "TopK",
    "merge",
    "open",
    "plan",
    "verify",
    "write",
]


def __dir__():
    return __all__
