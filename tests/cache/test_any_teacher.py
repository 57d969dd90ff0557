"""Teachers that are no Keras models, as the source of a cache."""

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

import keras_kd as kd
from keras_kd.testing import assert_close

SAMPLES = np.random.default_rng(2).normal(size=(10, 4)).astype("float32")


class Linear(kd.teachers.Teacher):
    """One matrix, and two outputs."""

    name = "linear"

    def __init__(self, seed):
        values = np.random.default_rng(seed).normal(size=(4, 3))
        self.variables = [keras.Variable(values, dtype="float32")]

    def predictions(self, batch, taps, state_mapping=None, training=True):
        with keras.StatelessScope(state_mapping=state_mapping):
            logits = ops.matmul(batch.inputs, self.variables[0])
        return self.at_output({"logits": logits, "half": logits / 2.0}, taps)


def test_its_predictions_are_written(tmp_path):
    teacher = Linear(0)
    outputs = {tap: kd.cache.Dense("float32") for tap in ("[logits]", "[half]")}
    kd.cache.write(
        teacher, SAMPLES, tmp_path, outputs=outputs, batch_size=4, verbose=0
    )
    cached = kd.cache.open(tmp_path, teacher=Linear(0))
    stored = cached.predictions_of(np.arange(10))
    logits = SAMPLES @ numpy(teacher.variables[0].value)
    assert_close(stored["[logits]"], logits)
    assert_close(stored["[half]"], logits / 2.0)
    with pytest.raises(ValueError, match="another teacher's predictions"):
        kd.cache.open(tmp_path, teacher=Linear(1))


@pytest.mark.one_backend
def test_it_is_planned_for():
    found = kd.cache.plan(
        Linear(0), SAMPLES, epochs=2, outputs="[logits]", verbose=0
    )
    sizes = {each.name: each.bytes_per_sample for each in found.choices}
    assert sizes["float16"] == 8 + 2 * 3


@pytest.mark.one_backend
def test_what_is_no_teacher_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`teacher` must be a Keras model"):
        kd.cache.write(lambda x: x, SAMPLES, tmp_path)
