"""Half precision on either side, or on both."""

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import data
from support import functional_model
from support import weights_of

import keras_kd as kd

POLICIES = ["float32", "mixed_float16", "mixed_bfloat16"]


def model_of(policy, width, name):
    keras.config.set_dtype_policy(policy)
    model = functional_model(width, name=name)
    keras.config.set_dtype_policy("float32")
    return model


@pytest.mark.parametrize("student_policy", POLICIES)
@pytest.mark.parametrize("teacher_policy", POLICIES)
def test_any_precision_teaches_any(teacher_policy, student_policy):
    distiller = kd.Distiller(
        model_of(teacher_policy, 8, "teacher"),
        model_of(student_policy, 4, "student"),
        [
            kd.Transfer(kd.losses.SoftTargets()),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage2",
                adapter=kd.layers.FeatureAdapter(),
            ),
            kd.Transfer(
                kd.losses.AttentionTransfer(),
                teacher="stage1",
                student="stage1",
            ),
        ],
    )
    distiller.compile("sgd", cross_entropy(), metrics=["accuracy"])
    scaled = isinstance(
        distiller.optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert scaled == (student_policy == "mixed_float16")
    x, y = data()
    history = distiller.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][1] < history["loss"][0]


def test_the_whole_program_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    teacher = functional_model(8, name="teacher")
    student = functional_model(4, name="student")
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(kd.losses.SoftTargets()),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage2",
                adapter=kd.layers.FeatureAdapter(),
            ),
        ],
    )
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    before = weights_of(student)
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, weights_of(student)))


def test_large_logits_of_a_float32_teacher_survive():
    teacher = functional_model(8, name="teacher")
    head = teacher.get_layer("head")
    head.set_weights([1e6 * weight + 1e6 for weight in head.get_weights()])
    distiller = kd.Distiller(teacher, model_of("mixed_float16", 4, "student"))
    distiller.compile("sgd", loss=None)
    x, _ = data()
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    assert np.isfinite(logs["loss"])
