"""Ask the teacher once: its answers on disk, in the place of the teacher."""

from keras_kd.cache.dense import Dense as Dense
from keras_kd.cache.int8 import Int8 as Int8
from keras_kd.cache.merging import merge as merge
from keras_kd.cache.plan import plan as plan
from keras_kd.cache.planning.choices import Choice as Choice
from keras_kd.cache.planning.report import Plan as Plan
from keras_kd.cache.reader import open as open
from keras_kd.cache.teacher_cache import TeacherCache as TeacherCache
from keras_kd.cache.top_k import TopK as TopK
from keras_kd.cache.views import Views as Views
from keras_kd.cache.writer import write as write
